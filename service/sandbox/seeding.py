"""The personas, and putting them there: what a sandbox and an import into one begin with.

True here: everybody is put in place of themselves, under the ids they had; of several processes one does it. Never here: a
database that has served production.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from service.balances import Figure
from service.cards import Card, HistoryEntry
from service.clock import Clock
from service.consents import Consent
from service.contacts import Contacts
from service.dependants import Dependant
from service.holders import Holder
from service.ids import HolderId
from service.insurance import Relation
from service.operators import Credentials, Institution
from service.passwords import Passwords
from service.regions import Regions
from service.sandbox.personas import Person, cast, people, staff
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

FOLLOW_SECONDS: Final = 0.1
_SIDE_BY_SIDE: Final = 24
_SEEDING_LEASE: Final = timedelta(seconds=15)


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


class SeedingStore(Protocol):
    """What is kept about who was put there."""

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

    async def clock(self) -> tuple[int, int]:
        """Seconds that the clock is ahead, and how often the sandbox was reset."""


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


class OperatorPlace(Protocol):
    """Where operators and institutions are put."""

    async def put(self, credentials: Credentials) -> None:
        """Put an operator, who has not signed in yet, in the place of the one with their id."""

    async def put_institution(self, institution: Institution) -> None:
        """Put an institution in the place of the one with its id."""


class Seeding:
    """The personas of the regions that are served, and their places in the database."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: SeedingStore,
        cards: CardPlace,
        holders: HolderPlace,
        dependants: DependantPlace,
        operators: OperatorPlace,
        relations: RelationPlace,
        consents: ConsentPlace,
        contacts: ContactPlace,
        regions: Regions,
        passwords: Passwords,
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
        self._clock = clock
        self.personas = cast(regions)
        # Also of the keys: what was sealed under another keyring cannot be read, so everybody is put there anew.
        self._edition = vault.mac("sandbox-edition", repr(self.personas)).hex()
        self._hashes: dict[str, str] = {}

    def residents(self) -> dict[HolderId, Person]:
        """The residents among them, by id."""
        return {person.holder_id: person for person in people(self.personas)}

    async def seed_if_empty(self) -> None:
        """Put the personas there unless they are; of several processes that start, one does, and the others wait for it.

        Raises NotASandboxError on a database that has served production, and touches nothing there.
        """
        if await self._store.is_production():
            raise NotASandboxError("this database has served production; a sandbox would empty it")
        await self._store.prepare()
        ahead, _ = await self._store.clock()
        self._clock.offset = timedelta(seconds=ahead)
        while True:
            # The lease is about processes, not about the service's time.
            claim = await self._store.claim_seeding(self._edition, datetime.now(UTC), _SEEDING_LEASE)
            if claim is False:
                return
            if claim:
                await self.put_back()
                return
            await asyncio.sleep(FOLLOW_SECONDS)

    async def put_back(self) -> None:
        """Everybody in place of themselves, so that nobody is missing at any moment."""
        hashes = await self._password_hashes()
        everybody = list(people(self.personas))
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
        behind = [Credentials(one.operator, hashes[one.key], one.totp_secret) for one in staff(self.personas)]
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
            passwords = {person.key: person.query_password for person in people(self.personas)}
            passwords |= {f"{person.key}/pin": person.service_pin for person in people(self.personas)}
            passwords |= {one.key: one.password for one in staff(self.personas)}
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
