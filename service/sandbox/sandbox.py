"""The sandbox: a whole service with invented people in it, whose time can be moved and whose neighbours can be made to fail.

True here: a reset brings back everybody as they were, under the ids they had, so whoever is signed in stays signed in, but
for those who signed in at a time that the clock has not reached again; all processes share one clock. Never here: anything
outside a sandbox; the composition root makes this object only there.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from service.balances import Figure
from service.cards import Card, HistoryEntry
from service.clock import Clock
from service.consents import Consent
from service.contacts import Contacts
from service.dependants import Dependant
from service.errors import Refusal, invalid
from service.holders import Holder
from service.ids import HolderId
from service.insurance import Relation
from service.limits import Pace
from service.operators import Credentials, Institution
from service.passwords import Passwords
from service.regions import Regions
from service.relay import Relay
from service.sandbox.gateways import BOOK_FAULTS, FAULTS, SLOW_SECONDS, Fault, FaultStore, Gateway, Sent, SentStore
from service.sandbox.personas import Person, Persona, cast, people, staff
from service.sandbox.records import (
    card_records,
    consent_records,
    contact_records,
    dependant_records,
    holder_record,
    relation_records,
    with_pin_hash,
)
from service.vault import Vault

FURTHEST: Final = timedelta(days=3653)
FOLLOW_SECONDS: Final = 0.1
# Long enough for every process to have looked at the stored clock once.
_ALL_FOLLOW_SECONDS: Final = 0.15
_SIDE_BY_SIDE: Final = 24
# Longer than a gateway that was asked to be slow.
_SETTLE_SECONDS: Final = SLOW_SECONDS + 1
_SEEDING_LEASE: Final = timedelta(seconds=15)
_MOST_MESSAGES: Final = 50

_log = structlog.get_logger("sandbox")


class NotASandboxError(Exception):
    """The database is somebody's real one."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The ids of all that a reset puts in place."""

    holders: list[str]
    cards: list[str]
    dependants: list[str]
    operators: list[str]
    relations: list[str]
    consents: list[str]
    contacts: list[str]


class SandboxStore(SentStore, FaultStore, Protocol):
    """What a sandbox keeps beside the service's own data."""

    async def is_production(self) -> bool:
        """Whether this database has served production: then nothing in it may be touched."""

    async def prepare(self) -> None:
        """Make the indexes that only a sandbox needs."""

    async def claim_seeding(self, edition: str, now: datetime, lease: timedelta) -> bool | None:
        """True when the caller shall put the personas there, False when this edition is, None while another does it."""

    async def seeded(self, edition: str | None) -> None:
        """The personas of this edition are there; None: they are being put there, and nobody may rely on them."""

    async def forget(self, now: datetime) -> None:
        """Delete whatever passes: tries, messages, keys, verifications, and sessions that begin in the future."""

    async def retain(self, kept: Kept) -> None:
        """Delete people, cards, links, operators, insurance relations, consents and contacts that are none of these."""

    async def sent_to(self, to: str, limit: int) -> list[Sent]:
        """What was sent to a mobile, newest first."""

    async def set_fault(self, gateway: Gateway, fault: Fault, times: int) -> None:
        """Let the next calls of a gateway fail, instead of what was asked for before."""

    async def clock(self) -> tuple[int, int]:
        """Seconds that the clock is ahead, and how often the sandbox was reset."""

    async def advance_clock(self, seconds: int, furthest: int) -> int | None:
        """Add to the seconds that the clock is ahead; None when that would be too far."""

    async def reset_clock(self) -> int:
        """Set the clock back to now and count a reset; how many there were."""


class CardPlace(Protocol):
    """Where cards are put."""

    async def put(self, card: Card, id_number: str, figures: tuple[Figure, ...], history: tuple[HistoryEntry, ...]) -> None:
        """Put a whole card in the place of the one with its id."""


class HolderPlace(Protocol):
    """Where people are put."""

    async def put(self, holder: Holder) -> None:
        """Put a person in the place of the one with their id."""


