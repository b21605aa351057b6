"""Codes of the e-card: shown as a QR code, good for a minute, redeemed once.

True here: a code is 160 random bits, kept as a keyed code only, one document an e-card, so a new one takes the place of the
old; it is redeemed by one conditional write, whoever else comes, after card and e-card were judged again as they are by then.
Each code stands in the holder's log before it is shown, and its redemption before it is done. Unknown, used and old are told
apart: only who has seen a real code can learn the last two, and of unknown ones an operator may try a few. Never here: a code
in a path, a log or storage, or more of a person than a counter needs.
"""

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from service.actors import COUNTERS, StaffRole
from service.clock import Clock
from service.ecards import MOST_TRIES, PAYING, Ecard, EcardLevel, Ecards, EcardStore, Held, News
from service.errors import Code, Refusal, invalid
from service.holders import Access, AccessLogStore
from service.ids import CardId, EcardId, HolderId, OperatorId, RedemptionId, derived_id
from service.limits import Limit, Limits
from service.locale import Locale
from service.operators import Operator
from service.passwords import Passwords
from service.regions import Channel, Regions
from service.vault import Vault

LIFE_SECONDS: Final = 60
LENGTH: Final = 32
_RANDOM_BYTES: Final = 20
_SHAPE: Final = re.compile(rf"[A-Z2-7]{{{LENGTH}}}")
# Earlier codes of an e-card that are still known, to say of them that they are old.
KNOWN: Final = 8
# One a minute is what a screen asks for; somebody who goes to and fro asks for a few more.
CODES: Final = Limit("ecard/codes", 30, timedelta(minutes=1))
# Scanners read what people hold before them: only what could be a code of ours counts.
STAFF_CODES: Final = Limit("staff/ecard-codes", 20, timedelta(hours=1), "too_many_attempts")

# Who may redeem which level, at an institution that is designated for it. A bank has to do with payment alone.
REDEEMERS: Final[Mapping[StaffRole, frozenset[EcardLevel]]] = {
    "bankTeller": frozenset({PAYING}),
    "hospitalClerk": frozenset({1, PAYING}),
}


@dataclass(frozen=True, slots=True)
class Redemption:
    """Where a code was redeemed, once."""

    redemption_id: RedemptionId
    at: datetime
    by: OperatorId


@dataclass(frozen=True, slots=True)
class EcardCode:
    """The one code that is out for an e-card; `code` is a keyed code.

    `level`: what it is good for; `ecard_version`: of the e-card as it was, for any change of that ends it; `asked_by`: the
    holder, or the guardian who shows it for them.
    """

    ecard_id: EcardId
    holder_id: HolderId
    card_id: CardId
    code: bytes
    level: EcardLevel
    ecard_version: int
    asked_by: HolderId
    expires_at: datetime
    redemption: Redemption | None


