"""A card comes to where its application is, whoever died or was late on the way."""

import asyncio
import json
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from api.card_office import applied, bring, card_numbers, handed_over, own_card, released
from api.client import Api
from api.counters import told
from faults.workers import Wire, Worker, environment, worker

from service.applications import Application, ApplicationStage, Made
from service.card_making import CardMaking
from service.cards import Card, Stage, Status
from service.changes import Changes, Order
from service.clock import Clock
from service.config import Config
from service.errors import Refusal
from service.ids import ApplicationId
from service.imports import card_id_of
from service.keyring import load_keyring
from service.mongo.applications import MongoApplicationStore
from service.mongo.cards import MongoCardStore
from service.mongo.client import Database
from service.mongo.holders import MongoHolderStore
from service.regions import SHIPPED, Regions
from service.server import Served
from service.vault import Vault


def _command(name: str, collection: str) -> bytes:
    """How a command on a collection begins on the wire."""
    text = collection.encode() + b"\0"
    return name.encode() + b"\0" + len(text).to_bytes(4, "little") + text


# Each write of a delivery, by what only it says.
WRITES = {
    "the decision": _command("findAndModify", "applications"),
    "the new card's stage": b"stageReached\0",
    "the end of the old card": b"replaced\0",
    "what was done": _command("update", "applications"),
}


@pytest.mark.parametrize("lost", WRITES)
async def test_a_delivery_whose_process_was_killed_is_finished_once(
    config: Config, survivor: Worker, tmp_path: Path, lost: str
) -> None:
    host = urlsplit(config.mongodb_uri.get_secret_value())
    assert host.hostname is not None
    assert host.port is not None
    async with Api(survivor.url) as api, Wire(host.hostname, host.port) as wire:
        await api.post("/sandbox/reset")
        client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
        old = (await own_card(client))["cardId"]
        application_id = await applied(client)
        await released(producer, await api.sign_in_staff("bureau-supervisor"), application_id)
        new = (await bring(producer, application_id, "receivedByBank")).json["newCardId"]
        path = f"/v1/staff/applications/{application_id}/advance"
        uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true"
        async with worker(environment(config, YIKA_MONGODB_URI=uri), tmp_path / "log") as doomed, Api(doomed.url) as there:
            wire.stall_after(WRITES[lost])
            asking = asyncio.create_task(
                there.as_(producer.token).send(
                    "POST",
                    path,
                    data=json.dumps(handed_over()).encode(),
                    headers={"Content-Type": "application/json", "Idempotency-Key": "doomed"},
                    checked=False,
                )
            )
            # The database has the write; nobody will ever hear that it did.
            await wire.stalled()
            await doomed.end(signal.SIGKILL)
            with pytest.raises(aiohttp.ClientError):
                await asking
        async with asyncio.timeout(20):
            while (await client.get(f"/v1/cards/{old}")).json["status"] != "cancelled":
                await asyncio.sleep(0.1)
        assert (await client.get(f"/v1/cards/{new}")).json["productionStage"] == "delivered"
        events = [item["event"] for item in (await client.get(f"/v1/cards/{new}/history")).json["items"]]
        assert events == ["stageReached"] * 4
        events = [item["event"] for item in (await client.get(f"/v1/cards/{old}/history")).json["items"]]
        assert events == ["replaced", "activated"]
        # The lease of the key runs out, and the retry finds its own work.
        await api.advance(25)
        again = await producer.post(path, handed_over(), key="doomed")
        assert (again.status, again.json["stage"]) == (200, "delivered")
        heard = ["application_accepted", "card_in_production", "card_ready", "card_replaced"]
        assert sorted(await told(api, "active")) == heard


# Who comes late.


@dataclass
class Workshop:
    """What makes cards, on the database of the application that serves."""

    making: CardMaking
    applications: MongoApplicationStore
    cards: MongoCardStore
    vault: Vault

    async def application(self, application_id: str) -> Application:
        found = await self.applications.application(ApplicationId(application_id))
        assert found is not None
        return found

    async def begun(self, application_id: str) -> tuple[Application, Made]:
        """An application that goes into production, as the process that decided it left it: without a card."""
        before = await self.application(application_id)
        said = card_numbers()
        number = said["cardNumber"]
        made = Made(card_id_of(self.vault, "990100", number), number, said["identificationCode"], said["bankAccount"])
        order = Order(before.stages[-1].actor(), b"late", "en")
        stages = before.step(ApplicationStage.IN_PRODUCTION, order, before.stages[-1].at)
        # Nothing is due, so that no relay is quicker than the test.
        after = await self.applications.change(before, replace(before, stages=stages, made=made))
        assert after is not None
        return after, made

    async def card(self, application: Application) -> Card:
        assert application.made is not None
        card = await self.cards.card(application.made.card_id, application.holder_id)
        assert card is not None
        return card


