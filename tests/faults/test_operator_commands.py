"""The command line of operators, against a production process that runs meanwhile."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from api.client import Api, Reply
from faults.workers import ROOT, Worker, worker

from service.config import Config
from service.keyring import new_keyring, save_keyring
from service.mongo.client import Database
from service.mongo.migrations import migrate
from service.regions import SHIPPED
from service.sandbox.invention import Inventor

SIGN_IN = "/v1/staff/sessions"
OUTLET = f"""\
kind = "bank"
regions = ["010100"]
bank = "B901"
credit_code = "{Inventor("outlet").credit_code("990100")}"
names = {{ zh = "云栖支行", en = "Yunqi outlet" }}
"""


class Commands:
    """Runs `python -m service operators …`."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")} | {
            "COLUMNS": "200",
            **environment,
        }
        self.outlet = folder / "outlet.toml"
        self.outlet.write_text(OUTLET, encoding="utf-8")

    async def __call__(self, *arguments: str, status: int = 0, typed: str = "") -> str:
        """What it said, on both ways; fails unless it ended so."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "operators", *arguments),
            cwd=ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            said, _ = await process.communicate(typed.encode())
        assert process.returncode == status, said.decode()
        assert "Traceback" not in said.decode()
        return said.decode()

    async def add(self, username: str, *more: str, **named: str) -> dict[str, str]:
        """Take a teller on; what is handed over, by its name."""
        options = ("--name", "李四光", "--role", "bankTeller", "--institution-file", str(self.outlet), *more)
        return handed_over(await self("add", username, *options, **named))  # type: ignore[arg-type]  # all of them are text


def handed_over(said: str) -> dict[str, str]:
    return dict(re.findall(r"^(operator|institution|username|password|authenticator) +(\S+)$", said, re.MULTILINE))


@pytest.fixture(scope="module")
async def environment(config: Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[str, str]]:
    """A production on a database of its own, with a region that is not invented: only its code is another."""
    folder = tmp_path_factory.mktemp("operators")
    (folder / "regions").mkdir()
    pack = (SHIPPED / "990100.toml").read_text(encoding="utf-8").replace('code = "990100"', 'code = "010100"')
    (folder / "regions" / "010100.toml").write_text(pack, encoding="utf-8")
    save_keyring(folder / "keyring.json", new_keyring("production"))
    uri, name = config.mongodb_uri.get_secret_value(), f"{config.mongodb_database}_operators"
    async with Database(uri, name, deadline_seconds=10, pool=4) as database:
        await migrate(database, print)
        yield {
            "YIKA_MONGODB_URI": uri,
            "YIKA_MONGODB_DATABASE": name,
            "YIKA_ISSUER": "https://hr.example",
            "YIKA_REGIONS_DIR": str(folder / "regions"),
            "YIKA_DEFAULT_REGION": "010100",
            "YIKA_KEYRING": str(folder / "keyring.json"),
        }
        await database.drop()


@pytest.fixture
def commands(environment: Mapping[str, str], tmp_path: Path) -> Commands:
    return Commands(environment, tmp_path)


@pytest.fixture(scope="module")
async def process(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    async with worker(environment, tmp_path_factory.mktemp("log") / "log") as made:
        yield made


@pytest.fixture
async def real(process: Worker, api: Api) -> AsyncIterator[Api]:
    """A client of production; the sandbox's is there so that its document is the one answers are held against."""
    del api
    async with Api(process.url) as client:
        yield client


async def sign_in(api: Api, account: Mapping[str, str], **instead: str) -> Reply:
    """Sign in with what was handed over."""
    secret = parse_qs(urlsplit(account["authenticator"]).query)["secret"][0]
    body = {"username": account["username"], "password": account["password"], "totp": pyotp.TOTP(secret).now()}
    return await api.post(SIGN_IN, body | instead)


async def test_an_operator_is_taken_on_signs_in_gets_new_credentials_and_is_disabled(real: Api, commands: Commands) -> None:
    account = await commands.add("Li.0002")
    assert account["username"] == "li.0002"
    tokens = await sign_in(real, account)
    assert tokens.status == 200
    assert tokens.json["operator"]["operatorId"] == account["operator"]
    assert tokens.json["operator"]["institution"] == {
        "institutionId": account["institution"],
        "name": "云栖支行",
        "kind": "bank",
        "regionCodes": ["010100"],
        "bankCode": "B901",
        "redeemsEcards": False,
    }
    client = real.as_(tokens.json["accessToken"])
    assert (await client.get("/v1/staff/me")).status == 200

    renewed = handed_over(await commands("reset", "li.0002"))
    assert (await client.get("/v1/staff/me")).code == "token_revoked"
    assert (await sign_in(real, account)).code == "sign_in_failed"
    tokens = await sign_in(real, renewed)
    client = real.as_(tokens.json["accessToken"])
    assert (await client.get("/v1/staff/me")).status == 200

    assert account["operator"] in await commands("disable", "li.0002")
    assert (await client.get("/v1/staff/me")).code == "token_revoked"
    assert (await sign_in(real, renewed)).code == "sign_in_failed"
    listed = await commands("list")
    assert re.search(rf"{account['operator']} .*li\.0002 .*bankTeller .*010100 .*disabled", listed)
    assert (await sign_in(real, handed_over(await commands("reset", "li.0002")))).status == 200
    assert re.search(r"li\.0002 .*active", await commands("list"))


