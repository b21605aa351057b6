"""`generate` and `import` as real processes: watched for what they say, and weighed."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from faults.imports import DONE, FAILED, REJECTED, Places, children_of
from faults.workers import ROOT

from schemas.imports import FIELDS
from service.keyring import new_keyring, save_keyring

SAID_NOWHERE: Final = frozenset(
    {"holderName", "idNumber", "mobile", "cardNumber", "identificationCode", "bankAccount", "bankCode", "status", "expiresOn"}
)
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


def test_a_file_of_which_no_row_is_good_is_read_to_its_end(place: Places) -> None:
    here = place()
    told = here.run("import", str(here.file("rows.ndjson", 3, spoil=1)))
    assert "Traceback" not in told.stderr
    assert "0 cards added, 0 there already, 3 rows rejected" in told.stdout
    assert here.everything() == []


def test_what_cannot_be_begun_is_said_in_words(place: Places) -> None:
    here = place()
    path = here.file("rows.txt", 1)
    assert "is it NDJSON or CSV" in here.run("import", str(path)).stderr
    assert "a file of their own" in here.run("import", str(path), "--format", "ndjson", "--rejected", str(path)).stderr
    assert path.stat().st_size > 0
    assert "cannot be read" in here.run("import", str(here.folder / "none.ndjson")).stderr.replace("\n", " ")
    nowhere = here.run("import", str(path), "--format", "ndjson", environment={"YIKA_MONGODB_URI": ""})
    assert (nowhere.returncode, "YIKA_MONGODB_URI cannot be used (it is not set)" in nowhere.stderr) == (FAILED, True)
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


async def test_sixty_thousand_rows_take_no_more_memory_than_twenty_thousand(place: Places) -> None:
    here = place()
    path = here.file("rows.ndjson", 60_000)
    async with here.started("import", str(path), "--workers", "2") as process:
        early = late = 0
        async with asyncio.timeout(240):
            while process.returncode is None:
                await asyncio.sleep(0.2)
                progress = here.raw["imports"].find_one() or {}
                pids = [process.pid, *children_of(process.pid)]
                if 10_000 <= progress.get("line", 0) <= 20_000:
                    early = max(early, _resident_kib(pids))
                if progress.get("line", 0) >= 48_000:
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
