"""Traces: which request took how long where, for those who run many services and look at one request through all of them.

True here: a span says names, codes and times of ours: the route as the table has it, a status, a collection, a template. Off,
which is the default, nothing is imported, wrapped or asked. Never here: a part of a path, a query, a header, a body, a
document, the text of an exception, or the id of a person.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final, Literal, Protocol

from service.gateways.email import Email, EmailGateway
from service.gateways.sms import Sms, SmsGateway
from service.gateways.upstream import UpstreamGateway, Whose
from service.ids import HolderId

SpanKind = Literal["server", "client"]
Words = Mapping[str, str | int]


class Span(Protocol):
    """Something under way."""

    @property
    def traceparent(self) -> str:
        """Where it stands in its trace, as a header says it (W3C Trace Context)."""

    def name(self, name: str) -> None:
        """What it is called, when that is known only now."""

    def say(self, words: Words) -> None:
        """Something about it."""

    def fail(self, what: str) -> None:
        """It came to nothing; `what` is a code or the name of a type."""

    def end(self) -> None:
        """It is over. Ending it again changes nothing."""


class Tracing(Protocol):
    """Where spans go."""

    def within(self, name: str, kind: SpanKind, traceparent: str | None = None) -> AbstractContextManager[Span]:
        """A span for the time of a block, under the one of a header, or the one that is under way, or none."""

    def beneath(self, name: str, kind: SpanKind) -> Span | None:
        """A span under the one that is under way here; None where there is none, for nobody would look for it."""

    async def close(self) -> None:
        """Send what is still there, for so long as a stop may take, and no longer."""


class TracedSms:
    """An SmsGateway around another."""

    def __init__(self, gateway: SmsGateway, tracing: Tracing) -> None:
        self._gateway = gateway
        self._tracing = tracing
        self.deduplicates = gateway.deduplicates

    async def send(self, sms: Sms) -> None:
        with self._tracing.within("send sms", "client") as span:
            span.say({"yika.template": sms.template})
            await self._gateway.send(sms)


class TracedEmail:
    """An EmailGateway around another."""

    def __init__(self, gateway: EmailGateway, tracing: Tracing) -> None:
        self._gateway = gateway
        self._tracing = tracing
        self.deduplicates = gateway.deduplicates

    async def send(self, email: Email) -> None:
        with self._tracing.within("send email", "client") as span:
            span.say({"yika.template": email.template})
            await self._gateway.send(email)


class TracedUpstream:
    """An UpstreamGateway around another."""

    def __init__(self, gateway: UpstreamGateway, tracing: Tracing) -> None:
        self._gateway = gateway
        self._tracing = tracing

    def refreshes(self, holder_id: HolderId) -> bool:
        return self._gateway.refreshes(holder_id)

    async def figures(self, whose: Whose) -> bytes:
        with self._tracing.within("ask figures", "client"):
            return await self._gateway.figures(whose)

    async def contributions(self, whose: Whose) -> bytes:
        with self._tracing.within("ask contributions", "client"):
            return await self._gateway.contributions(whose)

    async def housing_fund(self, whose: Whose) -> bytes:
        with self._tracing.within("ask housingFund", "client"):
            return await self._gateway.housing_fund(whose)


NAME: Final = "yika"
