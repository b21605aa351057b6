"""`generate` and `import` as real processes: killed, stopped, watched for what they say, and weighed."""

import asyncio
import json
import os
import pty
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from faults.workers import ROOT
from pymongo import MongoClient
from pymongo.database import Database as RawDatabase

from schemas.imports import FIELDS
from service.config import Config
from service.keyring import load_keyring, new_keyring, save_keyring
from service.regions import SHIPPED, Regions
from service.sandbox.personas import cast, people
from service.vault import Vault

Raw = RawDatabase[dict[str, Any]]
# What is sealed lies there under another nonce every time.
SEALED: Final = ("number", "identificationCode", "idNumber", "holderName", "name", "mobile")
SAID_NOWHERE: Final = frozenset(
    {"holderName", "idNumber", "mobile", "cardNumber", "identificationCode", "bankAccount", "bankCode", "status", "expiresOn"}
)
DONE, FAILED, REJECTED, STOPPED = 0, 1, 3, 4
REGIONS: Final = Regions.load_directory(SHIPPED)
PERSONAS: Final = {
    name for person in people(cast(REGIONS)) for name in (person.holder_id, *(card.card_id for card in person.cards))
}


class Place:
    """A database of its own with the environment of the commands that work on it."""

    def __init__(self, raw: Raw, environment: dict[str, str], folder: Path) -> None:
        self.raw = raw
        self.environment = environment
        self.folder = folder

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`python -m service …` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT,
            env=self.environment | dict(environment or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The same, to be disturbed; leads a process group of its own."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "service",
            *arguments,
            cwd=ROOT,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()

    def file(self, name: str, cards: int, *, spoil: int = 0, form: str = "ndjson") -> Path:
        """Generated rows; every so many are spoilt."""
        path = self.folder / name
        made = self.run("generate", "--cards", str(cards), "--format", form, "--output", str(path))
        assert made.returncode == 0, made.stderr
        if spoil:
            lines = path.read_text(encoding="utf-8").splitlines()
            lines[spoil - 1 :: spoil] = [line.replace('"mobile":"1', '"mobile":"2') for line in lines[spoil - 1 :: spoil]]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def everything(self) -> list[dict[str, Any]]:
        """Every imported card and person, opened."""
        ring = load_keyring(self.folder / "data" / "keys" / "keyring.json")
        vault = Vault(lambda: ring)
        found = []
        for collection in ("cards", "holders"):
            for document in self.raw[collection].find({"_id": {"$nin": [*PERSONAS]}}, sort=[("_id", 1)]):
                for field in SEALED:
                    if field in document:
                        document[field] = vault.open(collection, field, document["_id"], document[field])
                if account := document.get("bank", {}).get("account"):
                    document["bank"]["account"] = vault.open("cards", "bank.account", document["_id"], account)
                found.append(document)
        return found


class Places(Protocol):
    """Makes places."""

    def __call__(self, environment: str = "sandbox") -> Place: ...


@pytest.fixture
def place(config: Config, tmp_path: Path) -> Iterator[Places]:
    """Makes migrated databases that share one keyring."""
    save_keyring(tmp_path / "data" / "keys" / "keyring.json", new_keyring("sandbox"))
    uri = config.mongodb_uri.get_secret_value()
    names: list[str] = []
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:

        def make(environment: str = "sandbox") -> Place:
            name = f"{config.mongodb_database}_{secrets.token_hex(3)}"
            names.append(name)
            own = {key: value for key, value in os.environ.items() if not key.startswith("YIKA_")}
            own |= {
                "YIKA_ENVIRONMENT": environment,
                "YIKA_MONGODB_URI": uri,
                "YIKA_MONGODB_DATABASE": name,
                "YIKA_DATA_DIR": str(tmp_path / "data"),
            }
            made = Place(client[name], own, tmp_path)
            assert environment != "sandbox" or made.run("migrate").returncode == 0
            return made

        yield make
        for name in names:
            client.drop_database(name)


async def test_an_import_that_is_killed_again_and_again_ends_as_if_nobody_had_touched_it(place: Places) -> None:
    whole, broken = place(), place()
    path = whole.file("rows.ndjson", 8000, spoil=700)
    assert whole.run("import", str(path), "--rejected", str(whole.folder / "whole")).returncode == REJECTED
    arguments = ("import", str(path), "--rejected", str(broken.folder / "broken"))
    moments = sorted(random.sample(range(100, 7500), 3))
    for moment in moments:
        async with broken.started(*arguments) as process:
            async with asyncio.timeout(60):
                while broken.raw["cards"].count_documents({}) < moment:
                    await asyncio.sleep(0.005)
            workers = _children(process.pid)
            process.kill()
            await process.wait()
            async with asyncio.timeout(10):
                while any(Path(f"/proc/{pid}").exists() for pid in workers):
                    await asyncio.sleep(0.05)
    ended = broken.run(*arguments)
    assert ended.returncode == REJECTED, (moments, ended.stderr)
    assert broken.everything() == whole.everything(), moments
    assert (broken.folder / "broken").read_bytes() == (whole.folder / "whole").read_bytes(), moments
    lines = [json.loads(line)["line"] for line in (whole.folder / "whole").read_bytes().splitlines()]
    assert lines == [*range(700, 8001, 700)]


@pytest.mark.parametrize("group", [False, True])
async def test_an_import_that_is_told_to_stop_ends_at_a_batch_and_says_how_to_go_on(place: Places, *, group: bool) -> None:
    """A service manager signals every process of the group, a terminal too, an operator only one."""
    here = place()
    path = here.file("rows.ndjson", 30_000)
    async with here.started("import", str(path)) as process:
        async with asyncio.timeout(60):
            while not here.raw["imports"].find_one({"offset": {"$gt": 0}}):
                await asyncio.sleep(0.005)
        if group:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            said, complaints = await process.communicate()
    assert process.returncode == STOPPED, complaints
    assert b"the same command goes on from here" in said
    assert b"Traceback" not in complaints
    written = here.raw["imports"].find_one()
    assert written is not None
    assert 0 < written["line"] < 30_000
    # Nothing beyond what is counted, and no lock that anybody would have to wait for.
    assert len(here.everything()) == written["cardsAdded"] + written["peopleAdded"]
    ended = here.run("import", str(path))
    assert ended.returncode == DONE, ended.stderr
    assert "waiting" not in ended.stdout
    assert "30,000 cards added, 0 there already, 0 rows rejected" in ended.stdout


async def test_a_stopped_import_goes_on_only_in_the_file_that_it_was(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 12_000)
    async with here.started("import", str(path)) as process:
        async with asyncio.timeout(60):
            while not here.raw["imports"].find_one({"offset": {"$gt": 0}}):
                await asyncio.sleep(0.005)
        process.terminate()
        assert await process.wait() == STOPPED
    begun = here.raw["imports"].find_one()
    assert begun is not None
    content = path.read_bytes()
    # The same size and the same beginning; one row in the part that was read names somebody else's mobile.
    place_of_mobile = content.index(b'"mobile":"154', begun["offset"] - 1000 * 700) + len(b'"mobile":"154')
    path.write_bytes(content[:place_of_mobile] + b"00000000" + content[place_of_mobile + 8 :])
    ended = here.run("import", str(path))
    assert ended.returncode == DONE
    assert "another one than before" in ended.stdout
    assert "there already" in ended.stdout
    assert len([row for row in here.everything() if "number" in row]) == 12_000


def _children(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found: list[int] = []
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_children(int(child))]
    return found


async def test_who_takes_over_from_an_import_that_stood_still_is_not_disturbed_when_it_wakes(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 12_000)
    async with here.started("import", str(path)) as process:
        async with asyncio.timeout(60):
            while not here.raw["imports"].find_one({"offset": {"$gt": 0}}):
                await asyncio.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        same = await asyncio.to_thread(here.run, "import", str(path))
        assert (same.returncode, "another import is writing" in " ".join(same.stderr.split())) == (FAILED, True)
        other = await asyncio.to_thread(here.run, "import", str(path), "--rejected", str(here.folder / "beside"))
        assert other.returncode == DONE, other.stderr
        assert "another process has this import; waiting" in other.stdout
        process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            _, complaints = await process.communicate()
    assert (process.returncode, b"another process has gone on with this import" in b" ".join(complaints.split())) == (
        FAILED,
        True,
    )
    assert len([row for row in here.everything() if "number" in row]) == 12_000


async def test_an_import_whose_worker_was_killed_ends_in_words_and_goes_on(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 12_000)
    async with here.started("import", str(path)) as process:
        async with asyncio.timeout(60):
            while not here.raw["imports"].find_one({"offset": {"$gt": 0}}):
                await asyncio.sleep(0.005)
        os.kill(_children(process.pid)[-1], signal.SIGKILL)
        async with asyncio.timeout(30):
            _, complaints = await process.communicate()
    assert process.returncode == FAILED
    assert b"a worker process ended by itself; run the command again to go on" in b" ".join(complaints.split())
    assert b"Traceback" not in complaints
    ended = here.run("import", str(path))
    assert (ended.returncode, "waiting" in ended.stdout) == (DONE, False), ended.stderr
    assert len([row for row in here.everything() if "number" in row]) == 12_000


# --- What it says ---

CANARY: Final = {
    "holderName": "假柳canary",
    "idNumber": "19653319911112137X",
    "mobile": "25496531123",
    "insuranceRegionCode": "987654",
    "regionCode": "876543",
    "cardNumber": "N11564394999",
    "identificationCode": "990100D156000005ABBD6944CANARY",
    "generation": 77,
    "bankCode": "BCANARY7",
    "bankAccount": "99996554425541805431",
    "bankStatus": "canaryStatus",
    "productionStage": "canaryStage",
    "status": "canaryState",
    "medicalAccount": "canaryMedical",
    "expiresOn": "2035-99-31",
    "medicalBalanceFen": "794894canary",
}


def test_rejected_rows_say_line_field_and_reason_and_nothing_of_what_stood_there(place: Places) -> None:
    here = place()
    good = here.file("good.ndjson", 3).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in good]
    lines = [
        good[0],
        json.dumps(CANARY),
        *(json.dumps(rows[1] | {field: value}) for field, value in CANARY.items()),
        json.dumps(rows[1] | {CANARY["idNumber"]: 1}),
        good[1][:200],
        "x" * 70_000,
        "",
        good[2].replace("mobile", "mob\udcff"),
        good[1],
    ]
    path = here.folder / "rows.ndjson"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    done = here.run("import", str(path), environment={"YIKA_LOG_LEVEL": "debug"})
    assert done.returncode == REJECTED, done.stderr
    assert "2 cards added, 1 there already, 20 rows rejected" in done.stdout
    rejected = path.with_name("rows.ndjson.rejected.ndjson")
    assert str(rejected) in done.stdout
    told = [json.loads(line) for line in rejected.read_bytes().splitlines()]
    assert all(set(complaint) == {"line", "field", "reason"} for complaint in told)
    assert {complaint["line"] for complaint in told} == {2, *range(4, 22), 23}
    assert [(c["field"], c["reason"]) for c in told if c["line"] > 18] == [
        ("", "unknownField"),
        ("", "malformed"),
        ("", "tooLong"),
        ("", "notUtf8"),
    ]
    # A strange name is a name all the same.
    assert {c["field"] for c in told if 4 <= c["line"] <= 18} >= set(CANARY) - {"holderName"}
    everything = done.stdout + done.stderr + rejected.read_text()
    values = {
        str(value) for row in (*rows, CANARY) for name, value in row.items() if len(str(value)) > 5 and name in SAID_NOWHERE
    }
    assert [value for value in values if value in everything] == []


