"""Workers are killed a hundred times at random while things happen and a provider takes messages over HTTP; then it is counted.

The provider is a process of its own (tests/twins/sms_provider.py) that keeps what it delivered. Once it tells repeats, and
every message arrives exactly once; once it does not, and none is offered twice, whatever was lost on the way.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from faults.brood import Brood, brood
from faults.post_office import PEOPLE, REGIONS
from faults.workers import ROOT
from pymongo import MongoClient
from storage.conftest import activate
from twins.sms_provider import KEY_ID, KEY_SECRET, WEBHOOK_SECRET

from service.cards import Activation, Card
from service.config import Config
from service.deliveries import LEASE
from service.gateways.chosen import templates_by_sms
from service.ids import ActivationId, CardId, HolderId, derived_id, new_id
from service.keyring import load_keyring, new_keyring, save_keyring
from service.locale import LOCALES
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.holders import MongoHolderStore
from service.mongo.migrations import migrate
from service.regions import SHIPPED
from service.sandbox.records import card_records, holder_record
from service.vault import Vault

KILLS = 100
AT_ONCE = 5
# Seconds from one happening to the next, and the most that the provider takes before and after it has a message.
PACE = 0.02
SLOW = 0.3


@dataclass
class _Twin:
    """The provider's process."""

    port: int

    async def delivered(self) -> tuple[Counter[str], Counter[str]]:
        """How often each message went out, and how often it was offered."""
        url = f"http://127.0.0.1:{self.port}/delivered"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            told = await response.json()
        return Counter(one["message_id"] for one in told["delivered"]), Counter(told["offers"])


@asynccontextmanager
async def _twin(*arguments: str) -> AsyncIterator[_Twin]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "twins.sms_provider", "--slow", str(SLOW), *arguments),
        cwd=ROOT / "tests",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            _, port = (await process.stdout.readline()).split()
        yield _Twin(int(port))
    finally:
        process.kill()
        await process.wait()


def _templates(folder: Path) -> Path:
    """A row for each of our texts, as an operator has them approved."""
    rows = [
        f'[templates.{template}.{locale}]\ntemplate_code = "SMS_{number}"\n'
        for number, template in enumerate(templates_by_sms(), start=1)
        for locale in LOCALES
    ]
    path = folder / "templates.toml"
    path.write_text('sign_name = "智慧人社"\n' + "\n".join(rows), encoding="utf-8")
    return path


