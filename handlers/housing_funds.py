"""The housing fund over HTTP."""

from handlers.endpoints import Call
from schemas.housing_funds import HousingFundView, housing_fund_view


async def show_housing_fund(call: Call[None]) -> HousingFundView:
    """My housing fund account, or that I have none."""
    return housing_fund_view(await call.services.housing_funds.of_holder(call.holder_id))