def test_csv_with_a_mark_quotes_and_carriage_returns_is_the_same_import(place: Places) -> None:
    plain, marked = place(), place()
    as_json = plain.file("rows.ndjson", 2000)
    assert plain.run("import", str(as_json)).returncode == DONE
    lines = plain.file("rows.csv", 2000, form="csv").read_bytes().split(b"\r\n")
    quoted = [b",".join(b'"' + cell + b'"' for cell in line.split(b",")) for line in lines[1:] if line]
    (marked.folder / "rows.csv").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([lines[0], *quoted]))
    done = marked.run("import", str(marked.folder / "rows.csv"))
    assert done.returncode == DONE, done.stderr
    assert marked.everything() == plain.everything()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the header lacks"),
        (b"holderName,idNumber\r\n", "the header lacks"),
        (",".join([*FIELDS, "pin"]).encode(), "is not a field of an import"),
        ("\ufeff张伟,11010519491231002X\r\n".encode(), "column 1 of the header is not a field"),
    ],
)
def test_a_csv_file_without_a_right_header_is_not_begun(place: Places, content: bytes, told: str) -> None:
    here = place()
    path = here.folder / "rows.csv"
    path.write_bytes(content)
    done = here.run("import", str(path))
    assert done.returncode == FAILED
    assert told in " ".join(done.stderr.split())
    assert "11010519491231002X" not in done.stderr


