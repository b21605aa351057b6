"""Activation on the wire."""

from typing import Literal

from schemas.numbers import CardNumberText, IdentificationCode, IdNumber
from schemas.wire import Body, Instant, OnBehalfOf, View
from service.activations import Activated, Details
from service.cards import MedicalStatus
from service.locale import Locale, text
from service.regions import Channel


class ActivationRequest(Body):
    """The three numbers that must all match, and for whom when it is for somebody one is guardian of."""

    id_number: IdNumber
    card_number: CardNumberText
    identification_code: IdentificationCode
    on_behalf_of: OnBehalfOf = None

    def details(self) -> Details:
        return Details(self.id_number, self.card_number, self.identification_code, self.on_behalf_of)


class ActivationView(View):
    """An activation. `result` says whether this request did it; the message is the same either way."""

    activation_id: str
    card_id: str
    result: Literal["activated", "alreadyActivated"]
    message: str
    activated_at: Instant
    channel: Channel
    medical_account: MedicalStatus
    receipt: str


def activation_view(done: Activated, locale: Locale) -> ActivationView:
    return ActivationView(
        activation_id=done.activation.activation_id,
        card_id=done.card.card_id,
        result=done.result,
        message=text(locale, "activation.activated"),
        activated_at=done.activation.at,
        channel=done.activation.channel,
        medical_account=done.medical,
        receipt=done.receipt,
    )
