import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.workers import ROOT
from typer.testing import CliRunner, Result

from service.__main__ import command
from service.keyring import Keyring, load_keyring, new_keyring, save_keyring
from service.regions import SHIPPED

Run = Callable[..., Result]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys" / "keyring.json"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `python -m service keys …` on a data directory of its own, and checks what holds for all of them."""
    for name in [name for name in os.environ if name.startswith("YIKA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("YIKA_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(command, ["keys", *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == status, done.output
        return done

    return run


def _secrets(path: Path) -> list[str]:
    raw = json.loads(path.read_text())
    pems = [line for key in raw["signing"] for line in key.get("privateKey", "").splitlines()[1:-1]]
    return [raw["root"], *(key["key"] for key in raw["field"]), *pems]


def _ring(path: Path) -> Keyring:
    return load_keyring(path)


@pytest.mark.parametrize(("option", "purpose"), [((), "production"), (("--sandbox",), "sandbox")])
def test_a_keyring_is_made_where_there_is_none(run: Run, path: Path, option: tuple[str, ...], purpose: str) -> None:
    done = run("generate", *option)
    assert str(path) in done.stdout.replace("\n", "")
    assert _ring(path).purpose == purpose
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_keyring_that_is_there_is_never_overwritten(run: Run, path: Path) -> None:
    run("generate")
    before = path.read_bytes()
    for option in ((), ("--sandbox",)):
        assert "is there already; nothing was changed" in run("generate", *option, status=1).stderr.replace("\n", " ")
    assert path.read_bytes() == before


def test_no_command_shows_a_key(run: Run, path: Path) -> None:
    said = run("generate").output
    said += run("rotate").output + run("rotate", "--fields", "--lead", "0").output + run("rotate", "--lead", "0").output
    first, _, last = _ring(path).signing_keys
    secrets = _secrets(path)
    said += run("list").output + run("retire", first.kid).output + run("retire", last.kid, status=1).output
    said += run("revoke", first.kid).output + run("revoke", "s00", status=1).output + run("list").output
    assert [secret for secret in secrets + _secrets(path) if secret in said] == []


def _listed(run: Run) -> dict[str, tuple[str, str]]:
    """By key: its use, and the state it is shown in."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in run("list").stdout.splitlines() if "│" in line]
    return {row[0]: (row[1], row[3]) for row in rows}


def test_the_list_says_what_each_key_does(run: Run, path: Path) -> None:
    run("generate")
    run("rotate", "--lead", "0")
    time.sleep(0.01)
    run("rotate")
    run("rotate", "--fields")
    old, current, coming = (key.kid for key in _ring(path).signing_keys)
    sealer, next_sealer = (key.kid for key in _ring(path).field_keys)
    expected = {
        old: ("signing", "verifies"),
        current: ("signing", "signs"),
        coming: ("signing", "next"),
        sealer: ("fields", "seals"),
        next_sealer: ("fields", "next"),
    }
    assert _listed(run) == expected
    run("retire", old)
    assert _listed(run) == expected | {old: ("signing", "verifies receipts")}
    run("revoke", old)
    assert _listed(run) == {kid: told for kid, told in expected.items() if kid != old}


def test_a_lead_is_kept_and_none_lies_in_the_past(run: Run, path: Path) -> None:
    run("generate")
    now = time.time()
    run("rotate", "--lead", "30")
    run("rotate", "--fields")
    assert _ring(path).signing_keys[-1].signs_from - now == pytest.approx(30, abs=5)
    assert _ring(path).field_keys[-1].seals_from - now == pytest.approx(90, abs=5)
    before = path.read_bytes()
    run("rotate", "--lead", "-1", status=2)
    assert path.read_bytes() == before


@pytest.mark.parametrize("verb", ["retire", "revoke"])
def test_the_key_that_signs_and_one_that_is_not_there_stay_as_they_are(run: Run, path: Path, verb: str) -> None:
    run("generate")
    before = path.read_bytes()
    assert "rotate first" in run(verb, _ring(path).signing_keys[0].kid, status=1).stderr
    assert "no such key" in run(verb, "s000000000000", status=1).stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("arguments", [("list",), ("rotate",), ("retire", "s0"), ("revoke", "s0")])
def test_without_a_keyring_it_is_told_how_to_make_one(run: Run, path: Path, arguments: tuple[str, ...]) -> None:
    assert "keys generate" in run(*arguments, status=1).stderr
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_told_in_words(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    assert "cannot be written" in run("generate", status=1).stderr.replace("\n", " ")


def test_two_changes_at_once_are_made_one_after_the_other(path: Path, tmp_path: Path) -> None:
    """Each reads the file, adds a key and writes it: without waiting for the other one would drop the other's key."""
    save_keyring(path, new_keyring("production"))
    environment = os.environ | {"YIKA_DATA_DIR": str(tmp_path / "data")}
    arguments = [sys.executable, "-m", "service", "keys", "rotate", "--fields"]
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        ring = load_keyring(path)
        other = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2.5)
        save_keyring(path, ring.rotate_field(time.time()))
    finally:
        os.close(folder)
    assert other.wait(20) == 0
    assert len(load_keyring(path).field_keys) == 3


def test_the_openapi_document_is_printed_whole_without_any_configuration() -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("YIKA_")}
    arguments = [sys.executable, "-m", "service", "openapi"]
    done = subprocess.run(arguments, cwd=ROOT, env=bare, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    document = json.loads(done.stdout)
    assert document["openapi"].startswith("3.1")
    assert "/v1/activations" in document["paths"]


def test_a_command_that_is_none_is_refused_and_help_names_them_all(run: Run) -> None:
    run("destroy", status=2)
    shown = CliRunner().invoke(command, ["--help"]).stdout
    assert all(name in shown for name in ("serve", "sandbox", "migrate", "openapi", "keys", "policy"))


# --- What is loaded ---


SERVES = {"aiohttp.web", "handlers.routes"}
# As a spawned worker of an import begins: with the module that started its parent, then with what it is given to do.
_AS_A_WORKER = """
import runpy, sys
runpy.run_module("service.__main__", run_name="__mp_main__")
import service.import_workers
print(*sys.modules, file=sys.stderr)
"""
_AS_A_COMMAND = """
import sys
from service.__main__ import command
try:
    command(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def _loaded(script: str, *arguments: str) -> set[str]:
    """The modules that a process of its own has loaded by its end."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("operators", "service.operator_commands"),
        ("import", "service.import_commands"),
        ("generate", "service.generate_commands"),
        ("keys", "service.key_commands"),
        ("messages", "service.message_commands"),
        ("ledger", "service.ledger_commands"),
        ("policy", "service.policy_commands"),
        ("migrate", "service.migrate_commands"),
    ],
)
def test_a_command_that_does_not_serve_loads_nothing_of_what_does(name: str, module: str) -> None:
    loaded = _loaded(_AS_A_COMMAND, name, "--help")
    assert module in loaded
    assert {one for one in loaded if one.split(".")[0] in {"aiohttp", "handlers"}} == set()
    assert {one for one in loaded if one.endswith("_commands")} == {module}


def test_a_process_that_serves_does_load_it() -> None:
    assert _loaded(_AS_A_COMMAND, "serve", "--help") >= SERVES


def test_a_worker_of_an_import_loads_neither_the_commands_nor_what_serves() -> None:
    loaded = _loaded(_AS_A_WORKER)
    assert "service.import_workers" in loaded
    assert {one for one in loaded if one.split(".")[0] in {"aiohttp", "handlers"}} == set()
    assert {one for one in loaded if one.endswith("_commands")} == set()


# --- Policy packs ---


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `python -m service policy …` without any configuration."""
    for name in [name for name in os.environ if name.startswith("YIKA_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str, status: int = 0) -> Result:
        done = CliRunner().invoke(command, ["policy", *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert done.exit_code == status, done.output
        return done

    return run


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "packs"))


def _spoil(pack: Path, old: str, new: str) -> int:
    """Change a pack; the line where it now says the other thing."""
    content = pack.read_text(encoding="utf-8")
    assert old in content
    pack.write_text(content.replace(old, new, 1), encoding="utf-8")
    return content[: content.index(old)].count("\n") + 1


def test_sound_packs_are_shown_in_a_table(policy: Run, packs: Path) -> None:
    shown = policy("check", str(packs))
    assert shown.stderr == ""
    codes = [file.stem for file in sorted(SHIPPED.glob("*.toml"))]
    assert all(code in shown.stdout for code in codes)
    assert f"{len(codes)} in order in {packs}" in shown.stdout.replace("\n", "")


def test_without_a_folder_it_is_that_of_the_service(policy: Run, packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(SHIPPED) in policy("check").stdout.replace("\n", "")
    monkeypatch.setenv("YIKA_REGIONS_DIR", str(packs))
    assert str(packs) in policy("check").stdout.replace("\n", "")


def test_every_fault_of_every_pack_is_told_with_its_line(policy: Run, packs: Path) -> None:
    first = _spoil(packs / "990100.toml", "guardian_age = 16", "guardian_age = 6")
    second = _spoil(packs / "990100.toml", "max_tries = 5", 'max_tries = "[five]"')
    third = _spoil(packs / "990300.toml", 'replace = ["bank", "bureau"]', "replace = []")
    fourth = _spoil(packs / "990700.toml", "version = ", "version ")
    told = policy("check", str(packs), status=1).stderr.splitlines()
    assert [line.split(": ")[0] for line in told[:4]] == ["990100.toml", "990100.toml", "990300.toml", "990700.toml"]
    assert [line.split(": ")[1] for line in told[:3]] == [
        "policy.service_pin.max_tries",
        "policy.guardian_age",
        "policy.channels.replace",
    ]
    assert [int(line.rstrip(")").split("line ")[-1]) for line in told[:4]] == [second, first, third, fourth]
    assert "4 faults in 3 files" in told[4]
    assert "five" not in "".join(told)


def test_a_folder_without_packs_is_told(policy: Run, tmp_path: Path) -> None:
    assert "has no policy pack" in policy("check", str(tmp_path / "nowhere"), status=1).stderr


def test_the_rules_of_one_region_are_shown(policy: Run, packs: Path) -> None:
    _spoil(packs / "990200.toml", "temporary_loss_days = 10", "temporary_loss_days = 77")
    rows = [
        [cell.strip() for cell in line.strip("│ ").split("│")]
        for line in policy("show", "990200", str(packs)).stdout.splitlines()
    ]
    told = {row[0]: row[1] for row in rows if len(row) == 2}
    assert told["temporary_loss_days"] == "77"
    assert told["channels.cancelFormalLoss"] == "never"
    assert told["channels.lock"] == "bureau"
    assert "no such region" in policy("show", "110105", str(packs), status=1).stderr