def test_an_empty_file_is_an_import_of_nothing(place: Places) -> None:
    here = place()
    path = here.folder / "rows.ndjson"
    path.write_bytes(b"")
    for _ in range(2):
        done = here.run("import", str(path))
        assert (done.returncode, done.stdout.splitlines()[0]) == (DONE, "0 cards added, 0 there already, 0 rows rejected")
    assert here.everything() == []


def test_what_cannot_be_begun_is_said_in_words(place: Places) -> None:
    here = place()
    path = here.file("rows.txt", 1)
    assert "is it NDJSON or CSV" in here.run("import", str(path)).stderr
    assert "a file of their own" in here.run("import", str(path), "--format", "ndjson", "--rejected", str(path)).stderr
    assert path.stat().st_size > 0
    assert "cannot be read" in here.run("import", str(here.folder / "none.ndjson")).stderr.replace("\n", " ")
    here.raw["migrations"].delete_one({"_id": 1})
    unmigrated = here.run("import", str(path), "--format", "ndjson")
    assert (unmigrated.returncode, "lacks migrations" in unmigrated.stderr) == (FAILED, True)


def test_on_a_terminal_there_is_a_bar(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 2500, spoil=1000)
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "import", str(path)],
            cwd=ROOT,
            env=here.environment | {"TERM": "xterm", "COLUMNS": "120"},
            stdout=follower,
        )
        os.close(follower)
        shown = b""
        with suppress(OSError):
            while read := screen.read(4096):
                shown += read
        assert process.wait(60) == REJECTED
    assert b"2,500 rows" in shown
    assert b"2 rejected" in shown
    assert b"100%" in shown


