"""Activation against the one write that it is built on.

True here: Yika is asked over HTTP, with a fresh key, card and session each time, and does all that an activation does; the
bare writer only writes, on the server's core, from memory. Both keep 64 in flight on the same cards, which are sealed again
in between; afterwards the database is asked whether every counted activation is there. Never here: a card that is used
twice in one turn.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from bench.checks import CheckError
from bench.ground import DATABASE, Ground
from bench.load import InvalidRunError, Load, run_wrk
from bench.people import Person, open_sessions
from bench.programs import run_to_end
from bench.servers import YIKA, Served, serving

SCRIPT: Final = Path(__file__).with_name("activation.lua")
IN_FLIGHT: Final = 64
_WARM_SECONDS: Final = 1.0
# People whose cards are spent on warming up; should they run out, the last is asked again, which harms nobody.
_WARM: Final = 2000
# Tokens live ten minutes.
_FRESH_SECONDS: Final = 240
_PASSING: Final = ("idempotency", "limits", "messages", "sandbox_messages")


class _Tokens:
    """Sessions of everybody, opened anew before their tokens are old."""

    def __init__(self, where: Ground, people: Sequence[Person]) -> None:
        self._where = where
        self._people = people
        self._made = 0.0
        self._tokens: list[tuple[Person, str]] = []

    def fresh(self) -> list[tuple[Person, str]]:
        if time.monotonic() > self._made + _FRESH_SECONDS or not self._tokens:
            self._tokens = asyncio.run(open_sessions(self._where, self._people))
            self._made = time.monotonic()
        return self._tokens


def steps(rounds: int) -> int:
    """How often `measure` says what it does."""
    return 1 + 2 * rounds


def measure(
    where: Ground, people: Sequence[Person], rounds: int, seconds: float, step: Callable[[str], None]
) -> dict[str, Any]:
    """Rounds of both, the one after the other. Raises CheckError or InvalidRunError when a turn means nothing."""
    step("activation: does the bare writer write the same?")
    tokens = _Tokens(where, people)
    _check_same(where, tokens)
    # As long as the cards last: the bare writer is asked how fast it can be.
    _seal(where)
    fastest = _bare(where, people, seconds)["rate"]
    lasting = min(seconds, float(int(0.8 * (len(people) - _WARM) / fastest)))
    if lasting < 1:
        raise InvalidRunError(f"{len(people)} sealed cards last no second at {fastest:.0f} a second: more, please")
    done: list[dict[str, Any]] = []
    for number in range(rounds):
        step(f"round {number + 1}: bare find_one_and_update")
        _seal(where)
        bare = _bare(where, people, lasting)
        step(f"round {number + 1}: activation")
        _seal(where)
        load, resident = _yika(where, tokens, lasting)
        done.append(
            {
                "bare_rate": bare["rate"],
                "yika_rate": load.rate,
                "bare": bare,
                "yika": {name: getattr(load, name) for name in Load.__slots__},
                "yika_resident_mib": resident,
            }
        )
    return {"seconds": lasting, "in_flight": IN_FLIGHT, "cards": len(people), "rounds": done}


def _bare(where: Ground, people: Sequence[Person], seconds: float) -> dict[str, float]:
    _bare_turn(where, people[:_WARM], _WARM_SECONDS)
    return _bare_turn(where, people[_WARM:], seconds)


def _bare_turn(where: Ground, people: Sequence[Person], seconds: float) -> dict[str, float]:
    given = where.folder / "cards"
    given.write_text("".join(f"{person.card_id} {person.holder_id}\n" for person in people))
    environment = {
        "MONGODB_URI": where.peers_uri,
        "MONGODB_DATABASE": DATABASE,
        "INPUT": str(given),
        "SECONDS": str(seconds),
        "IN_FLIGHT": str(IN_FLIGHT),
        # As many threads as Yika gives the driver; with its default of five a core the bare writer is slower.
        "MOTOR_MAX_WORKERS": "32",
    }
    command = [sys.executable, "-m", "bench.bare", "activate"]
    told: dict[str, float] = orjson.loads(run_to_end(command, {where.cores.server}, environment, seconds + 60))
    return told


def _yika(where: Ground, tokens: _Tokens, seconds: float) -> tuple[Load, float]:
    everybody = tokens.fresh()
    with serving(YIKA, where) as served:
        _turn(where, served, everybody[:_WARM], _WARM_SECONDS)
        measured = everybody[_WARM:]
        load = _turn(where, served, measured, seconds)
        resident = served.running.resident_mib()
    if load.lacking:
        raise InvalidRunError("there were more activations than cards: more cards, please")
    ids = [person.card_id for person, _ in measured]
    there = where.raw.cards.count_documents({"_id": {"$in": ids}, "status": "active", "version": 1})
    if not load.requests <= there <= load.requests + IN_FLIGHT:
        raise InvalidRunError(f"{load.requests} activations were answered and {there} are in the database")
    return load, resident


def _turn(where: Ground, served: Served, everybody: Sequence[tuple[Person, str]], seconds: float) -> Load:
    given = where.folder / "activations"
    given.write_text("".join(f"{token} {secrets.token_hex(16)} {_body(person)}\n" for person, token in everybody))
    return run_wrk(where, served, SCRIPT, [str(given)], connections=IN_FLIGHT, seconds=seconds)


def _body(person: Person) -> str:
    body = {
        "idNumber": person.id_number,
        "cardNumber": person.card_number,
        "identificationCode": person.identification_code,
    }
    return orjson.dumps(body).decode()


def _seal(where: Ground) -> None:
    """Put every card back as it was before it was activated, and forget what activations leave behind."""
    back: dict[str, Any] = {"status": "sealed", "activation": None, "version": 0, "history": [], "outbox": []}
    where.raw.cards.update_many({"activation.channel": "app"}, {"$set": back})
    for name in _PASSING:
        where.raw[name].delete_many({})


def _check_same(where: Ground, tokens: _Tokens) -> None:
    """Hold what the bare writer leaves against what Yika leaves, but for times and marks; and what Yika answers."""
    person, token = tokens.fresh()[0]
    before = where.raw.cards.find_one({"_id": person.card_id})
    with serving(YIKA, where) as served:
        asyncio.run(_activate_once(served.url, person, token))
    ours = where.raw.cards.find_one({"_id": person.card_id})
    _seal(where)
    if where.raw.cards.find_one({"_id": person.card_id}) != before:
        raise CheckError("a card that was sealed again is not as it was")
    _bare_turn(where, [person], 1)
    theirs = where.raw.cards.find_one({"_id": person.card_id})
    if ours is None or theirs is None or _shape(ours) != _shape(theirs):
        raise CheckError("the bare writer does not write what an activation writes")


def _shape(document: dict[str, Any]) -> dict[str, Any]:
    """A card without what differs from one time to another; the relay empties the outbox when it has carried it."""
    activation = {**document["activation"], "at": None, "request": len(document["activation"]["request"])}
    history = [{**entry, "at": None, "request": len(entry["request"])} for entry in document["history"]]
    return {**document, "activation": activation, "history": history, "outbox": None}


async def _activate_once(url: str, person: Person, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as client:
        for wanted in ("activated", "alreadyActivated"):
            key = {"Idempotency-Key": secrets.token_hex(16)}
            async with client.post(f"{url}/v1/activations", data=_body(person), headers=headers | key) as response:
                told = await response.json()
            if told.get("result") != wanted:
                raise CheckError(f"Yika answers {response.status} {told.get('code')} where {wanted} is right")
