"""People who came by an import sign in, look, and activate like anybody else."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from api.client import Api
from faults.workers import ROOT

from service.config import Config
from service.mongo.client import Database


@pytest.fixture
def environment(config: Config) -> dict[str, str]:
    """That of a command which works on the database of the application."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")}
    return own | {
        "YIKA_ENVIRONMENT": "sandbox",
        "YIKA_MONGODB_URI": config.mongodb_uri.get_secret_value(),
        "YIKA_MONGODB_DATABASE": config.mongodb_database,
        "YIKA_DATA_DIR": str(config.data_dir),
    }


async def command(environment: Mapping[str, str], *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", *arguments, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def sign_in(api: Api, row: Mapping[str, Any]) -> Api:
    body = {"method": "sms", "name": row["holderName"], "idNumber": row["idNumber"], "mobile": row["mobile"]}
    started = await api.post("/v1/identity/verifications", body)
    assert started.status == 201, started.raw
    code = (await api.messages(row["mobile"]))[0]["code"]
    confirmed = await api.post(f"/v1/identity/verifications/{started.json['verificationId']}/confirm", {"code": code})
    assert confirmed.status == 200, confirmed.raw
    return api.as_(confirmed.json["accessToken"])


async def test_whoever_was_imported_signs_in_looks_and_activates_and_stays_so(
    api: Api, environment: Mapping[str, str], tmp_path: Path, database: Database
) -> None:
    path = tmp_path / "rows.ndjson"
    await command(environment, "generate", "--cards", "40", "--status", "sealed", "--region", "990100", "--output", str(path))
    assert "40 cards added" in await command(environment, "import", str(path))
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[7])
    client = await sign_in(api, row)
    (card,) = [item for item in (await client.get("/v1/cards")).json["items"] if item["generation"] == row["generation"]]
    assert (card["status"], card["productionStage"], card["bank"]["code"]) == ("sealed", "delivered", row["bankCode"])
    await api.post("/sandbox/faults", {"gateway": "upstream", "fault": "unavailable", "times": 5})
    balance = (await client.get(f"/v1/cards/{card['cardId']}/balance")).json
    # As old as the import says; and of whom nobody keeps newer books, nobody is asked.
    assert [item["stale"] for item in balance["items"]] == [True] * 3
    assert await database.collection("sandbox_faults").find_one({"_id": "upstream", "left": 5})
    assert {item["account"]: item["balanceFen"] for item in balance["items"]} == {
        name: row[f"{name}BalanceFen"] for name in ("medical", "pension", "housingFund")
    }
    details = {name: row[name] for name in ("idNumber", "cardNumber", "identificationCode")}
    done = await client.activate(details)
    assert (done.status, done.json["result"], done.json["cardId"]) == (200, "activated", card["cardId"])
    assert "40 there already" in await command(environment, "import", str(path))
    assert (await client.get(f"/v1/cards/{card['cardId']}")).json["status"] == "active"
    assert (await client.activate(details)).json["result"] == "alreadyActivated"


async def test_a_card_that_came_active_answers_like_one_that_was_activated_here(
    api: Api, environment: Mapping[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "rows.ndjson"
    await command(environment, "generate", "--cards", "60", "--people", "60", "--region", "990100", "--output", str(path))
    await command(environment, "import", str(path))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    row = next(row for row in rows if row["status"] == "active")
    client = await sign_in(api, row)
    (card,) = (await client.get("/v1/cards")).json["items"]
    assert card["functions"]["social"] == {"active": True, "activatedAt": "2025-03-14T09:30:00.000+08:00", "channel": "bank"}
    done = await client.activate({name: row[name] for name in ("idNumber", "cardNumber", "identificationCode")})
    assert (done.status, done.json["result"]) == (200, "alreadyActivated")
    (happened,) = (await client.get(f"/v1/cards/{card['cardId']}/history")).json["items"]
    assert (happened["event"], happened["to"], happened["channel"]) == ("activated", "active", "bank")
    assert (await client.get(f"/v1/activations/{done.json['activationId']}")).status == 200
