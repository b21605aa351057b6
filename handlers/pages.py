"""Pages over HTTP: the same for everybody in a region but for the panel, and never sent twice to who has it."""

from handlers.access import holder_session
from handlers.endpoints import Call, Reply
from handlers.etags import etag_of, is_known
from schemas.cards import balance_view
from schemas.housing_funds import HousingFundView, housing_fund_view
from schemas.pages import EcardPanelView, PanelView, ecard_panel, page_view
from service.masking import mask_card_number
from service.pages import PanelOf
from service.sessions import Session


async def show_page(call: Call[None]) -> Reply:
    """One page of the flow, with everything it takes to draw it."""
    services = call.services
    region = services.regions.get(call.query.region or services.config.default_region)
    page = services.pages.page(call.path("page_id"), call.locale, region)
    session = await holder_session(call.request, services) if page.requires == "session" else None
    panel = await _panel(call, session, page.panel_of) if session and page.has_panel else None
    shown = page.revision + (panel.model_dump_json() if panel else "")
    etag = etag_of(shown.encode())
    headers = {
        "ETag": etag,
        "Content-Language": call.locale,
        "Vary": "Accept, Accept-Language" + (", Authorization" if session else ""),
        "Cache-Control": "private, no-cache" if session else "public, no-cache",
    }
    if is_known(etag, call.request.headers.get("If-None-Match", "")):
        return Reply(b"", status=304, headers=headers)
    return Reply(page_view(page, panel), headers=headers)


async def _panel(call: Call[None], session: Session, panel_of: PanelOf) -> PanelView | EcardPanelView | HousingFundView:
    """What is somebody's own on a page."""
    call.services.queries.hit(session.holder_id, call.now)
    if panel_of == "ecard":
        ecard = ecard_panel(await call.services.ecards.of_holder(session.holder_id), call.locale)
        await call.services.looks.looked(session.holder_id, session.session_id, "seeEcard", "", call.now)
        return ecard
    if panel_of == "housingFund":
        fund = housing_fund_view(await call.services.housing_funds.of_holder(session.holder_id))
        await call.services.looks.looked(session.holder_id, session.session_id, "seeHousingFund", "", call.now)
        return fund
    panel = await _card_panel(call, session)
    await call.services.looks.looked(session.holder_id, session.session_id, "seeBalance", panel.card_id or "", call.now)
    return panel


async def _card_panel(call: Call[None], session: Session) -> PanelView:
    """The balances of the newest card: of two generations that is the one to activate."""
    services = call.services
    cards, _ = await services.cards.list_mine(session.holder_id, None, 100)
    if not cards:
        return PanelView(card_id=None, as_of=call.now, items=[], card_number_masked=None, status=None)
    newest = max(cards, key=lambda card: (card.generation, card.card_id))
    balance = await services.balances.of_card(session.holder_id, newest.card_id)
    region = services.regions.get(newest.region_code)
    old_before = call.now - region.policy.figures_old_after
    if services.figures.wanted(session.holder_id, balance, old_before):
        balance = await services.figures.brought(session.holder_id, balance)
    medical = await services.cards.medical_account(newest.holder_id, balance, region, call.now)
    view = balance_view(balance, medical, call.now, old_before)
    return PanelView(
        card_id=view.card_id,
        as_of=view.as_of,
        items=view.items,
        card_number_masked=mask_card_number(newest.number),
        status=newest.status(call.now),
    )
