"""Regions on the wire."""

from schemas.wire import View
from service.locale import Locale
from service.regions import Region


class RegionView(View):
    """A region that is served."""

    code: str
    name: str
    interconnected: bool


class RegionPage(View):
    """The regions that are served, in order of code."""

    items: list[RegionView]
    next_cursor: str | None
    has_more: bool


def region_view(region: Region, locale: Locale) -> RegionView:
    return RegionView(code=region.code, name=region.name(locale), interconnected=region.interconnected)
