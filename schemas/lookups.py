"""Look-ups of people by operators, on the wire: masked, with the cards that the operator may see."""

from collections.abc import Iterable

from schemas.cards import CardView
from schemas.hotline import CallTicket
from schemas.numbers import IdNumber
from schemas.wire import Body, View
from service.holders import Holder
from service.lookups import LookUpReason
from service.masking import mask_id_number, mask_mobile, mask_name


class LookUp(Body):
    """Whom to look up and why; on the phone also in which call."""

    id_number: IdNumber
    reason: LookUpReason
    ticket: CallTicket | None = None


class LookedUpView(View):
    """A person, and the cards that this operator may see; `actions` are what this operator may do with each now."""

    name_masked: str
    id_number_masked: str
    mobile_masked: str
    cards: list[CardView]


def looked_up_view(holder: Holder, cards: Iterable[CardView]) -> LookedUpView:
    return LookedUpView(
        name_masked=mask_name(holder.name),
        id_number_masked=mask_id_number(holder.id_number),
        mobile_masked=mask_mobile(holder.mobile),
        cards=list(cards),
    )
