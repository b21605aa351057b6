"""E-cards in several processes: a lost answer is found out by the same request, and a code is redeemed once among them all."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from api.client import Api, Reply
from api.ecards import PASSWORD, code_of, paying
from faults.test_processes import WRITES, _command, _environment
from faults.workers import Wire, worker
from pymongo import MongoClient

from service.config import Config
from service.mongo.client import Database

REDEEM = "/v1/staff/ecard-codes/redeem"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def both(
    config: Config, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Wire, Api, Api]]:
    """A wire to the database that can lose an answer, a process behind it, and one that is whole."""
    del database
    host = urlsplit(config.mongodb_uri.get_secret_value())
    assert host.hostname is not None
    assert host.port is not None
    logs = tmp_path_factory.mktemp("logs")
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(Wire(host.hostname, host.port))
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        places = [_environment(config, YIKA_MONGODB_URI=uri), _environment(config)]
        workers = [await stack.enter_async_context(worker(place, logs / f"{n}.log")) for n, place in enumerate(places)]
        lossy, whole = [await stack.enter_async_context(Api(one.url)) for one in workers]
        yield wire, lossy, whole


async def anew(whole: Api) -> None:
    await whole.post("/sandbox/reset", {})
    await asyncio.sleep(0.6)


LOST = {
    "the key is claimed": WRITES["the key is claimed"],
    "the e-card is made": _command("insert", "ecards"),
    "the answer is kept": WRITES["the answer is kept"],
}


@pytest.mark.parametrize("lost", LOST)
async def test_an_application_whose_answer_was_lost_converges(
    both: tuple[Wire, Api, Api], database: Database, lost: str
) -> None:
    wire, lossy, whole = both
    await anew(whole)
    token = (await whole.tokens("active"))["accessToken"]
    wire.lost = 0
    wire.lose_answer_to(LOST[lost])
    replies: list[Reply] = []
    begun = time.monotonic()
    body = {"level": 2, "password": PASSWORD}
    while not replies or (replies[-1].status != 200 and time.monotonic() - begun < 40):
        replies.append(await lossy.as_(token).post("/v1/ecard", body, key="lost"))
        await asyncio.sleep(0.5)
    assert wire.lost == 1
    assert {reply.status for reply in replies[:-1]} <= {409, 503}
    assert replies[-1].status == 200, replies[-1].raw
    (kept,) = await database.collection("ecards").find({}, limit=10)
    assert (kept["version"], len(kept["requests"])) == (1, 1)
    entries = (await whole.as_(token).get("/v1/me/access-log")).json["items"]
    assert [entry["action"] for entry in entries].count("applyEcard") == 1


async def test_a_code_is_redeemed_once_among_all_processes(both: tuple[Wire, Api, Api]) -> None:
    _, first, second = both
    await anew(second)
    clerk = (await second.staff_tokens("hospital"))["accessToken"]
    client = await paying(second)
    counters = [one.as_(clerk) for one in (first, second)]
    for _ in range(5):
        code = await code_of(client, password=PASSWORD)
        asked = (counter.post(REDEEM, {"code": code}) for _ in range(100) for counter in counters)
        replies = Counter(reply.status for reply in await asyncio.gather(*asked))
        assert replies == {200: 1, 409: 199}


async def test_a_redemption_whose_answer_was_lost_is_not_done_again(both: tuple[Wire, Api, Api]) -> None:
    wire, lossy, whole = both
    await anew(whole)
    clerk = (await whole.staff_tokens("hospital"))["accessToken"]
    client = await paying(whole)
    code = await code_of(client)
    wire.lost = 0
    wire.lose_answer_to(_command("update", "ecard_codes"))
    first = await lossy.as_(clerk).post(REDEEM, {"code": code})
    assert wire.lost == 1
    # The driver asks once more by itself where it can; what it learns is all that anybody learns.
    assert (first.status, first.code if first.status != 200 else "") in {
        (200, ""),
        (503, "outcome_unknown"),
        (409, "ecard_code_used"),
    }
    entries = (await client.get("/v1/me/access-log")).json["items"]
    assert [entry["action"] for entry in entries].count("redeemEcard") == 1
    for counter in (lossy, whole):
        again = await counter.as_(clerk).post(REDEEM, {"code": code})
        assert (again.status, again.code) == (409, "ecard_code_used")


async def test_a_redemption_that_cannot_be_written_down_is_not_done_and_its_counter_goes_on(
    both: tuple[Wire, Api, Api], config: Config
) -> None:
    """Cut off at the entry, the code is not used up: it is still this operator's to redeem, once, and nobody else's."""
    _, first, second = both
    await anew(second)
    clerk = (await second.staff_tokens("hospital"))["accessToken"]
    teller = (await second.staff_tokens("bank-own"))["accessToken"]
    client = await paying(second)
    code = await code_of(client, password=PASSWORD)
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value()) as server:
        raw = server[config.mongodb_database]
        raw.command({"collMod": "accesses", "validator": {"action": {"$ne": "redeemEcard"}}})
        try:
            cut_off = await first.as_(clerk).send(
                "POST", REDEEM, data=json.dumps({"code": code}).encode(), headers=JSON, checked=False
            )
        finally:
            raw.command({"collMod": "accesses", "validator": {}})
        assert cut_off.status >= 500
        kept = raw["ecard_codes"].find_one({})
        assert kept is not None
        assert kept["redemption"] is None
    other = await second.as_(teller).post(REDEEM, {"code": code})
    assert (other.status, other.code) == (409, "ecard_code_used")
    asked = (counter.as_(clerk).post(REDEEM, {"code": code}) for _ in range(20) for counter in (first, second))
    replies = Counter(reply.status for reply in await asyncio.gather(*asked))
    assert replies == {200: 1, 409: 39}
    entries = (await client.get("/v1/me/access-log")).json["items"]
    assert [entry["by"] for entry in entries if entry["action"] == "redeemEcard"] == ["hospitalClerk"]
