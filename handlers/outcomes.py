"""Outcomes: of the few things that matter most, how often they come off, and why they do not.

True here: a route says in the table that it is counted, and only such a route pays for it; every request of it is counted
once, whatever becomes of it. Never here: a word that came from outside.
"""

from typing import Final

from handlers.answers import Response
from handlers.metrics import NO_REASON, Family, Metrics, reason_of
from handlers.wire import Answering, Request
from service.errors import Refusal

# The first answer again: nothing was done this time.
REPLAYED: Final = "replayed"


def counted(serve: Answering, metrics: Metrics, family: Family, kind: str) -> Answering:
    """The same, counted. `kind`: by what it is told apart until the handler knows better."""

    async def count(request: Request) -> Response:
        request.kind, request.outcome = kind, REPLAYED
        outcome = "internal"
        try:
            response = await serve(request)
            outcome = request.outcome
        except Refusal as refusal:
            reason = reason_of(refusal)
            outcome = refusal.code if reason == NO_REASON else reason
            raise
        except TimeoutError:
            outcome = "outcome_unknown"
            raise
        finally:
            metrics.count(family, request.kind, outcome)
        return response

    return count
