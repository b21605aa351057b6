"""Activation over HTTP."""

from handlers.endpoints import Call
from schemas.activations import ActivationRequest, ActivationView, activation_view
from service.changes import Order
from service.errors import invalid
from service.numbers import NATIONAL_CARD_NUMBER, InvalidNumber, parse_card_number


async def activate(call: Call[ActivationRequest]) -> ActivationView:
    """Activate a card. Activating it again says the same and changes nothing."""
    details = call.body.details()
    _check_card_number(call, details.card_number, details.identification_code[:6])
    order = Order(call.actor, call.mark, call.locale)
    done = await call.services.activations.activate(call.session, details, order)
    call.services.relay.wake()
    call.request.outcome = done.result
    return activation_view(done, call.locale)


async def show_activation(call: Call[None]) -> ActivationView:
    """One of my activations."""
    done = await call.services.activations.activation(call.holder_id, call.path("activation_id"))
    return activation_view(done, call.locale)


def _check_card_number(call: Call[ActivationRequest], number: str, region_code: str) -> None:
    """The number must be one that its region could have given. Refuses with `invalid_request`."""
    region = call.services.regions.by_code.get(region_code)
    try:
        parse_card_number(number, region.policy.card_number if region else NATIONAL_CARD_NUMBER)
    except InvalidNumber as error:
        raise invalid("cardNumber", f"card_number_{error.code}") from None
