"""The hotline: a code that goes to a caller's registered mobile and is read back to the agent.

True here: a code is bound to the agent, the call's ticket and the person, and kept as a keyed code over all of them; a try is
counted before it is judged, in one conditional write; a new code voids the old one, whoever asked for it. Whether there is
such a person in the agent's regions is not told: for nobody, a code is made, kept, stored as a message and carried, and only
the sending is left out. A code is used up by one request, and free again when that came to nothing. Never here: a mobile or
a code in an answer, or what is done for the caller.
"""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from service.clock import Clock
from service.desks import Desk
from service.errors import Kind, Refusal
from service.limits import HOTLINE_CODES, Limits
from service.locale import DEFAULT_LOCALE
from service.notifications import Notifications
from service.one_time_codes import LIFE, MOST_TRIES, RESEND_AFTER, code_notice, new_code, pace_sms
from service.operators import Operator
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class CallCode:
    """The one code that is out for a person. `person`, `call` and `code` are keyed codes.

    `call`: over agent, ticket and person; `known`: whether there is such a person in the agent's regions, without whom it is
    never right; `used_by`: the mark of the request that used it up.
    """

    person: bytes
    call: bytes
    code: bytes
    known: bool
    tries: int
    sent_at: datetime
    expires_at: datetime
    used_by: bytes | None


@dataclass(frozen=True, slots=True)
class CodeSent:
    """What the agent is told."""

    expires_at: datetime
    resend_at: datetime


class CallCodeStore(Protocol):
    """Where codes are kept, one a person."""

    async def put(self, code: CallCode) -> None:
        """Keep a code in the place of whatever there was for the person."""

    async def code(self, person: bytes, call: bytes) -> CallCode | None:
        """The code of a call; None when none was sent in it, or another since."""

    async def count_try(self, person: bytes, call: bytes, request: bytes, most: int, now: datetime) -> CallCode | None:
        """Count a try on the code of a call that is unused, unexpired and under its tries, or was used by this request."""

    async def use(self, code: CallCode, request: bytes) -> bool:
        """Use this very code up; True for one request only, however often it comes."""

    async def give_back(self, person: bytes, call: bytes, request: bytes) -> None:
        """What this request used is unused again."""


class Hotline:
    """Sending codes to callers, and asking for them."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: CallCodeStore,
        desk: Desk,
        notifications: Notifications,
        limits: Limits,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._store = store
        self._desk = desk
        self._notifications = notifications
        self._limits = limits
        self._vault = vault
        self._clock = clock

    async def send_code(self, operator: Operator, id_number: str, ticket: str) -> CodeSent:
        """Send a code to the registered mobile of whoever has this ID number, after writing that down in their log.

        A mobile that has had too many texts, for whatever reason, gets none, and that is not told either. Refuses with
        `rate_limited` before a further one may be sent, which is counted by the ID number alone.
        """
        for limit in HOTLINE_CODES:
            await self._limits.hit(limit, id_number)
        file = await self._desk.file_of(id_number)
        await self._desk.write_down(file.holder_id, operator, action="sendCode", reason=None, ticket=ticket, request=b"")
        holder = file.holder if file.seen_by(operator.actor()) else None
        mobile = holder.mobile if holder else ""
        quiet = not await self._may_text(mobile or file.holder_id)
        now, code = self._clock.now(), new_code()
        sent = CallCode(
            person=self._person(id_number),
            call=self._call(operator, ticket, id_number),
            code=self._code(operator, ticket, id_number, code),
            known=bool(mobile),
            tries=0,
            sent_at=now,
            expires_at=now + LIFE,
            used_by=None,
        )
        await self._store.put(sent)
        notice = code_notice(
            code,
            happening=f"{sent.person.hex()}:{now.timestamp()}",
            template="hotline_code",
            to=mobile,
            # The agent's screen says nothing about the caller's language.
            locale=DEFAULT_LOCALE,
            suppressed=quiet or not mobile,
            until=sent.expires_at,
        )
        await self._notifications.post(notice)
        return CodeSent(sent.expires_at, now + RESEND_AFTER)

    async def require(self, operator: Operator, ticket: str, id_number: str, code: str, request: bytes = b"") -> None:
        """Judge the code that a caller read back, and use it up: for this request, which may come again, or for good.

        Refuses with `verification_failed` and `triesLeft`, `verification_locked`, `verification_used`, or
        `verification_expired`, also when none was sent in this call.
        """
        person, call = self._person(id_number), self._call(operator, ticket, id_number)
        found = await self._store.count_try(person, call, request, MOST_TRIES, self._clock.now())
        if found is None:
            raise Refusal(await self._why_not(person, call))
        right = hmac.compare_digest(found.code, self._code(operator, ticket, id_number, code))
        if not right or not found.known:
            raise Refusal("verification_failed", {"triesLeft": max(0, MOST_TRIES - found.tries)})
        if not await self._store.use(found, request):
            raise Refusal("verification_used")

    @asynccontextmanager
    async def read_back(
        self, operator: Operator, ticket: str, id_number: str, code: str, request: bytes
    ) -> AsyncIterator[None]:
        """As `require`, around what is done for the caller: when that is refused, the code is free for another request.

        It stays used while nobody knows whether something was done; the same request finds that out.
        """
        await self.require(operator, ticket, id_number, code, request)
        try:
            yield
        except Refusal as refusal:
            if refusal.kind is not Kind.UNAVAILABLE:
                await self._store.give_back(self._person(id_number), self._call(operator, ticket, id_number), request)
            raise

    async def _why_not(
        self, person: bytes, call: bytes
    ) -> Literal["verification_used", "verification_expired", "verification_locked"]:
        found = await self._store.code(person, call)
        if found is None or found.expires_at <= self._clock.now():
            return "verification_expired"
        return "verification_used" if found.used_by is not None else "verification_locked"

    async def _may_text(self, mobile: str) -> bool:
        try:
            await pace_sms(self._limits, mobile)
        except Refusal as refusal:
            if refusal.code != "rate_limited":
                raise
            return False
        return True

    def _person(self, id_number: str) -> bytes:
        return self._vault.mac("hotline-person", id_number)

    def _call(self, operator: Operator, ticket: str, id_number: str) -> bytes:
        return self._vault.mac("hotline-call", operator.operator_id, ticket, id_number)

    def _code(self, operator: Operator, ticket: str, id_number: str, code: str) -> bytes:
        return self._vault.mac("hotline-code", operator.operator_id, ticket, id_number, code)
