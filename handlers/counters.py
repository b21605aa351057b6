"""Activation at a counter, over HTTP."""

from handlers.endpoints import Call
from schemas.activations import ActivationView, activation_view
from schemas.counters import CounterActivation


async def activate_at_counter(call: Call[CounterActivation]) -> ActivationView:
    """Activate a card for who stands at the counter or is on the phone. Doing it again says the same and changes nothing."""
    done = await call.services.counters.activate(call.operator, call.body.wanted(), call.mark, call.locale)
    call.services.relay.wake()
    call.request.outcome = done.result
    return activation_view(done, call.locale)
