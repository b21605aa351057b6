"""The people of a run: who they are, their cards, and their sessions.

True here: they are invented by `python -m service generate` and come into the database by `python -m service import`;
sessions are opened by the product's own code, as an SMS code would open them. Never here: a document that the bench wrote by
itself.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from bench.ground import AUDIENCE, ISSUER, POOL, Ground
from bench.programs import run_to_end
from service.clock import Clock
from service.ids import CardId, HolderId
from service.mongo.sessions import MongoSessionStore
from service.sessions import Sessions
from service.tokens import Tokens
from service.vault import Vault

# A region in which everybody may activate over the app.
REGION: Final = "990100"
_IMPORT_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with one card, and what they would type to activate it."""

    holder_id: HolderId
    card_id: CardId
    id_number: str
    card_number: str
    identification_code: str


def generate_command(rows: Path, cards: int, people: int) -> list[str]:
    """Invents people whose cards are sealed, always the same."""
    told = ["--cards", str(cards), "--people", str(people), "--region", REGION, "--status", "sealed", "--seed", "bench"]
    return [sys.executable, "-m", "service", "generate", *told, "--output", str(rows)]


def import_command(rows: Path) -> list[str]:
    """Takes them in."""
    return [sys.executable, "-m", "service", "import", str(rows)]


def load(where: Ground, count: int) -> list[Person]:
    """So many people with a card each, in the database."""
    rows = where.folder / "people.ndjson"
    run_to_end(generate_command(rows, count, count), where.cores.all, {}, _IMPORT_SECONDS)
    run_to_end(import_command(rows), where.cores.all, where.yika_environment, _IMPORT_SECONDS)
    return people_of(where, rows)


def people_of(where: Ground, rows: Path) -> list[Person]:
    """Who came into the database from a file, in the order of the file."""
    vault = Vault(lambda: where.ring)
    told = [orjson.loads(line) for line in rows.read_bytes().splitlines()]
    indexes = [vault.index("cardNumber", row["cardNumber"]) for row in told]
    found = where.raw.cards.find({"numberIndex": {"$in": indexes}, "regionCode": REGION}, {"numberIndex": 1, "holderId": 1})
    known = {bytes(card["numberIndex"]): card for card in found}
    return [
        Person(
            holder_id=HolderId(known[index]["holderId"]),
            card_id=CardId(known[index]["_id"]),
            id_number=row["idNumber"],
            card_number=row["cardNumber"],
            identification_code=row["identificationCode"],
        )
        for index, row in zip(indexes, told, strict=True)
    ]


async def open_sessions(where: Ground, people: Iterable[Person]) -> list[tuple[Person, str]]:
    """A fresh session for everybody: person and access token, good for ten minutes."""
    tokens: list[tuple[Person, str]] = []
    ring = where.ring
    async with where.database() as database:
        issuer = Tokens(lambda: ring, ISSUER, AUDIENCE)
        sessions = Sessions(MongoSessionStore(database), issuer, Vault(lambda: ring), Clock())

        async def one(person: Person) -> None:
            grant = await sessions.open(person.holder_id, "sms")
            tokens.append((person, grant.access_token))

        await _side_by_side(people, one)
    return tokens


async def _side_by_side(people: Iterable[Person], work: Callable[[Person], Awaitable[None]]) -> None:
    left = iter(people)

    async def some() -> None:
        for person in left:
            await work(person)

    async with asyncio.TaskGroup() as group:
        for _ in range(POOL):
            group.create_task(some())
