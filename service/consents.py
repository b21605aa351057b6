"""Consents: what a holder agreed to, and whether it counts now.

True here: a purpose is on the list only if something is refused without it; a consent is one document a holder and purpose,
under an id that follows from the two, so many at once make one; every giving and withdrawing stays in it, with moment,
channel and version of the text that was shown. It is read from the database each time it is asked about, so what was given or
withdrawn counts from the next request on, in every process. Whoever gave or withdrew is told; that this is still to be done
is written with the turn itself. Never here: a consent that somebody else gave, one that was assumed, or one to an older text.

Sources: Personal Information Protection Law of the People's Republic of China, in force since 1 November 2021: art. 13 (a
ground is needed; carrying out a duty by law is one, and needs no consent), art. 14 (given knowingly and freely; anew when
purpose, way or kinds of data change), art. 15 (withdrawn as easily, without effect on what was done before), art. 16 (nobody
is refused a service that does not need it), art. 29 (separately, for sensitive data), art. 31 (under 14: the guardian's).
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Final, Literal, Protocol

from service.announcements import Announcement, Topic
from service.clock import CHINA
from service.errands import Errand
from service.errors import Refusal
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import ConsentId, HolderId, derived_id
from service.locale import Locale, text
from service.notifications import Notifications
from service.numbers import parse_resident_id
from service.regions import Channel

ConsentState = Literal["given", "withdrawn", "outdated", "notGiven"]
_Turn = Literal["given", "withdrawn"]

# Art. 31: below this age it is not the person's to give.
OWN_CONSENT_AGE: Final = 14
# Nobody changes their mind as often; it bounds the document, for nothing is ever taken out of it.
MOST_TURNS_A_DAY: Final = 20
_DAY: Final = timedelta(days=1)
# A conflict means that somebody else turned this very consent between our read and our write.
_ROUNDS: Final = 8


class Purpose(StrEnum):
    """What somebody may agree to; each is asked about where it is needed."""

    # An operator looks somebody up who has come for nothing: service/lookups.py.
    COUNTER_LOOK_UP = "counterLookUp"
    # A guardian holds the e-card of a dependant.
    DEPENDANT_ECARD = "dependantEcard"


@dataclass(frozen=True, slots=True)
class Wording:
    """A text as it was shown: its version, and the first day at +08:00 on which it is the one to agree to.

    The words are `consents.<purpose>.v<version>` of the catalogues, and stay there for good: somebody agreed to them.
    """

    version: int
    since: date


# A new version means another purpose, way or kind of data; better words for the same are no new version (art. 14).
WORDINGS: Final[Mapping[Purpose, tuple[Wording, ...]]] = {
    Purpose.COUNTER_LOOK_UP: (Wording(1, date(2026, 11, 1)),),
    Purpose.DEPENDANT_ECARD: (Wording(1, date(2026, 11, 1)),),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One giving or withdrawing; `wording` is the version of the text, `request` marks the request that did it."""

    turn: _Turn
    at: datetime
    channel: Channel
    wording: int
    request: bytes


@dataclass(frozen=True, slots=True)
class ConsentNews:
    """A turn of which the holder is still to be told; `wording` is the version of the text that it was about."""

    news_id: str
    consent_id: ConsentId
    holder_id: HolderId
    purpose: Purpose
    turn: _Turn
    wording: int
    locale: Locale