class _Residents:
    """People with a sealed card each, and a mobile of their own."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._cards = MongoCardStore(database, vault)
        self._holders = MongoHolderStore(database, vault)
        self._number = 0
        self.told: list[str] = []

    async def activate(self) -> None:
        """A card of somebody new is activated; the message that tells them has an id that follows from that."""
        self._number += 1
        person, now = PEOPLE["sealed"], datetime.now(UTC)
        (record,) = card_records(person, REGIONS, now)
        holder_id, card_id = HolderId(new_id("hld")), CardId(new_id("card"))
        number = f"{self._number:09d}"
        holder = replace(holder_record(person, "hash"), holder_id=holder_id, id_number=number, mobile=f"15{number}")
        await self._holders.put(holder)
        card: Card = replace(record.card, card_id=card_id, holder_id=holder_id, number=number)
        await self._cards.put(card, record.id_number, record.figures, record.history)
        done = Activation(ActivationId(new_id("act")), now.replace(microsecond=0), "app", holder_id, b"r" * 32)
        after = await activate(self._cards, card, done)
        assert after is not None
        self.told.append(derived_id("msg", f"{card_id}:{after.version}", "sms"))


@dataclass
class _World:
    """What a production needs, on a database of its own."""

    environment: Mapping[str, str]
    residents: _Residents
    messages: Any


@asynccontextmanager
async def _world(config: Config, folder: Path, name: str) -> AsyncIterator[_World]:
    (folder / "regions").mkdir()
    pack = (SHIPPED / "990100.toml").read_text(encoding="utf-8").replace('code = "990100"', 'code = "010100"')
    (folder / "regions" / "010100.toml").write_text(pack, encoding="utf-8")
    save_keyring(folder / "keyring.json", new_keyring("production"))
    ring = load_keyring(folder / "keyring.json")
    uri, base = config.mongodb_uri.get_secret_value(), f"{config.mongodb_database}_{name}"
    environment = {
        "YIKA_MONGODB_URI": uri,
        "YIKA_MONGODB_DATABASE": base,
        "YIKA_ISSUER": "https://hr.example",
        "YIKA_REGIONS_DIR": str(folder / "regions"),
        "YIKA_DEFAULT_REGION": "010100",
        "YIKA_KEYRING": str(folder / "keyring.json"),
    }
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        async with Database(uri, base, deadline_seconds=30, pool=8) as database:
            await migrate(database, print)
            yield _World(environment, _Residents(database, Vault(lambda: ring)), client[base].messages)
            await database.drop()


async def _kill_again_and_again(workers: Brood, kills: int, chance: random.Random) -> int:
    """Start a worker, kill it at some moment, start the next; how many died."""
    for _ in range(kills):
        chick = await workers.hatch()
        if chance.random() < 0.8:
            await chick.carries()
        await asyncio.sleep(chance.random() * 0.5)
        chick.kill()
    return kills


async def _happen(residents: _Residents, over: asyncio.Event) -> None:
    while not over.is_set():
        await residents.activate()
        await asyncio.sleep(PACE)


async def _come_to_rest(world: _World) -> None:
    """Return when nothing is due or under way any more; leases of the dead run out at once instead of in their time."""
    cut_off = {"state": "sending"}
    # Nobody works at the moment, so whatever is under way belongs to the dead.
    world.messages.update_many(cut_off, {"$set": {"dueAt": datetime.now(UTC) - LEASE}})
    async with asyncio.timeout(60):
        while True:
            states = Counter(document["state"] for document in world.messages.find({}, {"state": 1}))
            if sum(states.values()) == len(world.residents.told) and not states["due"] and not states["sending"]:
                return
            # What a cut line sent back waits for its next try; nobody needs to wait for it here.
            world.messages.update_many({"state": "due"}, {"$set": {"dueAt": datetime.now(UTC) - timedelta(seconds=1)}})
            await asyncio.sleep(0.5)


async def _killed(world: _World, told: Mapping[str, str], folder: Path) -> None:
    """Let things happen while workers die, then let two live until it is all done."""
    over, chance = asyncio.Event(), random.Random(20261122)
    async with brood({**world.environment, **told}, folder) as workers:
        happening = asyncio.create_task(_happen(world.residents, over))
        shares = [KILLS // AT_ONCE] * AT_ONCE
        died = await asyncio.gather(*(_kill_again_and_again(workers, share, chance) for share in shares))
        over.set()
        await happening
        assert sum(died) == KILLS
        for _ in range(2):
            await workers.hatch()
        await _come_to_rest(world)
        said = "".join(chick.log.read_text() for chick in workers.hatched)
    assert "Traceback" not in said
    assert '"level":"error"' not in said


def _by_state(world: _World) -> dict[str, set[str]]:
    """The messages in each state; each that somebody was to be told is there, once, and no other."""
    states: dict[str, set[str]] = {}
    for document in world.messages.find({}, {"state": 1}):
        states.setdefault(document["state"], set()).add(document["_id"])
    assert Counter(one for ids in states.values() for one in ids) == Counter(world.residents.told)
    return states


async def test_killed_a_hundred_times_every_message_arrives_once_where_the_provider_tells_repeats(
    config: Config, tmp_path: Path
) -> None:
    async with _world(config, tmp_path, "repeats") as world, _twin("--deduplicates", "--cuts", "0.03") as twin:
        told = {
            "YIKA_SMS_GATEWAY": "webhook",
            "YIKA_SMS_WEBHOOK_URL": f"http://127.0.0.1:{twin.port}/sms",
            "YIKA_SMS_WEBHOOK_SECRET": WEBHOOK_SECRET,
        }
        await _killed(world, told, tmp_path)
        delivered, offers = await twin.delivered()
        states = _by_state(world)
        assert set(states) == {"sent"}
        assert delivered == Counter(world.residents.told)
        # The kills did hit: some were offered again, under the same id, and the provider told it.
        assert max(offers.values()) > 1


async def test_killed_a_hundred_times_no_message_is_offered_twice_where_the_provider_does_not(
    config: Config, tmp_path: Path
) -> None:
    async with _world(config, tmp_path, "norepeats") as world, _twin() as twin:
        told = {
            "YIKA_SMS_GATEWAY": "aliyun",
            "YIKA_SMS_TEMPLATES": str(_templates(tmp_path)),
            "YIKA_ALIYUN_ENDPOINT": f"http://127.0.0.1:{twin.port}",
            "YIKA_ALIYUN_ACCESS_KEY_ID": KEY_ID,
            "YIKA_ALIYUN_ACCESS_KEY_SECRET": KEY_SECRET,
        }
        await _killed(world, told, tmp_path)
        delivered, offers = await twin.delivered()
        states = _by_state(world)
        assert set(offers.values()) == {1}
        assert set(delivered.values()) == {1}
        # What is said to be sent was; of what a kill cut off nobody says so, and some of it was.
        assert set(states) == {"sent", "uncertain"}
        assert states["sent"] <= set(delivered)
        assert states["uncertain"] & set(delivered)