class DependantPlace(Protocol):
    """Where links between guardians and dependants are put."""

    async def put(self, link: Dependant) -> None:
        """Put a link in the place of the one with its id."""


class RelationPlace(Protocol):
    """Where insurance relations are put."""

    async def put(self, relation: Relation) -> None:
        """Put a relation, of which everybody has heard, in the place of the one with its id."""


class ConsentPlace(Protocol):
    """Where consents are put."""

    async def put(self, consent: Consent) -> None:
        """Put a consent in the place of the one with its id."""


class ContactPlace(Protocol):
    """Where contacts are put."""

    async def put(self, contacts: Contacts) -> None:
        """Put the contacts of a person in the place of those they have."""


class Forgetful(Protocol):
    """What remembers something in this process."""

    def forget(self) -> None:
        """Remember nothing."""


class OperatorPlace(Protocol):
    """Where operators and institutions are put."""

    async def put(self, credentials: Credentials) -> None:
        """Put an operator, who has not signed in yet, in the place of the one with their id."""

    async def put_institution(self, institution: Institution) -> None:
        """Put an institution in the place of the one with its id."""


class Sandbox:
    """What an integrator may do to the service."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: SandboxStore,
        cards: CardPlace,
        holders: HolderPlace,
        dependants: DependantPlace,
        operators: OperatorPlace,
        relations: RelationPlace,
        consents: ConsentPlace,
        contacts: ContactPlace,
        regions: Regions,
        passwords: Passwords,
        relay: Relay,
        pace: Pace,
        books: Forgetful,
        vault: Vault,
        clock: Clock,
    ) -> None:
        """Casts the personas. Raises CastError when the regions they live in are not served."""
        self._store = store
        self._cards = cards
        self._holders = holders
        self._dependants = dependants
        self._operators = operators
        self._relations = relations
        self._consents = consents
        self._contacts = contacts
        self._regions = regions
        self._passwords = passwords
        self._relay = relay
        # What this process remembers by the clock that a reset sets back.
        self._memories: tuple[Forgetful, ...] = (pace, books)
        self._clock = clock
        self._personas = cast(regions)
        # Also of the keys: what was sealed under another keyring cannot be read, so everybody is put there anew.
        self._edition = vault.mac("sandbox-edition", repr(self._personas)).hex()
        self._hashes: dict[str, str] = {}
        self._resets = 0
        self._one_at_a_time = asyncio.Lock()

    def residents(self) -> dict[HolderId, Person]:
        """The residents among them, by id."""
        return {person.holder_id: person for person in people(self._personas)}

    def personas(self) -> tuple[Persona, ...]:
        """Everybody, with all that is needed to play them."""
        return self._personas

    async def seed_if_empty(self) -> None:
        """Put the personas there unless they are; of several processes that start, one does, and the others wait for it.

        Raises NotASandboxError on a database that has served production, and touches nothing there.
        """
        if await self._store.is_production():
            raise NotASandboxError("this database has served production; a sandbox would empty it")
        await self._store.prepare()
        await self._follow()
        async with self._one_at_a_time:
            while True:
                # The lease is about processes, not about the service's time.
                claim = await self._store.claim_seeding(self._edition, datetime.now(UTC), _SEEDING_LEASE)
                if claim is False:
                    return
                if claim:
                    await self._put_back()
                    return
                await asyncio.sleep(FOLLOW_SECONDS)

    async def reset(self) -> datetime:
        """Everybody as they were, nothing remembered, the clock at now. The moment it was done."""
        if await self._store.is_production():
            raise Refusal("forbidden")
        async with self._one_at_a_time:
            was_ahead, _ = await self._store.clock()
            self._resets = await self._store.reset_clock()
            self._clock.offset = timedelta()
            await self._put_back()
            self._forget()
            if was_ahead:
                await asyncio.sleep(_ALL_FOLLOW_SECONDS)
            return self._clock.now()

    async def advance(self, seconds: int) -> datetime:
        """Move the clock forward, here and in every process. Refuses with `invalid_request` beyond FURTHEST."""
        ahead = await self._store.advance_clock(seconds, int(FURTHEST.total_seconds()))
        if ahead is None:
            raise invalid("advanceSeconds", "not_allowed")
        self._clock.offset = timedelta(seconds=ahead)
        if seconds:
            await asyncio.sleep(_ALL_FOLLOW_SECONDS)
        return self._clock.now()

    @property
    def ahead(self) -> timedelta:
        """How far the clock is ahead."""
        return self._clock.offset

    async def follow_clock(self) -> None:
        """Follow the clock that other processes move, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self._follow()
            except Refusal as refusal:
                _log.warning("sandbox_clock_waits", code=refusal.code)

    async def messages(self, to: str) -> list[Sent]:
        """What was sent to a mobile, newest first, with whatever was on its way when asked."""
        await self._relay.settled(to, _SETTLE_SECONDS)
        return await self._store.sent_to(to, _MOST_MESSAGES)

    async def set_fault(self, gateway: Gateway, fault: Fault, times: int) -> None:
        """Let the next calls of a gateway fail. Refuses with `invalid_request` a fault that it cannot have."""
        if fault not in (BOOK_FAULTS if gateway == "upstream" else FAULTS):
            raise invalid("fault", "not_allowed")
        await self._store.set_fault(gateway, fault, times)

    async def _follow(self) -> None:
        ahead, resets = await self._store.clock()
        self._clock.offset = timedelta(seconds=ahead)
        if resets != self._resets:
            self._resets = resets
            self._forget()

    def _forget(self) -> None:
        for memory in self._memories:
            memory.forget()

    async def _put_back(self) -> None:
        """Everybody in place of themselves, so that nobody is missing at any moment."""
        hashes = await self._password_hashes()
        everybody = list(people(self._personas))
        now = self._clock.now()
        holders = [holder_record(person, hashes[person.key]) for person in everybody]
        links = dependant_records(everybody, self._regions)
        records = [
            with_pin_hash(record, hashes[f"{person.key}/pin"])
            for person in everybody
            for record in card_records(person, self._regions, now)
        ]
        relations = relation_records(everybody, now)
        consents = consent_records(everybody, now)
        contacts = contact_records(everybody, now)
        behind = [Credentials(one.operator, hashes[one.key], one.totp_secret) for one in staff(self._personas)]
        await self._store.seeded(None)
        await self._store.retain(
            Kept(
                holders=[holder.holder_id for holder in holders],
                cards=[record.card.card_id for record in records],
                dependants=[link.dependant_id for link in links],
                operators=[credentials.operator.operator_id for credentials in behind],
                relations=[relation.registration_id for relation in relations],
                consents=[consent.consent_id for consent in consents],
                contacts=[one.holder_id for one in contacts],
            )
        )
        await _side_by_side(
            [
                *(self._holders.put(holder) for holder in holders),
                *(self._dependants.put(link) for link in links),
                *(self._cards.put(r.card, r.id_number, r.figures, r.history) for r in records),
                *(self._relations.put(relation) for relation in relations),
                *(self._consents.put(consent) for consent in consents),
                *(self._contacts.put(one) for one in contacts),
                *(self._operators.put_institution(credentials.operator.institution) for credentials in behind),
                *(self._operators.put(credentials) for credentials in behind),
            ]
        )
        await self._store.forget(now)
        await self._store.seeded(self._edition)

    async def _password_hashes(self) -> dict[str, str]:
        """Hashed once a process: a hash costs more than everything else that a reset does."""
        if not self._hashes:
            passwords = {person.key: person.query_password for person in people(self._personas)}
            passwords |= {f"{person.key}/pin": person.service_pin for person in people(self._personas)}
            passwords |= {one.key: one.password for one in staff(self._personas)}
            hashes = await asyncio.gather(*(self._passwords.hash(password) for password in passwords.values()))
            self._hashes = dict(zip(passwords, hashes, strict=True))
        return self._hashes


async def _side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them, a few at a time; the first that fails ends the rest."""
    room = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def work(coroutine: Coroutine[Any, Any, None]) -> None:
        async with room:
            await coroutine

    async with asyncio.TaskGroup() as group:
        for coroutine in works:
            group.create_task(work(coroutine))
