"""Contacts: the email address that a person has confirmed, what they decline, and the language they chose.

True here: an address is written to only after a code that was sent there came back; a guess at it is counted before it is
judged, in one conditional write, and a new code voids the old. Whoever takes an address away tells it, and the mobile. What
was decided and whom to tell of it are one write, so nobody is left in the dark by a process that dies. Never here: a code in
storage, or a way to decline what concerns somebody's security.
"""

import hmac
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from service.announcements import Announcement, OptionalKind, Topic
from service.clock import Clock
from service.errands import Errand
from service.errors import Refusal
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import HolderId, derived_id, new_id
from service.limits import EMAIL_CODES_PER_ADDRESS, EMAIL_CODES_PER_HOLDER, Limits
from service.locale import Locale
from service.notifications import Notifications
from service.one_time_codes import MOST_TRIES, RESEND_AFTER, code_notice, new_code
from service.reach import UNTOLD, Reach, ReachStore
from service.vault import Vault

# A letter takes longer to be found than a text message.
EMAIL_CODE_LIFE: Final = timedelta(minutes=10)
# Marks of requests that are kept with contacts: more than anybody changes between a request and its late retry.
MOST_REQUESTS: Final = 20
# A conflict means that somebody else changed these very contacts between our read and our write.
_ROUNDS: Final = 5


@dataclass(frozen=True, slots=True)
class Pending:
    """An address that is being confirmed. `code`: a keyed code over whose it is, the address and what was sent there."""

    email: str
    code: bytes
    tries: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Contacts:
    """How somebody can be reached, and how that came about.

    `version` grows with every change and guards it; `requests`: the marks of the last requests that changed it, the newest
    last, so that a retry finds its own work also when others came in between.
    """

    holder_id: HolderId
    reach: Reach
    confirmed_at: datetime | None
    pending: Pending | None
    version: int
    requests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ContactNews:
    """Something about an address that its holder is to hear of. `instead`: the address that it took the place of."""

    news_id: str
    holder_id: HolderId
    topic: Topic
    locale: Locale
    instead: str | None


@dataclass(frozen=True, slots=True)
class WaitingNews:
    """News that nobody has carried yet, unread, so that one that cannot be read does not keep others from being listed.

    `read` opens it; it raises VaultError, or ValueError for a topic that this version does not know.
    """

    news_id: str
    read: Callable[[], ContactNews]


@dataclass(frozen=True, slots=True)
class CodeAsked:
    """What who asked for a code is told."""

    email: str
    expires_at: datetime
    resend_at: datetime


class ContactStore(ReachStore, Protocol):
    """Where contacts are kept, one document a person."""

    async def contacts(self, holder_id: HolderId) -> Contacts:
        """A person's contacts; empty ones of version 0 for who never said anything."""

    async def ask(self, holder_id: HolderId, pending: Pending) -> None:
        """Put an address to be confirmed in the place of any other that was."""

    async def count_try(self, holder_id: HolderId, most: int, now: datetime) -> Contacts | None:
        """Count a try on a code that is unexpired and under its tries; None when there is none."""

    async def change(self, before: Contacts, after: Contacts, news: ContactNews | None) -> bool:
        """The one write, if the contacts are still as they were read; whether it was done.

        Where an address was pending and is not afterwards, it must still be that one, under that code.
        """

    async def news(self, limit: int) -> list[WaitingNews]:
        """Some that nobody has carried yet. One that cannot be read is among them."""

    async def carried(self, news: ContactNews) -> None:
        """Take one off its contacts; taking it off again changes nothing."""