# --- Environments ---


def test_a_sandbox_takes_nobody_real_and_production_nobody_invented(place: Places) -> None:
    sandbox, production = place(), place("production")
    regions = sandbox.folder / "regions"
    regions.mkdir()
    pack = (ROOT / "service" / "regions" / "990100.toml").read_text(encoding="utf-8")
    (regions / "123400.toml").write_text(pack.replace('code = "990100"', 'code = "123400"'), encoding="utf-8")
    generated = json.loads(sandbox.file("one.ndjson", 1).read_text(encoding="utf-8"))
    invented = generated | {"generation": 3, "bankCode": "B901", "cardNumber": "N11564394"}
    real = invented | {"idNumber": "11010519491231002X", "cardNumber": "B17304887"}
    (sandbox.folder / "two.ndjson").write_text(
        "\n".join(json.dumps(row | _in_region("990100")) for row in (invented, real)), encoding="utf-8"
    )
    (sandbox.folder / "three.ndjson").write_text(
        "\n".join(json.dumps(row | _in_region("123400")) for row in (invented, real)), encoding="utf-8"
    )
    done = sandbox.run("import", str(sandbox.folder / "two.ndjson"))
    assert (done.returncode, "1 cards added" in done.stdout) == (REJECTED, True), done.stderr
    assert _complaints(sandbox.folder / "two.ndjson") == [{"line": 2, "field": "idNumber", "reason": "notInvented"}]
    # A sandbox that was given a real region does not serve it to an import.
    served = {"YIKA_REGIONS_DIR": str(regions), "YIKA_DEFAULT_REGION": "123400"}
    refused = sandbox.run("import", str(sandbox.folder / "three.ndjson"), environment=served)
    assert refused.returncode != DONE
    keys = sandbox.folder / "production.json"
    save_keyring(keys, new_keyring("production"))
    real_world = served | {"YIKA_KEYRING": str(keys), "YIKA_ISSUER": "https://cards.example"}
    assert production.run("migrate", environment=real_world).returncode == DONE
    done = production.run("import", str(sandbox.folder / "three.ndjson"), environment=real_world)
    assert (done.returncode, "1 cards added" in done.stdout) == (REJECTED, True), done.stderr
    assert _complaints(sandbox.folder / "three.ndjson") == [{"line": 1, "field": "idNumber", "reason": "invented"}]
    # What production imported, no sandbox and no other keyring touches.
    other = production.run("import", str(sandbox.folder / "two.ndjson"), environment={"YIKA_ENVIRONMENT": "sandbox"})
    assert (other.returncode, "has served production" in " ".join(other.stderr.split())) == (FAILED, True)
    save_keyring(sandbox.folder / "another.json", new_keyring("production"))
    foreign = real_world | {"YIKA_KEYRING": str(sandbox.folder / "another.json")}
    other = production.run("import", str(sandbox.folder / "three.ndjson"), environment=foreign)
    assert (other.returncode, "another keyring" in other.stderr) == (FAILED, True)
    assert production.raw["cards"].count_documents({}) == 1


