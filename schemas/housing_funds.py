"""The housing fund on the wire.

True here: one shape whether or not there is an account, so that a client looks at `status` and at nothing else to tell. Never
here: the account's number unmasked.
"""

from typing import Literal

from schemas.contributions import MonthText
from schemas.wire import Day, Instant, View
from service.housing_funds import HousingFund
from service.last_known import Shown
from service.masking import display_fen, mask_bank_number

HousingFundState = Literal["normal", "sealed", "frozen", "merged", "transferred", "closed", "other", "none"]


class HousingFundView(View):
    """My housing fund account. All but status, time, source and `stale` are null for who has none (`none`).

    `status`: `normal`; `sealed` since nobody pays in; `frozen`; ended as `merged` with another account, `transferred` to
    another city, or `closed` when it was paid out. `monthlyDepositFen`: both parts together. `stale`: the centre did not
    confirm it just now, or it is older than the region calls fresh.
    """

    status: HousingFundState
    account_masked: str | None
    balance_fen: int | None
    display: str | None
    currency: Literal["CNY"]
    monthly_deposit_fen: int | None
    monthly_deposit_display: str | None
    paid_through: MonthText | None
    opened_on: Day | None
    as_of: Instant
    source: str
    stale: bool


def housing_fund_view(shown: Shown[HousingFund]) -> HousingFundView:
    fund = shown.record
    account = fund.account
    return HousingFundView(
        status=account.status.value if account else "none",
        account_masked=mask_bank_number(account.number) if account else None,
        balance_fen=account.balance_fen if account else None,
        display=display_fen(account.balance_fen) if account else None,
        currency="CNY",
        monthly_deposit_fen=account.monthly_deposit_fen if account else None,
        monthly_deposit_display=display_fen(account.monthly_deposit_fen) if account else None,
        paid_through=account.paid_through if account else None,
        opened_on=account.opened_on if account else None,
        as_of=fund.as_of,
        source=fund.source,
        stale=shown.stale,
    )
