"""A city's bridge over HTTP, against a twin that checks signatures and signs its answers; and the whole service with it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api.client import Api
from structlog.testing import capture_logs
from twins.city_bridge import (
    CUT,
    ELSEWHERE,
    FORGED,
    HUGE,
    OF_ANOTHER,
    OLD,
    OTHER_SECRET,
    SECRET,
    SILENT,
    UNSIGNED,
    Bridge,
    city_bridge,
)

from service.config import ConfigError, read_config
from service.gateways.city_bridge import CityBridge
from service.gateways.sending import SendFailed
from service.gateways.upstream import MOST_BYTES, UpstreamAway, UpstreamWrong, Whose
from service.ids import HolderId
from service.keyring import new_keyring, save_keyring
from service.mongo.client import Database
from service.mongo.migrations import migrate
from service.server import serving
from service.upstream_documents import read_contributions, read_figures, read_housing_fund

WHOSE = Whose(HolderId("hld_" + "a" * 24), "11010519491231002X")


def moment() -> str:
    return (datetime.now(UTC) - timedelta(minutes=1)).isoformat()


def figures(id_number: str) -> dict[str, Any]:
    told = {"balanceFen": 777, "status": "normal", "asOf": moment(), "source": "cityBureau"}
    return {"idNumber": id_number, "figures": [{"account": account} | told for account in ("medical", "pension")]}


def contributions(id_number: str) -> dict[str, Any]:
    row = {"code": "310", "month": "2026-09", "baseFen": 1, "personalFen": 2, "employerFen": 3, "status": "paid"}
    return {"idNumber": id_number, "reports": [{"source": "cityBureau", "asOf": moment(), "rows": [row]}]}


def housing_fund(id_number: str) -> dict[str, Any]:
    account = {
        "number": "900100200",
        "status": "normal",
        "balanceFen": 4_200,
        "monthlyDepositFen": 100,
        "paidThrough": None,
        "openedOn": None,
    }
    return {"idNumber": id_number, "source": "cityFund", "asOf": moment(), "account": account}


BOOKS: dict[str, Callable[[str], dict[str, Any]]] = {
    "figures": figures,
    "contributions": contributions,
    "housing-fund": housing_fund,
}


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with city_bridge(BOOKS) as running:
        yield running


@pytest.fixture
async def gateway(bridge: Bridge) -> AsyncIterator[CityBridge]:
    made = CityBridge(bridge.url, lambda: SECRET)
    yield made
    await made.close()


async def test_each_question_is_answered_and_signed(gateway: CityBridge, bridge: Bridge) -> None:
    now = datetime.now(UTC)
    assert [one.balance_fen for one in read_figures(await gateway.figures(WHOSE), WHOSE, now)] == [777, 777]
    assert read_contributions(await gateway.contributions(WHOSE), WHOSE, now).reports[0].rows[0].month == "2026-09"
    fund = read_housing_fund(await gateway.housing_fund(WHOSE), WHOSE, now)
    assert fund.account is not None
    assert fund.account.balance_fen == 4_200
    assert [question for question, _ in bridge.asked] == ["figures", "contributions", "housing-fund"]
    assert {asked for _, asked in bridge.asked} == {WHOSE.id_number}


@pytest.mark.parametrize(
    "act", [CUT, UNSIGNED, FORGED, OF_ANOTHER, OLD, ELSEWHERE, "status 503", "status 404", "status 204", "status 500"]
)
async def test_an_answer_that_is_none_or_not_theirs_teaches_nothing(gateway: CityBridge, bridge: Bridge, act: str) -> None:
    bridge.next(act)
    with capture_logs() as logs, pytest.raises(UpstreamAway):
        await gateway.housing_fund(WHOSE)
    assert len(bridge.asked) == 1
    assert WHOSE.id_number not in str(logs)
    assert await gateway.housing_fund(WHOSE)


async def test_more_than_any_answer_is_not_read_to_the_end(gateway: CityBridge, bridge: Bridge) -> None:
    bridge.next(HUGE)
    with pytest.raises(UpstreamAway):
        # What was read is no longer what was signed.
        await gateway.housing_fund(WHOSE)


async def test_a_bridge_that_says_nothing_is_given_up_by_who_asks(gateway: CityBridge, bridge: Bridge) -> None:
    bridge.next(SILENT)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await gateway.figures(WHOSE)
    assert time.monotonic() - began < 2
    assert await gateway.figures(WHOSE)


async def test_a_bridge_with_another_secret_refuses_us_and_one_that_is_not_there_is_away(bridge: Bridge) -> None:
    stranger = CityBridge(bridge.url, lambda: OTHER_SECRET)
    with pytest.raises(UpstreamAway):
        await stranger.figures(WHOSE)
    assert bridge.asked == []
    await stranger.close()
    nowhere = CityBridge("http://127.0.0.1:9/bridge", lambda: SECRET)
    with pytest.raises(UpstreamAway):
        await nowhere.figures(WHOSE)
    with pytest.raises(SendFailed):
        await nowhere.reachable()
    await nowhere.close()


async def test_being_reachable_asks_about_nobody(gateway: CityBridge, bridge: Bridge) -> None:
    await gateway.reachable()
    assert bridge.asked == []


async def test_a_document_about_somebody_else_is_refused_though_it_is_signed(gateway: CityBridge, bridge: Bridge) -> None:
    bridge.books["figures"] = lambda _: figures("110105194912310038")
    document = await gateway.figures(WHOSE)
    with pytest.raises(UpstreamWrong):
        read_figures(document, WHOSE, datetime.now(UTC))
    bridge.books["figures"] = figures


def test_an_answer_has_room_for_a_life_of_work() -> None:
    row = {
        "code": "310",
        "month": "2026-09",
        "baseFen": 10**9,
        "personalFen": 10**9,
        "employerFen": 10**9,
        "status": "backPaid",
    }
    assert len(str(row)) * 45 * 12 * 5 < MOST_BYTES


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"upstream_url": "http://bridge.example/x", "upstream_secret": SECRET}, "YIKA_UPSTREAM_URL"),
        ({"upstream_url": "https://user@bridge.example", "upstream_secret": SECRET}, "YIKA_UPSTREAM_URL"),
        ({"upstream_url": "https://bridge.example"}, "YIKA_UPSTREAM_SECRET"),
        ({"upstream_url": "https://bridge.example", "upstream_secret": "whsec_c2hvcnQ="}, "YIKA_UPSTREAM_SECRET"),
    ],
)
def test_a_bridge_that_cannot_be_safe_stops_the_start(setting: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_config(environment="sandbox", **setting)
    assert told in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.fixture
async def connected(mongodb_uri: str, tmp_path: Path, bridge: Bridge) -> AsyncIterator[Api]:
    """A sandbox of its own that is connected to the twin."""
    made = read_config(
        environment="sandbox",
        port=0,
        admin_port=0,
        mongodb_uri=mongodb_uri,
        mongodb_database=f"yika_bridge_{os.getpid()}",
        data_dir=tmp_path,
        log_level="error",
        notice_seconds=0,
        upstream_url=bridge.url,
        upstream_secret=SECRET,
    )
    save_keyring(made.keyring_path, new_keyring("sandbox"))
    async with Database(mongodb_uri, made.mongodb_database, deadline_seconds=10, pool=4) as database:
        try:
            await migrate(database, print)
            async with serving(made, seed_first=True) as served, Api(served.url) as client:
                yield client
        finally:
            await database.drop()


async def test_the_service_shows_what_the_bridge_says_and_what_it_said_last(connected: Api, bridge: Bridge) -> None:
    person, client = await connected.persona("active"), await connected.sign_in("active")
    fund = (await client.get("/v1/housing-fund")).json
    assert (fund["balanceFen"], fund["source"], fund["stale"]) == (4_200, "cityFund", False)
    (item,) = (await client.get("/v1/insurance/contributions")).json["items"]
    assert (item["type"], item["month"], item["source"]) == ("medical", "2026-09", "cityBureau")
    assert set(bridge.asked) == {("housing-fund", person["idNumber"]), ("contributions", person["idNumber"])}
    bridge.next(FORGED)
    assert (await client.get("/v1/housing-fund")).json == fund | {"stale": True}
    bridge.next(SILENT)
    began = time.monotonic()
    assert (await client.get("/v1/housing-fund")).json == fund | {"stale": True}
    assert time.monotonic() - began < 2


async def test_an_old_balance_is_brought_up_to_date_by_the_bridge(connected: Api, bridge: Bridge) -> None:
    card_id = (await connected.persona("active"))["cards"][0]["cardId"]
    await connected.advance(60 * 3600)
    client = await connected.sign_in("active")
    # Its clock is the machine's, so what it says is two days old by the sandbox's, and newer than what was known.
    items = {item["account"]: item for item in (await client.get(f"/v1/cards/{card_id}/balance")).json["items"]}
    assert [items[account]["balanceFen"] for account in ("medical", "pension")] == [777, 777]
    assert items["medical"]["source"] == "cityBureau"
    assert items["housingFund"]["source"] == "housingFundCentre"
    asked = len(bridge.asked)
    # It said what it had; nobody asks again right away.
    await client.get(f"/v1/cards/{card_id}/balance")
    assert len(bridge.asked) == asked