def _in_region(code: str) -> dict[str, str]:
    return {"regionCode": code, "insuranceRegionCode": code, "identificationCode": f"{code}D156000005ABBD6944BAA1DDF3"}


def _complaints(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_name(f"{path.name}.rejected.ndjson").read_bytes().splitlines()]


# --- Weight ---


async def test_a_hundred_thousand_rows_take_no_more_memory_than_twenty_thousand(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 100_000)
    async with here.started("import", str(path), "--workers", "2") as process:
        early = late = 0
        async with asyncio.timeout(240):
            while process.returncode is None:
                await asyncio.sleep(0.2)
                progress = here.raw["imports"].find_one() or {}
                pids = [process.pid, *_children(process.pid)]
                if 10_000 <= progress.get("line", 0) <= 20_000:
                    early = max(early, _resident_kib(pids))
                if progress.get("line", 0) >= 80_000:
                    late = max(late, _resident_kib(pids))
    assert process.returncode == DONE
    assert early > 0
    # A third of a kilobyte kept of each row would be more than this; what is left is the allocator, which settles.
    assert late < early + 25_000, (early, late)
    assert late < 350_000


def _resident_kib(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")] or [
                "0 0"
            ]
            total += int(line.split()[1])
    return total


def test_generating_ends_quietly_when_nobody_reads_on(place: Places) -> None:
    here = place()
    shell = f"{sys.executable} -m service generate --cards 200000 | head -n 2"
    done = subprocess.run(
        ["/bin/sh", "-c", shell], cwd=ROOT, env=here.environment, capture_output=True, timeout=60, check=False
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (2, b"")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cards", "10", "--people", "3"), "one card or two"),
        (("--cards", "10", "--region", "440100"), "no such region"),
        (("--cards", "1", "--output", "/nowhere/rows"), "No such file"),
    ],
)
def test_what_cannot_be_generated_is_said_in_words(place: Places, arguments: tuple[str, ...], told: str) -> None:
    done = place().run("generate", *arguments)
    assert (done.returncode, told in " ".join(done.stderr.split())) == (FAILED, True), done.stderr