async def test_a_password_from_standard_input_is_taken_and_not_repeated(real: Api, commands: Commands) -> None:
    said = await commands(
        *("add", "wang.0003", "--name", "王五", "--role", "bankTeller", "--institution-file", str(commands.outlet)),
        "--password-stdin",
        typed="a long password, with spaces\n",
    )
    assert "a long password" not in said
    account = handed_over(said)
    assert "password" not in account
    assert (await sign_in(real, account | {"password": "a long password, with spaces"})).status == 200


async def test_a_later_one_is_taken_on_where_the_first_works(commands: Commands) -> None:
    first = await commands.add("zhao.0004")
    said = await commands("add", "zhao.0005", "--name", "赵六", "--role", "bankTeller", "--institution", first["institution"])
    assert handed_over(said)["institution"] == first["institution"]


@pytest.mark.parametrize(
    ("username", "options", "told"),
    [
        ("zhou 0006", {}, "a username has"),
        ("q9", {}, "a username has"),
        ("zhou.0006", {"--name": "  "}, "a name has"),
        ("zhou.0006", {"--role": "bureauClerk"}, "is one of a bureau, and that institution is a bank"),
        ("zhou.0006", {"--institution-file": None}, "--institution-file or --institution"),
        ("zhou.0006", {"--institution-file": None, "--institution": "ins_nowhere"}, "there is no such institution"),
        ("zhou.0006", {"--institution-file": "nowhere.toml"}, "nowhere.toml: "),
    ],
)
async def test_what_cannot_be_is_said_in_words(
    commands: Commands, username: str, options: dict[str, str | None], told: str
) -> None:
    given = {"--name": "周七", "--role": "bankTeller", "--institution-file": str(commands.outlet)} | options
    arguments = [part for name, value in given.items() if value is not None for part in (name, value)]
    assert told in " ".join((await commands("add", username, *arguments, status=1)).split())
    assert username not in await commands("list")


async def test_a_username_that_is_taken_and_one_that_is_nobodys_are_said(commands: Commands) -> None:
    await commands.add("sun.0007")
    options = ("--name", "孙八", "--role", "bankTeller", "--institution-file", str(commands.outlet))
    assert "is taken" in await commands("add", "SUN.0007", *options, status=1)
    for command in ("reset", "disable"):
        assert "there is no such operator" in await commands(command, "nobody.0000", status=1)
    assert "12 to 128 characters" in await commands("reset", "sun.0007", "--password-stdin", status=1, typed="short\n")


async def test_a_role_that_is_none_and_no_password_in_an_argument(commands: Commands) -> None:
    await commands("add", "wu.0008", "--name", "吴九", "--role", "emperor", "--institution-file", "x", status=2)
    await commands("add", "wu.0008", "--password", "a long password", status=2)


async def test_another_keyring_is_told_before_anything_is_sealed_with_it(
    environment: Mapping[str, str], tmp_path: Path, process: Worker
) -> None:
    """The process has left its mark in the database."""
    del process
    save_keyring(tmp_path / "other.json", new_keyring("production"))
    other = Commands(dict(environment) | {"YIKA_KEYRING": str(tmp_path / "other.json")}, tmp_path)
    assert "another keyring" in await other("list", status=1)


async def test_a_database_that_lacks_migrations_is_told(environment: Mapping[str, str], tmp_path: Path) -> None:
    fresh = Commands(dict(environment) | {"YIKA_MONGODB_DATABASE": "yika_test_unmigrated"}, tmp_path)
    assert "python -m service migrate" in await fresh("list", status=1)


async def test_one_address_cannot_try_name_after_name(real: Api) -> None:
    """In a sandbox it may a hundred times as often."""
    body = {"password": "not this one", "totp": "000000"}
    replies = await asyncio.gather(*(real.post(SIGN_IN, body | {"username": f"nobody.{n}"}) for n in range(110)))
    codes = [reply.code for reply in replies]
    assert {*codes} == {"sign_in_failed", "rate_limited"}
    assert 80 <= codes.count("sign_in_failed") <= 100
    refused = next(reply for reply in replies if reply.code == "rate_limited")
    assert 0 < int(refused.headers["Retry-After"]) <= 3600