class ContactBook:
    """Confirming an address, taking it away, and saying what one does not want to hear of."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: ContactStore,
        holders: HolderStore,
        log: AccessLogStore,
        notifications: Notifications,
        limits: Limits,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._store = store
        self._holders = holders
        self._log = log
        self._notifications = notifications
        self._limits = limits
        self._vault = vault
        self._clock = clock

    async def mine(self, holder_id: HolderId) -> Contacts:
        """A person's contacts as they are."""
        return await self._store.contacts(holder_id)

    async def ask(self, holder_id: HolderId, email: str, locale: Locale) -> CodeAsked:
        """Send a code to an address that is to be confirmed; the one that is confirmed stays until then.

        Refuses with `rate_limited` when this person, or this address, has had too many.
        """
        for limit in EMAIL_CODES_PER_HOLDER:
            await self._limits.hit(limit, holder_id)
        for limit in EMAIL_CODES_PER_ADDRESS:
            await self._limits.hit(limit, email)
        now, code = self._clock.now(), new_code()
        expires_at = now + EMAIL_CODE_LIFE
        await self._store.ask(holder_id, Pending(email, self._code(holder_id, email, code), 0, expires_at))
        notice = code_notice(
            code,
            happening=new_id("eml"),
            template="email_code",
            to=email,
            locale=locale,
            suppressed=False,
            until=expires_at,
            life=EMAIL_CODE_LIFE,
            channel="email",
        )
        await self._notifications.post(replace(notice, whose=holder_id))
        return CodeAsked(email, expires_at, now + RESEND_AFTER)

    async def confirm(self, holder_id: HolderId, code: str, locale: Locale, *, request: bytes) -> Contacts:
        """Take the code that came back: from now on the person is written to at that address.

        `request` marks the request, so that its retry finds its own work. Refuses with `verification_failed` and `triesLeft`,
        `verification_locked`, or `verification_expired`, also when no code is out.
        """
        found = await self._store.contacts(holder_id)
        if request in found.requests:
            return found
        now = self._clock.now()
        before = await self._store.count_try(holder_id, MOST_TRIES, now)
        if before is None or before.pending is None:
            return await self._done_already(holder_id, request, now)
        pending = before.pending
        if not hmac.compare_digest(pending.code, self._code(holder_id, pending.email, code)):
            raise Refusal("verification_failed", {"triesLeft": max(0, MOST_TRIES - pending.tries)})
        await self._write_down(holder_id, "changeEmail", now, request)
        return await self._confirmed(before, pending, now, locale, request)

    async def _confirmed(self, before: Contacts, judged: Pending, now: datetime, locale: Locale, request: bytes) -> Contacts:
        """What was judged right is done, also when something else of these contacts is changed at the same time."""
        for _ in range(_ROUNDS):
            old = before.reach.email
            after = replace(before, reach=replace(before.reach, email=judged.email), confirmed_at=now, pending=None)
            topic = Topic.EMAIL_CHANGED if old else Topic.EMAIL_CONFIRMED
            news = _news(before, topic, locale) if old != judged.email else None
            changed = await self._change(before, after, news, request)
            if changed is not None:
                return changed
            before = await self._store.contacts(before.holder_id)
            if request in before.requests:
                return before
            if before.pending is None or before.pending.code != judged.code:
                # Somebody else was quicker: with the same code, or by asking for another one.
                raise Refusal("verification_expired")
        raise Refusal("unavailable", retry_after=1)

    async def _done_already(self, holder_id: HolderId, request: bytes, now: datetime) -> Contacts:
        found = await self._store.contacts(holder_id)
        if request in found.requests:
            return found
        pending = found.pending
        locked = pending is not None and pending.expires_at > now and pending.tries >= MOST_TRIES
        raise Refusal("verification_locked" if locked else "verification_expired")

    async def remove(self, holder_id: HolderId, locale: Locale, *, request: bytes) -> Contacts:
        """Take the address away, with any that is being confirmed; none is left as it is."""

        def without(contacts: Contacts) -> tuple[Contacts, ContactNews | None]:
            after = replace(contacts, reach=replace(contacts.reach, email=None), confirmed_at=None, pending=None)
            return after, _news(contacts, Topic.EMAIL_REMOVED, locale) if contacts.reach.email else None

        return await self._changed(holder_id, "removeEmail", without, request)

    async def prefer(
        self,
        holder_id: HolderId,
        sms_declined: frozenset[OptionalKind],
        email_declined: frozenset[OptionalKind],
        chosen: Locale | None,
        *,
        request: bytes,
    ) -> Contacts:
        """Decline kinds of messages on each way, and choose a language for all of them, or none."""

        def preferring(contacts: Contacts) -> tuple[Contacts, ContactNews | None]:
            return replace(contacts, reach=Reach(contacts.reach.email, sms_declined, email_declined, chosen)), None

        return await self._changed(holder_id, "changePreferences", preferring, request)

    async def _changed(
        self,
        holder_id: HolderId,
        action: str,
        make: Callable[[Contacts], tuple[Contacts, ContactNews | None]],
        request: bytes,
    ) -> Contacts:
        for _ in range(_ROUNDS):
            before = await self._store.contacts(holder_id)
            after, news = make(before)
            if request in before.requests or after == before:
                return before
            await self._write_down(holder_id, action, self._clock.now(), request)
            changed = await self._change(before, after, news, request)
            if changed is not None:
                return changed
        raise Refusal("unavailable", retry_after=1)

    async def _change(self, before: Contacts, after: Contacts, news: ContactNews | None, request: bytes) -> Contacts | None:
        """The contacts as they are then, if they still were as they had been read; the person hears of it right away."""
        changed = replace(after, version=before.version + 1, requests=(*before.requests, request)[-MOST_REQUESTS:])
        if not await self._store.change(before, changed, news):
            return None
        if news is not None:
            # Should it fail, the relay finds it.
            with suppress(Refusal):
                await self._carry(news)
        return changed

    async def undone(self, limit: int) -> Sequence[Errand]:
        """News that nobody has carried yet; each may be carried as often as need be."""
        return [Errand(news.news_id, partial(self._carry_waiting, news)) for news in await self._store.news(limit)]

    async def _carry_waiting(self, waiting: WaitingNews) -> None:
        await self._carry(waiting.read())

    async def _carry(self, news: ContactNews) -> None:
        holder = await self._holders.holder(news.holder_id)
        if holder is not None:
            told = Announcement(news.news_id, news.topic, news.locale)
            await self._notifications.tell(holder, told, instead=news.instead)
        await self._store.carried(news)

    async def _write_down(self, holder_id: HolderId, action: str, now: datetime, request: bytes) -> None:
        entry_id = derived_id("acc", request.hex(), holder_id, action)
        await self._log.record(holder_id, Access(entry_id, now, action, "self", "app", None))

    def _code(self, holder_id: HolderId, email: str, code: str) -> bytes:
        return self._vault.mac("email-code", holder_id, email, code)


def _news(before: Contacts, topic: Topic, locale: Locale) -> ContactNews:
    """What the next change of these contacts is to be told as."""
    news_id = f"{before.holder_id}:contacts:{before.version + 1}"
    return ContactNews(news_id, before.holder_id, topic, locale, before.reach.email)


def unknown(holder_id: HolderId) -> Contacts:
    """The contacts of who never said anything."""
    return Contacts(holder_id, UNTOLD, None, None, 0, ())
