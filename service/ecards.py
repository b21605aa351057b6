"""The e-card: one a holder, carried by one of their cards, and what it may be used for at a moment.

True here: a holder has at most one e-card, whose id follows from theirs, so many applications at once make one. Whether it can
be used is asked of the card each time and never stored, so it ends and comes back with the card by itself. Level 1 is a
credential; level 2 also pays, and takes an active bank account, a password, and a mobile that was checked just now. A wrong
password is counted before it is judged; too many lock the password, never the card. Never here: a password in an answer, a log
or an exception; a code to show, which is in service/ecard_codes.py.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from service.cards import MOST_CARDS, BankStatus, Card, CardStore, PinState
from service.clock import CHINA, Clock
from service.errors import FieldError, Refusal, invalid
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import CardId, EcardId, HolderId, derived_id
from service.limits import Limit, Limits
from service.locale import Locale
from service.numbers import parse_resident_id
from service.passwords import Passwords
from service.pins import weaknesses
from service.regions import Region, Regions
from service.sessions import Session, require_assurance
from service.transitions import Action, refusal_of

EcardLevel = Literal[1, 2]
EcardStatus = Literal["usable", "unusable"]
PasswordState = Literal["none", "set", "locked"]
# As the table of announcements calls them.
NewsName = Literal["ecardApplied", "ecardPaymentOpened", "ecardPasswordChanged", "ecardLocked"]

PAYING: Final[EcardLevel] = 2
MOST_TRIES: Final = 5
# A password that equals the service PIN is refused, so setting one tells something about that PIN: not often, then.
PASSWORDS: Final = Limit("ecard/passwords", 5, timedelta(days=1), "too_many_attempts")
# Marks of requests that are kept with an e-card. Nobody changes it as often while a key lives.
_MOST_REQUESTS: Final = 32
# A conflict means that somebody else changed this very e-card between our read and our write.
_ROUNDS: Final = 8
_NO_PAYMENT: Final[Mapping[BankStatus, str]] = {
    BankStatus.NONE: "bankNone",
    BankStatus.PENDING: "bankPending",
    BankStatus.DORMANT: "bankDormant",
    BankStatus.CLOSED: "bankClosed",
}


@dataclass(frozen=True, slots=True)
class Ecard:
    """An e-card. `password`: argon2id, of the e-card alone; `wrong_tries`: guesses at it since the last right one.

    `version` grows with every application that changes it, and never with a guess; `requests`: the marks of the last requests
    that did, so that a retry finds its own work.
    """

    ecard_id: EcardId
    holder_id: HolderId
    card_id: CardId
    level: EcardLevel
    password: str | None = field(repr=False)
    wrong_tries: int
    version: int
    applied_at: datetime
    changed_at: datetime
    requests: tuple[bytes, ...] = ()

    @property
    def is_locked(self) -> bool:
        """Whether its password was guessed at too often to open anything. The e-card itself goes on."""
        return self.password is not None and self.wrong_tries >= MOST_TRIES

    @property
    def password_state(self) -> PasswordState:
        """The password as it may be seen."""
        if self.password is None:
            return "none"
        return "locked" if self.is_locked else "set"

    @property
    def tries_left(self) -> int:
        """How many more guesses at the password are judged."""
        return max(0, MOST_TRIES - self.wrong_tries) if self.password is not None else 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is applied for. No card: the only one that is fit; no password: the one there is."""

    level: EcardLevel
    card_id: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who applies, in which session and request; `guardian`: who acts for the holder, or nobody."""

    session: Session
    request: bytes
    locale: Locale
    guardian: HolderId | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What an e-card is good for at a moment: why it is of no use, or why it does not pay; None where nothing is in the way."""

    reason: str | None
    payment_reason: str | None

    @property
    def status(self) -> EcardStatus:
        return "usable" if self.reason is None else "unusable"


@dataclass(frozen=True, slots=True)
class Held:
    """An e-card with its card and what it is good for now."""

    ecard: Ecard
    card: Card
    standing: Standing


@dataclass(frozen=True, slots=True)
class News:
    """Something about an e-card that somebody should hear of; `news_id` names it for good."""

    news_id: str
    ecard_id: EcardId
    name: NewsName
    at: datetime
    tell: HolderId
    locale: Locale