@dataclass(frozen=True, slots=True)
class Consent:
    """What a holder ever said about one purpose, oldest first; nothing when they were never asked."""

    consent_id: ConsentId
    holder_id: HolderId
    purpose: Purpose
    turns: tuple[Turn, ...]

    @property
    def last(self) -> Turn | None:
        """What was said last."""
        return self.turns[-1] if self.turns else None

    def state(self, now: datetime) -> ConsentState:
        """`outdated`: given to a text that another has followed since."""
        if self.last is None:
            return "notGiven"
        if self.last.turn == "withdrawn":
            return "withdrawn"
        return "given" if self.last.wording == wording_of(self.purpose, now) else "outdated"

    def shown_wording(self, now: datetime) -> int:
        """The version to show: that of a consent which counts, else the one to agree to now."""
        return self.last.wording if self.last and self.state(now) == "given" else wording_of(self.purpose, now)

    @property
    def given_at(self) -> datetime | None:
        """When it was given last."""
        return next((turn.at for turn in reversed(self.turns) if turn.turn == "given"), None)

    @property
    def withdrawn_at(self) -> datetime | None:
        """When it was withdrawn; nothing while it is given."""
        return self.last.at if self.last and self.last.turn == "withdrawn" else None


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to give or withdraw. `request` marks it, so that its retry finds its own work, also after a change of mind."""

    channel: Channel
    locale: Locale
    request: bytes
    now: datetime


class ConsentStore(Protocol):
    """Where consents are kept."""

    def consent(self, consent_id: ConsentId, holder_id: HolderId) -> Awaitable[Consent | None]:
        """One consent, as strongly read as the last acknowledged write before the call."""

    async def consents_of(self, holder_id: HolderId) -> list[Consent]:
        """Everything that a holder ever agreed to."""

    async def turn(self, before: Consent, turn: Turn, locale: Locale) -> bool:
        """The one write, with the news of it, if the consent is as it was read or still not there; whether it was done."""

    async def news(self, limit: int) -> list[ConsentNews]:
        """Some that wait, in no order."""

    async def carried(self, news: ConsentNews) -> None:
        """Take one off; taking it off again changes nothing."""


def consent_id_of(holder_id: HolderId, purpose: Purpose) -> ConsentId:
    """The id of the one consent of a holder for a purpose, however often it is given."""
    return ConsentId(derived_id("cns", holder_id, purpose))


def wording_of(purpose: Purpose, now: datetime) -> int:
    """The version of the text to agree to at a moment; the first one also before its day."""
    today = now.astimezone(CHINA).date()
    first, *later = WORDINGS[purpose]
    return next((wording.version for wording in reversed(later) if wording.since <= today), first.version)


class Consents:
    """Giving, withdrawing, and asking whether somebody agreed."""

    def __init__(self, *, store: ConsentStore, holders: HolderStore, log: AccessLogStore, notifications: Notifications) -> None:
        self._store = store
        self._holders = holders
        self._log = log
        self._notifications = notifications

    async def give(self, holder_id: HolderId, purpose: Purpose, *, ask: Ask) -> Consent:
        """Agree to the text of today; who has agreed to it stays so.

        Refuses with `guardian_required` below OWN_CONSENT_AGE; with `rate_limited` after MOST_TURNS_A_DAY.
        """
        holder = await self._holders.holder(holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        today = ask.now.astimezone(CHINA).date()
        if parse_resident_id(holder.id_number, today=today).age_on(today) < OWN_CONSENT_AGE:
            raise Refusal("guardian_required")
        turn = Turn("given", ask.now, ask.channel, wording_of(purpose, ask.now), ask.request)
        return await self._turned(holder_id, purpose, turn, ask.locale)

    async def withdraw(self, holder_id: HolderId, consent_id: str, *, ask: Ask) -> Consent:
        """Take a consent back; one that was taken back stays so. Whatever was done before stays done (art. 15).

        Refuses with `not_found` for what this holder never gave; with `rate_limited` after MOST_TURNS_A_DAY.
        """
        purpose = next((one for one in Purpose if consent_id_of(holder_id, one) == consent_id), None)
        found = await self._store.consent(consent_id_of(holder_id, purpose), holder_id) if purpose else None
        if purpose is None or found is None or found.last is None:
            raise Refusal("not_found")
        turn = Turn("withdrawn", ask.now, ask.channel, found.last.wording, ask.request)
        return await self._turned(holder_id, purpose, turn, ask.locale)

    async def mine(self, holder_id: HolderId) -> list[Consent]:
        """What a holder said about every purpose there is, in the order of the purposes."""
        found = {consent.purpose: consent for consent in await self._store.consents_of(holder_id)}
        return [found.get(purpose) or _unasked(holder_id, purpose) for purpose in Purpose]

    async def has(self, holder_id: HolderId, purpose: Purpose, now: datetime) -> bool:
        """Whether somebody, who may be nobody, agrees to the text of today."""
        consent = await self._store.consent(consent_id_of(holder_id, purpose), holder_id)
        return consent is not None and consent.state(now) == "given"

    async def require(self, holder_id: HolderId, purpose: Purpose, now: datetime) -> None:
        """Refuses with `consent_required` and `purpose` unless the holder agrees to the text of today."""
        if not await self.has(holder_id, purpose, now):
            raise Refusal("consent_required", {"purpose": purpose})

    async def undone(self, limit: int) -> Sequence[Errand]:
        """Turns of which nobody was told yet; telling one again tells no more."""
        return [Errand(news.news_id, partial(self._tell, news)) for news in await self._store.news(limit)]

    async def _tell(self, news: ConsentNews) -> None:
        holder = await self._holders.holder(news.holder_id)
        if holder is not None:
            topic = Topic.CONSENT_GIVEN if news.turn == "given" else Topic.CONSENT_WITHDRAWN

            def values(locale: Locale) -> Mapping[str, object]:
                return {"purpose": text(locale, f"consents.{news.purpose}.v{news.wording}.title")}

            await self._notifications.tell(holder, Announcement(news.news_id, topic, news.locale, values))
        await self._store.carried(news)

    async def _turned(self, holder_id: HolderId, purpose: Purpose, turn: Turn, locale: Locale) -> Consent:
        """The consent as it is now: turned here, or so already."""
        consent_id = consent_id_of(holder_id, purpose)
        for _ in range(_ROUNDS):
            before = await self._store.consent(consent_id, holder_id) or _unasked(holder_id, purpose)
            if before.state(turn.at) == turn.turn or any(past.request == turn.request for past in before.turns):
                return before
            _has_room(before, turn.at)
            await self._write_down(before, turn)
            if await self._store.turn(before, turn, locale):
                return replace(before, turns=(*before.turns, turn))
        raise Refusal("unavailable", retry_after=1)

    async def _write_down(self, before: Consent, turn: Turn) -> None:
        """One entry for each turn, however many requests wanted it at once."""
        action = "giveConsent" if turn.turn == "given" else "withdrawConsent"
        entry_id = derived_id("acc", before.consent_id, str(len(before.turns)), action)
        await self._log.record(before.holder_id, Access(entry_id, turn.at, action, "self", turn.channel, before.purpose))


def _unasked(holder_id: HolderId, purpose: Purpose) -> Consent:
    return Consent(consent_id_of(holder_id, purpose), holder_id, purpose, ())


def _has_room(consent: Consent, now: datetime) -> None:
    """Refuses with `rate_limited` when it was turned too often in a day."""
    recent = [turn.at for turn in consent.turns if turn.at > now - _DAY]
    if len(recent) >= MOST_TURNS_A_DAY:
        wait = recent[-MOST_TURNS_A_DAY] + _DAY - now
        raise Refusal("rate_limited", retry_after=max(1, int(wait.total_seconds()) + 1))
