"""Regions over HTTP: public, the same for everybody, and never sent twice to who has it."""

from handlers.endpoints import Call, Reply
from handlers.etags import etag_of, is_known
from schemas.regions import RegionPage, activation_guide_view, region_view, rules_view
from schemas.wire import View
from service.clock import CHINA
from service.regions import Region


async def list_regions(call: Call[None]) -> Reply:
    """The regions that are served."""
    items = [region_view(region, call.locale) for region in call.services.regions]
    return _cached(call, RegionPage(items=items, next_cursor=None, has_more=False))


async def show_region(call: Call[None]) -> Reply:
    """One region."""
    return _cached(call, region_view(_region(call), call.locale))


async def show_rules(call: Call[None]) -> Reply:
    """The rules of a region about its cards, as texts and as data."""
    return _cached(call, rules_view(_region(call), call.locale, call.now.astimezone(CHINA).date()))


async def show_activation_guide(call: Call[None]) -> Reply:
    """Where people of a category activate their card, and what they bring."""
    return _cached(call, activation_guide_view(_region(call), call.query.category, call.locale))


def _region(call: Call[None]) -> Region:
    return call.services.regions.get(call.path("region_code"))


def _cached(call: Call[None], view: View) -> Reply:
    body = view.model_dump_json().encode()
    etag = etag_of(body)
    headers = {
        "ETag": etag,
        "Content-Language": call.locale,
        "Vary": "Accept, Accept-Language",
        # Packs change with a new start of the service; five minutes late is soon enough, and spares most requests.
        "Cache-Control": "public, max-age=300",
    }
    if is_known(etag, call.request.headers.get("If-None-Match", "")):
        return Reply(b"", status=304, headers=headers)
    return Reply(body, headers=headers)
