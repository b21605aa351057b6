"""What operators do with a card, on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.cards import PinText, ServicePinView
from schemas.hotline import CallTicket
from schemas.numbers import OneTimeCode
from schemas.wire import Body, EmptyBody, View
from service.cards import Card, LockReason, MedicalStatus
from service.changes import CancelReason, LossKind
from service.policies import MATERIALS, Material
from service.staff_cards import NOBODY_THERE, Shown

Materials = Annotated[
    tuple[Material, ...],
    Field(max_length=len(MATERIALS), description="What the operator has seen, as the region's activation guide names it."),
]
Remark = Annotated[str, Field(min_length=1, max_length=200, description="In the operator's own words.")]

LossReason = Literal["mislaid", "stolen", "other"]

# Death and error are recorded by the bureau itself; whoever emigrates comes and shows who they are.
_BY_THE_HOLDER: frozenset[CancelReason] = frozenset({"emigration"})


class Presented(EmptyBody):
    """What somebody at the counter has shown."""

    materials: Materials = ()

    def shown(self) -> Shown:
        return Shown(self.materials)


class StaffLossReport(Body):
    """A card reported lost at a counter, with materials, or by phone, with the call's ticket and the code read back."""

    kind: LossKind
    reason: LossReason | None = None
    materials: Materials = ()
    ticket: CallTicket | None = None
    code: OneTimeCode | None = None

    def shown(self) -> Shown:
        return Shown(self.materials, self.ticket, self.code)


class CardLock(Body):
    """Why to lock a card. Its holder asks for it with materials; for fraud a bureau does it of its own accord."""

    reason: LockReason
    materials: Materials = ()

    def shown(self) -> Shown:
        return NOBODY_THERE if self.reason == "fraud" else Shown(self.materials)


class CardUnlock(Presented):
    """What was shown; after fraud, also why it may be unlocked."""

    reason: Remark | None = None


class CardCancel(Body):
    """Why a card ends for good. Who emigrates shows who they are; death and error are the bureau's to know."""

    reason: CancelReason
    materials: Materials = ()

    def shown(self) -> Shown:
        return Shown(self.materials) if self.reason in _BY_THE_HOLDER else NOBODY_THERE


class ActivationReversal(Body):
    """Why an activation should not have been."""

    reason: Remark


class PinCheck(Body):
    """A card, and the PIN that its holder has just typed."""

    card_id: Annotated[str, Field(max_length=64)]
    pin: Annotated[PinText, Field(repr=False)]


class PinCheckView(View):
    """The PIN is right, and what it opens."""

    valid: Literal[True]
    card_id: str
    medical_account: MedicalStatus
    service_pin: ServicePinView


def pin_check_view(card: Card, medical: MedicalStatus, max_tries: int) -> PinCheckView:
    return PinCheckView(
        valid=True,
        card_id=card.card_id,
        medical_account=medical,
        service_pin=ServicePinView(state=card.pin.state_under(max_tries), tries_left=card.pin.tries_left(max_tries)),
    )
