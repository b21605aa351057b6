"""Regions over HTTP: public, and the same for everybody."""

from handlers.endpoints import Call, Reply
from schemas.regions import RegionPage, region_view

_HEADERS = {"Cache-Control": "public, max-age=300", "Vary": "Accept, Accept-Language"}


async def list_regions(call: Call[None]) -> Reply:
    """The regions that are served."""
    items = [region_view(region, call.locale) for region in call.services.regions]
    return Reply(RegionPage(items=items, next_cursor=None, has_more=False), headers=_HEADERS)


async def show_region(call: Call[None]) -> Reply:
    """One region."""
    region = call.services.regions.get(call.path("region_code"))
    return Reply(region_view(region, call.locale), headers=_HEADERS)
