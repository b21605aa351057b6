"""A change of a card whose answer is lost on the way: the same request again finds out, and nothing happens twice."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from api.client import Api, Reply
from faults.test_processes import WRITES, _command, _environment
from faults.workers import Wire, worker

from service.config import Config
from service.mongo.client import Database

NEW = "274913"


@dataclass
class Lossy:
    """A process whose wire to the database can lose an answer, and one that is whole."""

    wire: Wire
    lossy: Api
    whole: Api


@pytest.fixture(scope="module")
async def lossy(config: Config, database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lossy]:
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
        clients = [await stack.enter_async_context(Api(one.url)) for one in workers]
        yield Lossy(wire, *clients)


CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a loss is reported": ("loss", {"kind": "temporary"}, "temporaryLossReported"),
    "a PIN is changed": ("pin", {"newPin": NEW}, "pinChanged"),
}
LOST = {
    "the key is claimed": WRITES["the key is claimed"],
    "the card is changed": _command("update", "cards"),
    "the answer is kept": WRITES["the answer is kept"],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("lost", LOST)
async def test_a_change_whose_answer_was_lost_converges(lossy: Lossy, change: str, lost: str) -> None:
    await lossy.whole.post("/sandbox/reset", {})
    await asyncio.sleep(0.6)
    person = await lossy.whole.persona("active")
    path, body, event = CHANGES[change]
    if path == "pin":
        body = body | {"currentPin": person["servicePin"]}
    token = (await lossy.whole.tokens("active"))["accessToken"]
    url = f"/v1/cards/{person['cards'][0]['cardId']}"
    lossy.wire.lost = 0
    lossy.wire.lose_answer_to(LOST[lost])
    replies: list[Reply] = []
    begun = time.monotonic()
    while not replies or (replies[-1].status != 200 and time.monotonic() - begun < 40):
        replies.append(await lossy.lossy.as_(token).post(f"{url}/{path}", body, key="lost"))
        await asyncio.sleep(0.5)
    assert lossy.wire.lost == 1
    assert {reply.status for reply in replies[:-1]} <= {409, 503}
    assert replies[-1].status == 200, replies[-1].raw
    history = (await lossy.whole.as_(token).get(f"{url}/history")).json["items"]
    assert [item["event"] for item in history].count(event) == 1
    pin = (await lossy.whole.as_(token).get(url)).json["servicePin"]
    assert pin == {"state": "set", "triesLeft": 5}
