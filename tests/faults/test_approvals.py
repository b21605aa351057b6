"""A second person's word survives whatever happens to the process that heard it."""

import asyncio
import json
import signal
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from api.client import Api, Reply
from faults.workers import Wire, Worker, environment, worker

from service.approvals import Approval, Approvals, Decided
from service.cards import Card
from service.changes import Changes
from service.config import Config
from service.desks import Desk
from service.ids import ApprovalId
from service.keyring import load_keyring
from service.mongo.approvals import MongoApprovalStore
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.holders import MongoAccessLogStore, MongoHolderStore
from service.server import Served
from service.vault import Vault


def _command(name: str, collection: str) -> bytes:
    """How a command on a collection begins on the wire."""
    text = collection.encode() + b"\0"
    return name.encode() + b"\0" + len(text).to_bytes(4, "little") + text


# Each write of an approval, by what only it says.
WRITES = {
    "the decision": _command("update", "approvals"),
    "the change of the card": _command("update", "cards"),
    "how it ended": b"carriedOutAt\0",
}


async def _card(api: Api, key: str = "active") -> str:
    return str((await api.persona(key))["cards"][0]["cardId"])


async def _events(api: Api) -> list[str]:
    client = await api.sign_in("active", "face")
    return [item["event"] for item in (await client.get(f"/v1/cards/{await _card(api)}/history")).json["items"]]


async def _settled(supervisor: Api) -> Reply:
    """The one approval, once nobody has anything to do with it any more."""
    async with asyncio.timeout(20):
        while True:
            reply = await supervisor.get("/v1/staff/approvals")
            (item,) = reply.json["items"]
            if item["carriedOutAt"] or item["failure"]:
                return reply
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("lost", WRITES)
async def test_an_approval_whose_process_was_killed_is_carried_out_once(
    config: Config, survivor: Worker, tmp_path: Path, lost: str
) -> None:
    host = urlsplit(config.mongodb_uri.get_secret_value())
    assert host.hostname is not None
    assert host.port is not None
    async with Api(survivor.url) as api, Wire(host.hostname, host.port) as wire:
        await api.post("/sandbox/reset")
        clerk, supervisor = await api.sign_in_staff("bureau"), await api.sign_in_staff("bureau-supervisor")
        asked = await clerk.post(f"/v1/staff/cards/{await _card(api)}/cancel", {"reason": "death"}, key="new")
        path = f"/v1/staff/approvals/{asked.json['approvalId']}/approve"
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        async with worker(environment(config, YIKA_MONGODB_URI=uri), tmp_path / "log") as doomed, Api(doomed.url) as there:
            wire.stall_after(WRITES[lost])
            asking = asyncio.create_task(
                there.as_(supervisor.token).send(
                    "POST",
                    path,
                    data=json.dumps({}).encode(),
                    headers={"Content-Type": "application/json", "Idempotency-Key": "doomed"},
                    checked=False,
                )
            )
            # The database has the write; nobody will ever hear that it did.
            await wire.stalled()
            await doomed.end(signal.SIGKILL)
            with pytest.raises(aiohttp.ClientError):
                await asking
        (item,) = (await _settled(supervisor)).json["items"]
        assert (item["state"], item["failure"]) == ("approved", None)
        assert (await _events(api)).count("cancelled") == 1
        # The lease of the key runs out, and the retry finds its own word.
        await api.advance(25)
        again = await supervisor.post(path, key="doomed")
        assert (again.status, again.json) == (200, item)
        sent = [message["template"] for message in await api.messages((await api.persona("active"))["mobile"])]
        assert sent.count("card_cancelled") == 1


async def _approved_and_left(api: Api, config: Config, database: Database) -> tuple[MongoApprovalStore, Approval]:
    """An approval as a process leaves it that dies right after the decision."""
    clerk, supervisor = await api.sign_in_staff("bureau"), await api.sign_in_staff("bureau-supervisor")
    asked = await clerk.post(f"/v1/staff/cards/{await _card(api)}/cancel", {"reason": "death"}, key="new")
    decided = await supervisor.post(f"/v1/staff/approvals/{asked.json['approvalId']}/reject", key="new")
    ring = load_keyring(config.keyring_path)
    store = MongoApprovalStore(database, Vault(lambda: ring))
    rejected = await store.approval(ApprovalId(decided.json["approvalId"]))
    assert rejected is not None
    assert isinstance(rejected.decided, Decided)
    # As it would have been written, had the word been the other one.
    left = {"$set": {"state": "approved", "outbox": [{"id": f"{rejected.approval_id}:2"}]}}
    await database.collection("approvals").update({"_id": rejected.approval_id}, left)
    approved = await store.approval(rejected.approval_id)
    assert approved is not None
    return store, approved


async def test_the_relay_carries_out_what_was_only_decided(api: Api, config: Config, database: Database) -> None:
    store, approved = await _approved_and_left(api, config, database)
    async with asyncio.timeout(10):
        while await store.to_carry_out(1):
            await asyncio.sleep(0.05)
    done = await store.approval(approved.approval_id)
    assert done is not None
    assert (done.stored_state, done.failure) == ("approved", None)
    assert done.carried_out_at is not None
    assert (await _events(api)).count("cancelled") == 1


async def test_many_who_carry_out_the_same_at_once_do_it_once(
    api: Api, served: Served, config: Config, database: Database
) -> None:
    """Those that come second find the card cancelled, and know that it was for this very approval."""
    store, approved = await _approved_and_left(api, config, database)
    approvals = served.process.services.approvals
    outcomes = await asyncio.gather(*(approvals.carry_out(approved) for _ in range(20)))
    assert {(outcome.stored_state, outcome.failure) for outcome in outcomes} == {("approved", None)}
    assert await store.to_carry_out(1) == []
    assert (await _events(api)).count("cancelled") == 1


class _AskedTooEarly(MongoCardStore):
    """Cards of a process that asked what the card has had an instant before another process changed it."""

    asked = 0

    async def did(self, card: Card, request: bytes) -> bool:
        self.asked += 1
        return self.asked > 1 and await super().did(card, request)


async def test_who_finds_the_card_changed_by_this_very_approval_does_not_call_it_failed(
    api: Api, served: Served, config: Config, database: Database
) -> None:
    store, approved = await _approved_and_left(api, config, database)
    services = served.process.services
    await services.approvals.carry_out(approved)
    # The other process made the change, and has not written down that it did.
    left = {"$set": {"outbox": [{"id": "apr:2"}], "carriedOutAt": None, "version": approved.version}}
    ring = load_keyring(config.keyring_path)
    vault = Vault(lambda: ring)
    cards = _AskedTooEarly(database, vault)
    late = Approvals(
        store=store,
        cards=cards,
        changes=Changes(cards, services.regions, services.clock),
        desk=Desk(
            holders=MongoHolderStore(database, vault),
            cards=cards,
            log=MongoAccessLogStore(database),
            vault=vault,
            clock=services.clock,
        ),
        clock=services.clock,
    )
    await database.collection("approvals").update({"_id": approved.approval_id}, left)
    outcome = await late.carry_out(approved)
    assert cards.asked > 1
    assert (outcome.stored_state, outcome.failure) == ("approved", None)
    assert (await _events(api)).count("cancelled") == 1