@pytest.fixture
async def workshop(served: Served, config: Config, database: Database) -> Workshop:
    del served
    ring = load_keyring(config.keyring_path)
    vault, clock, regions = Vault(lambda: ring), Clock(), Regions.load_directory(SHIPPED)
    cards, applications = MongoCardStore(database, vault), MongoApplicationStore(database, vault)
    making = CardMaking(
        store=applications,
        cards=cards,
        changes=Changes(cards, regions, clock),
        holders=MongoHolderStore(database, vault),
        regions=regions,
        clock=clock,
    )
    return Workshop(making, applications, cards, vault)


@pytest.fixture
async def application_id(api: Api) -> str:
    """An application that is about to go into production, with a card of a released batch."""
    client, producer = await api.sign_in("active"), await api.sign_in_staff("production")
    made = await applied(client)
    await released(producer, await api.sign_in_staff("bureau-supervisor"), made)
    await bring(producer, made, "bankPreOpened")
    return made


async def test_a_card_that_was_made_for_an_application_that_had_gone_back_is_nobodys(
    workshop: Workshop, application_id: str
) -> None:
    stale, made = await workshop.begun(application_id)
    back = replace(
        stale, stages=stale.step(ApplicationStage.ACCEPTED, Order(stale.stages[-1].actor(), b"x", "en"), stale.created_at)
    )
    assert await workshop.applications.change(stale, replace(back, made=None, batch_id=None)) is not None
    await workshop.making.bring(stale, made)
    assert (await workshop.card(stale)).stored_status is Status.CANCELLED


async def test_a_card_that_was_made_for_an_application_that_had_ended_is_nobodys(
    workshop: Workshop, application_id: str
) -> None:
    stale, made = await workshop.begun(application_id)
    stages = stale.step(ApplicationStage.REJECTED, Order(stale.stages[-1].actor(), b"x", "en"), stale.created_at)
    assert await workshop.applications.change(stale, replace(stale, stages=stages)) is not None
    await workshop.making.bring(stale, made)
    assert (await workshop.card(stale)).stored_status is Status.CANCELLED


async def test_who_comes_late_brings_no_card_back(workshop: Workshop, application_id: str) -> None:
    stale, made = await workshop.begun(application_id)
    stages = stale.step(ApplicationStage.SHIPPED_BY_PROVINCE, Order(stale.stages[-1].actor(), b"y", "en"), stale.created_at)
    newer = await workshop.applications.change(stale, replace(stale, stages=stages))
    assert newer is not None
    await workshop.making.bring(newer, made)
    ahead = await workshop.card(stale)
    assert ahead.stage is Stage.SHIPPED_BY_PROVINCE
    for _ in range(2):
        await workshop.making.bring(stale, made)
        await workshop.making.bring(newer, made)
    assert await workshop.card(stale) == ahead


async def test_many_who_make_the_same_card_make_one(workshop: Workshop, application_id: str) -> None:
    application, made = await workshop.begun(application_id)
    await asyncio.gather(*(workshop.making.bring(application, made) for _ in range(12)))
    card = await workshop.card(application)
    assert (card.stage, card.stored_status, card.version) == (Stage.IN_PRODUCTION, Status.SEALED, 0)


async def test_where_somebody_elses_card_got_the_number_meanwhile_the_application_goes_back(
    workshop: Workshop, application_id: str, database: Database
) -> None:
    application, made = await workshop.begun(application_id)
    # As an import brings it, between the look and the making.
    taker: Any = await database.collection("cards").find_one(
        {"holderId": {"$ne": application.holder_id}, "regionCode": "990100"}
    )
    index = workshop.vault.index("cardNumber", made.number)
    await database.collection("cards").update({"_id": taker["_id"]}, {"$set": {"numberIndex": index}})
    with pytest.raises(Refusal) as refused:
        await workshop.making.bring(application, made)
    assert refused.value.code == "card_number_taken"
    back = await workshop.application(application_id)
    assert (back.stage, back.made, back.next_stage) == ("bankPreOpened", None, "inProduction")
    assert back.batch_id == application.batch_id