@dataclass(frozen=True, slots=True)
class Issued:
    """A code as it is shown, once."""

    code: str = field(repr=False)
    level: EcardLevel
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a counter needs of whom it has before it."""

    redemption: Redemption
    level: EcardLevel
    held: Held


class EcardCodeStore(Protocol):
    """Where codes are kept, one an e-card."""

    async def put(self, code: EcardCode) -> None:
        """Keep a code in the place of whatever there was for the e-card; the last few of those stay known."""

    async def find(self, code: bytes) -> EcardCode | None:
        """What is out for the e-card that this is, or lately was, a code of: the code there may be a newer one."""

    async def claim(self, code: EcardCode, operator_id: OperatorId, now: datetime) -> bool:
        """Keep this very code, unused and unexpired as it must be, for one operator; True for that one, however often."""

    async def redeem(self, code: EcardCode, redemption: Redemption) -> bool:
        """Use this very code up, unused and unexpired as it must be; True for one caller only."""


def new_code() -> str:
    """160 random bits in the letters and digits that make the smallest QR code."""
    return base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode()


def may_redeem(operator: Operator, level: EcardLevel) -> bool:
    """Whether an operator may redeem codes of a level, by role and by where they work."""
    return operator.institution.redeems_ecards and level in REDEEMERS.get(operator.role, frozenset())


def redeeming_channels(*levels: EcardLevel) -> list[Channel]:
    """Where codes of any of these levels can be redeemed."""
    return sorted(COUNTERS[role] for role, its in REDEEMERS.items() if its & {*levels} and role in COUNTERS)


class EcardCodes:
    """Issuing codes, and redeeming them."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: EcardCodeStore,
        ecards: Ecards,
        ecard_store: EcardStore,
        log: AccessLogStore,
        regions: Regions,
        limits: Limits,
        passwords: Passwords,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._store = store
        self._ecards = ecards
        self._ecard_store = ecard_store
        self._log = log
        self._regions = regions
        self._limits = limits
        self._passwords = passwords
        self._vault = vault
        self._clock = clock

    async def issue(self, holder_id: HolderId, password: str | None, *, asked_by: HolderId, locale: Locale) -> Issued:
        """A new code, which ends the one before it. Without a password it is a credential; with the right one it pays.

        Refuses with `not_found` (no e-card), `ecard_unusable` and `reason`, `rate_limited`, `ecard_password_incorrect` and
        `triesLeft`, `ecard_password_locked`, or `invalid_request` for a password where nothing needs one.
        """
        held = await self._ecards.mine(holder_id)
        ecard = held.ecard
        if held.standing.reason is not None:
            raise Refusal("ecard_unusable", {"reason": held.standing.reason})
        await self._limits.hit(CODES, holder_id)
        level: EcardLevel = 1
        if password is not None:
            await self._open_payment(held, password, locale)
            level = PAYING
        text = new_code()
        mac, now = self._mac(text), self._clock.now()
        expires_at = now + timedelta(seconds=LIFE_SECONDS)
        if asked_by == holder_id:
            # What a guardian does was written into both logs when it became known for whom they act.
            entry = derived_id("acc", mac.hex(), "showEcardCode")
            await self._log.record(holder_id, Access(entry, now, "showEcardCode", "self", "app", None))
        await self._store.put(
            EcardCode(
                ecard_id=ecard.ecard_id,
                holder_id=holder_id,
                card_id=ecard.card_id,
                code=mac,
                level=level,
                ecard_version=ecard.version,
                asked_by=asked_by,
                expires_at=expires_at,
                redemption=None,
            )
        )
        return Issued(text, level, expires_at)

    async def require_live(self, asked_by: HolderId, text: str) -> None:
        """Whether this is a live code that this very person asked for, so that it may be drawn for them.

        Refuses with `ecard_code_invalid`, also for somebody else's, `ecard_code_used`, or `ecard_code_expired`.
        """
        mac = self._mac(text)
        found = await self._store.find(mac)
        if found is None or found.asked_by != asked_by:
            raise Refusal("ecard_code_invalid")
        if over := self._over(found, mac):
            raise Refusal(over)

    async def redeem(self, operator: Operator, text: str) -> Redeemed:
        """Redeem what somebody shows at a counter.

        Refuses with `channel_not_allowed` (institution, role or bank), `too_many_attempts`, `ecard_code_invalid`,
        `ecard_code_used`, `ecard_code_expired` (also one that a newer code or a change of the e-card ended),
        `region_not_interconnected`, or `ecard_unusable` and `reason`. A refused code is not used up.
        """
        if not any(may_redeem(operator, level) for level in (1, PAYING)):
            raise Refusal("channel_not_allowed", {"channels": redeeming_channels(1, PAYING)})
        mac = self._mac(text)
        found = await self._known(operator, text, mac)
        if over := self._over(found, mac):
            raise Refusal(over)
        ecard = await self._ecard_store.ecard(found.ecard_id)
        if ecard is None or ecard.version != found.ecard_version:
            raise Refusal("ecard_code_expired")
        held = await self._ecards.with_card(ecard)
        if refusal := self._refusal(operator, found, held):
            # Why is something about the holder too.
            reason = str(refusal.facts.get("reason", refusal.code))
            await self._write_down(operator, found, "refuseEcard", reason, self._clock.now())
            raise refusal
        now = self._clock.now()
        # Kept for one operator first: the log then names nobody who did not redeem it, and says so before it is done. Who is
        # cut off in between finds the code still theirs.
        if not await self._store.claim(found, operator.operator_id, now):
            raise Refusal(await self._too_late(mac))
        await self._write_down(operator, found, "redeemEcard", f"level{found.level}", now)
        redemption = Redemption(RedemptionId(derived_id("red", mac.hex())), now, operator.operator_id)
        if not await self._store.redeem(found, redemption):
            raise Refusal(await self._too_late(mac))
        return Redeemed(redemption, found.level, held)

    async def _known(self, operator: Operator, text: str, mac: bytes) -> EcardCode:
        """What is known of a code. What cannot be one is no guess; another that is unknown is."""
        if _SHAPE.fullmatch(text) is None:
            raise Refusal("ecard_code_invalid")
        place = await self._limits.reserve(STAFF_CODES, operator.operator_id, text)
        found = await self._store.find(mac)
        if found is None:
            await self._limits.miss(place)
            raise Refusal("ecard_code_invalid")
        await self._limits.free(place)
        return found

    def _over(self, found: EcardCode, mac: bytes) -> Code | None:
        """Why a code that was found no longer counts."""
        if found.code == mac and found.redemption is not None:
            return "ecard_code_used"
        return "ecard_code_expired" if found.code != mac or found.expires_at <= self._clock.now() else None

    async def _too_late(self, mac: bytes) -> Code:
        """Why a code could not be redeemed that was live a moment ago; one that still is has been claimed by another."""
        found = await self._store.find(mac)
        return (self._over(found, mac) or "ecard_code_used") if found else "ecard_code_expired"

    def _refusal(self, operator: Operator, found: EcardCode, held: Held) -> Refusal | None:
        """What stands against redeeming a live code here and now: where comes before the state of the card."""
        actor, card = operator.actor(), held.card
        own_bank = actor.bank_code is None or actor.bank_code == card.bank.code
        if not may_redeem(operator, found.level) or not own_bank:
            return Refusal("channel_not_allowed", {"channels": redeeming_channels(found.level)})
        issuer = self._regions.get(card.region_code)
        served = (self._regions.by_code.get(code) for code in actor.region_codes)
        if not any(region.serves_cards_of(issuer) for region in served if region is not None):
            facts = {"regionCode": card.region_code, "channels": redeeming_channels(found.level)}
            return Refusal("region_not_interconnected", facts)
        standing = held.standing
        reason = standing.payment_reason if found.level == PAYING else standing.reason
        return Refusal("ecard_unusable", {"reason": reason}) if reason is not None else None

    async def _write_down(self, operator: Operator, found: EcardCode, action: str, reason: str, now: datetime) -> None:
        """One entry for each code and outcome, however often it is tried at one counter."""
        entry = derived_id("acc", found.code.hex(), operator.operator_id, action, reason)
        await self._log.record(
            found.holder_id,
            Access(entry, now, action, operator.role, COUNTERS[operator.role], reason, operator.operator_id),
        )

    async def _open_payment(self, held: Held, password: str, locale: Locale) -> None:
        """Judge the password of an e-card that pays. The try is counted before it is judged."""
        if held.ecard.level != PAYING:
            raise invalid("password", "not_needed")
        if held.ecard.is_locked:
            raise Refusal("ecard_password_locked")
        if held.standing.payment_reason is not None:
            raise Refusal("ecard_unusable", {"reason": held.standing.payment_reason})
        counted = await self._ecard_store.count_try(held.ecard, MOST_TRIES)
        if counted is None:
            now_is = await self._ecards.mine(held.ecard.holder_id)
            if now_is.ecard.is_locked:
                raise Refusal("ecard_password_locked")
            # It is another e-card, or another password, than the one that was read: not judged at all.
            raise Refusal("unavailable", retry_after=1)
        if await self._passwords.verify(counted.password, password):
            await self._ecard_store.give_back_tries(counted)
            return
        if counted.tries_left == 0:
            await self._ecard_store.tell(_locked(counted, self._clock.now(), locale))
        raise Refusal("ecard_password_incorrect", {"triesLeft": counted.tries_left})

    def _mac(self, text: str) -> bytes:
        return self._vault.mac("ecard-code", text)


def _locked(ecard: Ecard, now: datetime, locale: Locale) -> News:
    news_id = f"{ecard.ecard_id}:{ecard.version}:locked"
    return News(news_id, ecard.ecard_id, "ecardLocked", now, ecard.holder_id, locale)