class EcardStore(Protocol):
    """Where e-cards are kept."""

    def ecard(self, ecard_id: EcardId) -> Awaitable[Ecard | None]:
        """An e-card, as strongly read as the last acknowledged write before the call."""

    async def change(self, before: Ecard | None, after: Ecard, news: News) -> bool:
        """The one write, if there is still none, or still this version; whether it was done.

        The guesses at the password stay what they are by then, unless the password is another.
        """

    async def count_try(self, ecard: Ecard, most: int) -> Ecard | None:
        """Count a guess at this very password, in one write; None when it is another by now, or none is left."""

    async def give_back_tries(self, ecard: Ecard) -> None:
        """The guess that was counted last was right: it and those before it count no more."""

    async def tell(self, news: News) -> None:
        """Keep news beside an e-card until it is carried."""

    async def news(self, limit: int) -> Sequence[News]:
        """Some that waits, in no order."""

    async def carried(self, news: News) -> None:
        """Take it off; taking it off again changes nothing."""


def ecard_id_of(holder_id: HolderId) -> EcardId:
    """The id of the one e-card that a holder can have, however often they apply."""
    return EcardId(derived_id("ecd", holder_id))


def unfit(card: Card, level: EcardLevel, region: Region, now: datetime) -> str | None:
    """Why a card carries no e-card of a level, as a reason code; `region` is the card's.

    A card has to be in use, as where its PIN is asked for: one row of the table of transitions says both.
    """
    reason = refusal_of(Action.CHECK_PIN, card, region, now)
    if reason is None and level == PAYING:
        return _NO_PAYMENT.get(card.bank.status)
    return reason


def standing_of(ecard: Ecard, card: Card, region: Region, now: datetime) -> Standing:
    """What an e-card is good for at a moment, read off its card."""
    reason = unfit(card, 1, region, now)
    if ecard.level != PAYING:
        return Standing(reason, reason or "ecardLevelOne")
    locked = "ecardPasswordLocked" if ecard.is_locked else None
    return Standing(reason, unfit(card, PAYING, region, now) or locked)


