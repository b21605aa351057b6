"""`python -m service doctor`: what it finds, what it leaves alone."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from faults.workers import ROOT
from twins.mail_server import PASSWORD, USERNAME, mail_server
from twins.sms_provider import WEBHOOK_SECRET, sms_provider

from service.config import Config
from service.keyring import new_keyring, save_keyring
from service.mongo.client import Database
from service.mongo.keyring import is_production
from service.mongo.migrations import migrate
from service.regions import SHIPPED


@pytest.fixture
async def database(config: Config) -> AsyncIterator[Database]:
    """One of production, migrated, on which no process has served yet."""
    uri, name = config.mongodb_uri.get_secret_value(), f"{config.mongodb_database}_doctor"
    async with Database(uri, name, deadline_seconds=10, pool=4) as connection:
        await migrate(connection, print)
        yield connection
        await connection.drop()


@pytest.fixture
def environment(config: Config, database: Database, tmp_path: Path) -> dict[str, str]:
    del database
    (tmp_path / "regions").mkdir()
    pack = (SHIPPED / "990100.toml").read_text(encoding="utf-8").replace('code = "990100"', 'code = "010100"')
    (tmp_path / "regions" / "010100.toml").write_text(pack, encoding="utf-8")
    save_keyring(tmp_path / "keyring.json", new_keyring("production"))
    return {
        "YIKA_MONGODB_URI": config.mongodb_uri.get_secret_value(),
        "YIKA_MONGODB_DATABASE": f"{config.mongodb_database}_doctor",
        "YIKA_ISSUER": "https://hr.example",
        "YIKA_REGIONS_DIR": str(tmp_path / "regions"),
        "YIKA_DEFAULT_REGION": "010100",
        "YIKA_KEYRING": str(tmp_path / "keyring.json"),
    }


async def _asked(environment: Mapping[str, str]) -> tuple[int | None, dict[str, list[tuple[str, str]]]]:
    """How it ended, and state and words of each part."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "doctor"),
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("YIKA_")}
        | {"COLUMNS": "250", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said = (await process.communicate())[0].decode()
    assert "Traceback" not in said
    for secret in (PASSWORD, WEBHOOK_SECRET):
        assert secret not in said
    found: dict[str, list[tuple[str, str]]] = {}
    for part, state, told in re.findall(r"^│ (.+?) +│ (well|warning|wrong) +│ (.+?) +│$", said, re.MULTILINE):
        found.setdefault(part, []).append((state, told))
    return process.returncode, found


def _states(found: Mapping[str, list[tuple[str, str]]]) -> dict[str, str]:
    return {part: " ".join(state for state, _ in told) for part, told in found.items()}


async def test_all_is_well_and_nothing_was_sent_or_changed(
    environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    async with sms_provider() as provider, mail_server("starttls", tmp_path, auth=True) as mail:
        status, found = await _asked(
            environment
            | {
                "YIKA_SMS_GATEWAY": "webhook",
                "YIKA_SMS_WEBHOOK_URL": f"http://127.0.0.1:{provider.port}/sms",
                "YIKA_SMS_WEBHOOK_SECRET": WEBHOOK_SECRET,
                "YIKA_EMAIL_GATEWAY": "smtp",
                "YIKA_SMTP_HOST": "127.0.0.1",
                "YIKA_SMTP_PORT": str(mail.port),
                "YIKA_SMTP_CA_FILE": str(tmp_path / "ca.pem"),
                "YIKA_SMTP_FROM": "no-reply@hr.example",
                "YIKA_SMTP_USERNAME": USERNAME,
                "YIKA_SMTP_PASSWORD": PASSWORD,
            }
        )
        assert (provider.offers.total(), mail.taken, mail.connections) == (0, [], 1)
    assert status == 0
    parts = ("settings", "keyring", "region packs", "database", "migrations", "sealed data", "text messages", "email")
    # Face verification has no provider yet.
    unconnected = {"face verification": "warning", "city's systems": "warning"}
    assert _states(found) == dict.fromkeys(parts, "well") | unconnected
    assert not await is_production(database)


async def test_nobody_who_sends_is_a_warning_in_words(environment: dict[str, str]) -> None:
    status, found = await _asked(environment)
    assert status == 0
    assert {part for part, state in _states(found).items() if state == "warning"} == {
        "text messages",
        "email",
        "face verification",
        "city's systems",
    }
    assert "sign in" in found["text messages"][0][1]


async def test_everything_that_is_wrong_is_told_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "regions" / "010100.toml").write_text("code = 1\n", encoding="utf-8")
    status, found = await _asked(
        environment
        | {
            "YIKA_MONGODB_DATABASE": environment["YIKA_MONGODB_DATABASE"] + "_empty",
            "YIKA_KEYRING": str(tmp_path / "nowhere.json"),
            "YIKA_SMS_GATEWAY": "webhook",
            "YIKA_SMS_WEBHOOK_URL": "http://127.0.0.1:1/sms",
            "YIKA_SMS_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "YIKA_EMAIL_GATEWAY": "smtp",
            "YIKA_SMTP_HOST": "127.0.0.1",
            "YIKA_SMTP_PORT": "1",
            "YIKA_SMTP_FROM": "no-reply@hr.example",
        }
    )
    assert status == 1
    wrong = {part for part, state in _states(found).items() if "wrong" in state}
    assert wrong == {"keyring", "region packs", "migrations", "text messages", "email"}
    assert any("010100.toml" in told for _, told in found["region packs"])
    assert "migrate" in found["migrations"][0][1]


async def test_another_keyring_and_a_database_that_is_away_are_told(
    environment: dict[str, str], database: Database, tmp_path: Path
) -> None:
    await database.collection("keyring").insert({"_id": "mark", "mark": b"somebody else's"})
    status, found = await _asked(environment)
    assert (status, _states(found)["sealed data"]) == (1, "wrong")
    away = environment | {"YIKA_MONGODB_URI": "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=500"}
    status, found = await _asked(away)
    assert (status, _states(found)["database"]) == (1, "wrong")
    assert tmp_path.exists()


async def test_settings_that_cannot_be_read_are_told_line_by_line(environment: dict[str, str]) -> None:
    status, found = await _asked(environment | {"YIKA_SMTP_PORT": "0", "YIKA_SMS_GATEWAY": "pigeon"})
    assert status == 1
    assert {told.split(":")[0] for _, told in found["settings"]} == {"YIKA_SMTP_PORT", "YIKA_SMS_GATEWAY"}
