"""The e-card over HTTP: applying, its state, its codes and their picture, and redeeming them."""

from typing import Any, Final

from handlers.endpoints import Call, Reply
from schemas.ecards import (
    EcardApplication,
    EcardCodeRequest,
    EcardCodeText,
    EcardCodeView,
    EcardView,
    RedeemedEcardView,
    ecard_code_view,
    ecard_view,
    redeemed_ecard_view,
)
from service.consents import Purpose
from service.dependants import Act
from service.ecard_images import MEDIA_TYPE, drawn
from service.ecards import PAYING, Applicant
from service.ids import HolderId

IMAGE: Final = MEDIA_TYPE


async def apply_for_ecard(call: Call[EcardApplication]) -> EcardView:
    """Apply for my e-card, raise its level, move it to another card, or give it another password; or a dependant's.

    Level 2 pays: it takes an active bank account on the card, and a session that an SMS began within ten minutes.
    """
    act = Act.PAY_WITH_ECARD if call.body.level == PAYING else Act.HOLD_ECARD
    whose = await _whose(call, call.body.on_behalf_of, act)
    guardian = call.holder_id if whose != call.holder_id else None
    applicant = Applicant(call.session, call.mark, call.locale, guardian)
    held = await call.services.ecards.apply(whose, call.body.wanted(), applicant)
    call.services.relay.wake()
    return ecard_view(held, call.locale)


async def show_ecard(call: Call[None]) -> EcardView:
    """My e-card as it is now, or a dependant's."""
    whose = await _whose(call, call.query.on_behalf_of, Act.SEE_ECARD)
    return ecard_view(await call.services.ecards.mine(whose), call.locale)


async def issue_ecard_code(call: Call[EcardCodeRequest]) -> EcardCodeView:
    """A code of my e-card to show, or of a dependant's: opaque, good for 60 seconds, redeemed once."""
    password = call.body.password
    act = Act.PAY_WITH_ECARD if password is not None else Act.SHOW_ECARD
    whose = await _whose(call, call.body.on_behalf_of, act)
    try:
        issued = await call.services.ecard_codes.issue(whose, password, asked_by=call.holder_id, locale=call.locale)
    finally:
        # A wrong try may have locked the password, and its holder is told.
        call.services.relay.wake()
    return ecard_code_view(issued)


async def draw_ecard_code(call: Call[EcardCodeText]) -> Reply:
    """A live code that I asked for, as a QR code in SVG."""
    await call.services.ecard_codes.require_live(call.holder_id, call.body.code)
    return Reply(drawn(call.body.code), media_type=IMAGE)


async def redeem_ecard_code(call: Call[EcardCodeText]) -> RedeemedEcardView:
    """Redeem the code of an e-card that somebody shows, at an institution that is designated for it. Once."""
    redeemed = await call.services.ecard_codes.redeem(call.operator, call.body.code)
    call.request.outcome = "redeemed"
    return redeemed_ecard_view(redeemed)


async def _whose(call: Call[Any], dependant_id: str | None, act: Act) -> HolderId:
    """Whose e-card is meant: the caller's, or that of a dependant, which is written down first and takes a consent."""
    if dependant_id is None:
        return call.holder_id
    whose = await call.services.dependants.acting_for(call.holder_id, dependant_id, act, call.now)
    await call.services.consents.require(call.holder_id, Purpose.DEPENDANT_ECARD, call.now)
    return whose