class Ecards:
    """Applying for an e-card, and seeing it."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: EcardStore,
        cards: CardStore,
        holders: HolderStore,
        log: AccessLogStore,
        regions: Regions,
        limits: Limits,
        passwords: Passwords,
        clock: Clock,
    ) -> None:
        self._store = store
        self._cards = cards
        self._holders = holders
        self._log = log
        self._regions = regions
        self._limits = limits
        self._passwords = passwords
        self._clock = clock

    async def of_holder(self, holder_id: HolderId) -> Held | None:
        """The e-card of a holder with what it is good for now; None when they never applied."""
        ecard = await self._store.ecard(ecard_id_of(holder_id))
        return await self.with_card(ecard) if ecard is not None else None

    async def mine(self, holder_id: HolderId) -> Held:
        """As `of_holder`. Refuses with `not_found` when they never applied."""
        held = await self.of_holder(holder_id)
        if held is None:
            raise Refusal("not_found")
        return held

    async def with_card(self, ecard: Ecard) -> Held:
        """An e-card with its card as that is now. Refuses with `not_found` when the card is no longer here."""
        card = await self._cards.card(ecard.card_id, ecard.holder_id)
        if card is None:
            raise Refusal("not_found")
        region = self._regions.get(card.region_code)
        return Held(ecard, card, standing_of(ecard, card, region, self._clock.now()))

    async def apply(self, holder_id: HolderId, wanted: Wanted, applicant: Applicant) -> Held:
        """Make the e-card, raise its level, move it to another card, or give it another password.

        On the card that it has its level never sinks. Refuses with `forbidden` (a guardian, for a password or what pays),
        `assurance_too_low` (reason `notFresh`, or `mobileCheckRequired` where it pays), `not_found` (somebody else's card),
        `ecard_not_allowed` and `reason`,
        `invalid_request` (several cards are fit and none is named; no password, or one that is easy to guess), and
        `too_many_attempts`.
        """
        hashed: str | None = None
        for _ in range(_ROUNDS):
            before = await self._store.ecard(ecard_id_of(holder_id))
            if before is not None and applicant.request in before.requests:
                return await self.with_card(before)
            card = await self._chosen(holder_id, wanted, before)
            now = self._clock.now()
            level = _level(before, card, wanted)
            same = before is not None and (before.card_id, before.level) == (card.card_id, level)
            if before is not None and same and wanted.password is None:
                return await self.with_card(before)
            self._sure_enough(applicant, before, wanted, level, now)
            if wanted.password is not None and hashed is None:
                hashed = await self._new_password(card, wanted.password)
            password = hashed or (before.password if before else None)
            if level == PAYING and password is None:
                raise invalid("password", "missing")
            after = Ecard(
                ecard_id=ecard_id_of(holder_id),
                holder_id=holder_id,
                card_id=card.card_id,
                level=level,
                password=password,
                wrong_tries=before.wrong_tries if before and hashed is None else 0,
                version=before.version + 1 if before else 1,
                applied_at=before.applied_at if before else now,
                changed_at=now,
                requests=(*(before.requests if before else ()), applicant.request)[-_MOST_REQUESTS:],
            )
            if await self._written(before, after, applicant):
                return await self.with_card(after)
        raise Refusal("unavailable", retry_after=1)

    async def _written(self, before: Ecard | None, after: Ecard, applicant: Applicant) -> bool:
        """Do it, if it is still as it was read, once that stands in the holder's log."""
        if applicant.guardian is None:
            # What a guardian does was written into both logs when it became known for whom they act.
            # One entry for each change, however many requests wanted it at once.
            reason = f"level{after.level}"
            entry = derived_id("acc", after.ecard_id, str(after.version), reason)
            await self._log.record(after.holder_id, Access(entry, after.changed_at, "applyEcard", "self", "app", reason))
        name = _news_of(before, after)
        tell = applicant.guardian if applicant.guardian and name == "ecardApplied" else after.holder_id
        news_id = f"{after.ecard_id}:{after.version}"
        news = News(news_id, after.ecard_id, name, after.changed_at, tell, applicant.locale)
        return await self._store.change(before, after, news)

    async def _chosen(self, holder_id: HolderId, wanted: Wanted, before: Ecard | None) -> Card:
        """The card that shall carry it: the named one, the one that does, or the only one that is fit."""
        cards = await self._cards.cards_of(holder_id, None, MOST_CARDS)
        if wanted.card_id is not None:
            cards = [card for card in cards if card.card_id == wanted.card_id]
            if not cards:
                raise Refusal("not_found")
        now = self._clock.now()
        reasons = {card.card_id: unfit(card, wanted.level, self._regions.get(card.region_code), now) for card in cards}
        fit = [card for card in cards if reasons[card.card_id] is None]
        if not cards:
            raise Refusal("ecard_not_allowed", {"reason": "noCard"})
        if not fit:
            newest = max(cards, key=lambda card: (card.generation, card.card_id))
            raise Refusal("ecard_not_allowed", {"reason": reasons[newest.card_id]})
        if len(fit) > 1:
            fit = [card for card in fit if before is not None and card.card_id == before.card_id]
        if not fit:
            raise invalid("cardId", "missing")
        return fit[0]

    @staticmethod
    def _sure_enough(applicant: Applicant, before: Ecard | None, wanted: Wanted, level: EcardLevel, now: datetime) -> None:
        """Whether it is known surely enough who applies for this change, which gives an e-card `level`."""
        pays = PAYING in {level, before.level if before else level}
        if applicant.guardian is not None and (pays or wanted.password is not None):
            # What pays, and the password that it pays with, are the dependant's own: to have, to change and to end.
            raise Refusal("forbidden", {"reason": "notForGuardians"})
        again = before is not None and wanted.password is not None
        require_assurance(applicant.session, 2, now, fresh=again or level == PAYING)
        if level == PAYING and applicant.session.assurance.method != "sms":
            # Somebody's face proves nothing about who holds the mobile.
            raise Refusal("assurance_too_low", {"requiredAssurance": 2, "reason": "mobileCheckRequired"})

    async def _new_password(self, card: Card, password: str) -> str:
        """The form that may be stored. Refuses with `invalid_request` for one that is easy to guess, or the service PIN."""
        holder = await self._holders.holder(card.holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        id_number = parse_resident_id(holder.id_number, today=self._clock.now().astimezone(CHINA).date())
        faults = [*weaknesses(password, self._regions.get(card.region_code), id_number, None)]
        if not faults:
            await self._limits.hit(PASSWORDS, card.holder_id)
            if card.pin.state is not PinState.INITIAL and await self._passwords.verify(card.pin.hash, password):
                faults = ["pin_of_card"]
        if faults:
            raise Refusal("invalid_request", errors=[FieldError("password", code, {}) for code in faults])
        return await self._passwords.hash(password)


def _level(before: Ecard | None, card: Card, wanted: Wanted) -> EcardLevel:
    """The level that it shall have: on the card that it has, no less than before."""
    stays = before is not None and before.card_id == card.card_id and before.level == PAYING
    return PAYING if stays else wanted.level


def _news_of(before: Ecard | None, after: Ecard) -> NewsName:
    """What is said of a change: the most important of what it was."""
    if after.level == PAYING and (before is None or before.level != PAYING):
        return "ecardPaymentOpened"
    if before is not None and before.password != after.password:
        return "ecardPasswordChanged"
    return "ecardApplied"
