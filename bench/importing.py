"""The import against the driver's `insert_many` of the very same documents.

True here: both run on all cores, on a fresh database with the product's validator and indexes; the documents of the bare
writer are those that the import made, already encoded, in batches of the same size, as many under way as the import has. The
import's clock is a person's: from the command to its end, with parsing, checking, sealing and starting in it. Never here: a
row that did not arrive.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from bench.ground import Ground
from bench.load import InvalidRunError
from bench.people import generate_command, import_command
from bench.programs import Running, end, is_over, run_to_end, start, tail

# As `service/import_runs.py` has it.
BATCHES_UNDER_WAY: Final = 3
_TENTH: Final = 0.1
_NEARLY: Final = 0.8
_LOOK_SECONDS: Final = 0.25
_LEAST_ROWS_A_SECOND: Final = 200
_KINDS: Final = ("holders", "cards")


def steps(rounds: int) -> int:
    """How often `measure` says what it does."""
    return 2 + 2 * rounds


def measure(where: Ground, cards: int, rounds: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Rounds of both, the one after the other. Raises InvalidRunError when a row is missing."""
    step(f"inventing {cards:,} cards")
    rows = where.folder / "import.ndjson"
    everywhere = where.cores.there
    run_to_end(generate_command(rows, cards, (cards * 9 + 9) // 10), everywhere, {}, cards / _LEAST_ROWS_A_SECOND + 60)
    done: list[dict[str, Any]] = []
    documents = where.folder / "documents"
    for number in range(rounds):
        step(f"round {number + 1}: import of {cards:,} cards")
        own = _fresh(where, f"import_{number}")
        before = _prepare(own)
        imported = _import(own, rows, cards, before)
        if not number:
            step("keeping the imported documents for the bare writer")
            _keep(own, documents, before)
        own.raw.client.drop_database(own.raw.name)
        step(f"round {number + 1}: bare insert_many of the same")
        bare_ground = _fresh(where, f"bare_{number}")
        bare = _bare(bare_ground, documents, cards)
        bare_ground.raw.client.drop_database(bare_ground.raw.name)
        done.append({**imported, "bare_rate": cards / bare["seconds"], "bare": bare})
    return {"cards": cards, "rounds": done}


def _fresh(where: Ground, name: str) -> Ground:
    made = replace(where, raw=where.raw.client[f"{where.raw.name}_{name}"])
    asyncio.run(made.migrate())
    return made


def _prepare(where: Ground) -> dict[str, list[str]]:
    """Let the sandbox make the database its own, outside the clock; who is there then."""
    nobody = where.folder / "nobody.ndjson"
    nobody.write_bytes(b"")
    run_to_end(import_command(nobody), where.cores.there, where.yika_environment, 60)
    return {kind: list(where.raw[kind].distinct("_id")) for kind in _KINDS}


def _import(where: Ground, rows: Path, cards: int, before: dict[str, list[str]]) -> dict[str, float]:
    log = where.log("import")
    started, process = start(import_command(rows), where.cores.there, log, where.yika_environment)
    try:
        samples = _watch(Running(process.pid, log, started), where)
        seconds = time.perf_counter() - started
        process.wait(10)
    except subprocess.TimeoutExpired:
        raise InvalidRunError("the import does not end") from None
    finally:
        if process.poll() is None:
            end(process)
    if process.returncode != 0:
        raise InvalidRunError(f"the import ended with status {process.returncode}\n{tail(log)}")
    there = where.raw.cards.count_documents({}) - len(before["cards"])
    if there != cards:
        raise InvalidRunError(f"{cards} cards were to be imported and {there} are there")
    return {
        "import_rate": cards / seconds,
        "import_seconds": seconds,
        "resident_tenth_mib": next(resident for part, resident in samples if part >= _TENTH),
        "resident_end_mib": samples[-1][1],
        "resident_most_mib": max(resident for _, resident in samples),
    }


def _watch(running: Running, where: Ground) -> list[tuple[float, float]]:
    """Look at it until it ends: how much of the file is done, and the memory of all its processes in MiB."""
    samples: list[tuple[float, float]] = []
    size = (where.folder / "import.ndjson").stat().st_size
    while not is_over(running.pid):
        run = where.raw.imports.find_one({"offset": {"$gt": 0}}, {"offset": 1, "done": 1})
        if run is not None and not run["done"]:
            samples.append((run["offset"] / size, running.resident_mib()))
        time.sleep(_LOOK_SECONDS)
    if not samples or samples[-1][0] < _NEARLY:
        raise InvalidRunError("the import was too short to look at its memory: more cards, please")
    return samples


def _keep(where: Ground, documents: Path, before: dict[str, list[str]]) -> None:
    """The documents as bytes, one file a collection."""
    for kind in _KINDS:
        raw = where.raw[kind].with_options(codec_options=CodecOptions(document_class=RawBSONDocument))
        with documents.with_suffix(f".{kind}").open("wb") as file:
            file.writelines(found.raw for found in raw.find({"_id": {"$nin": before[kind]}}))


def _bare(where: Ground, documents: Path, cards: int) -> dict[str, float]:
    environment = {
        "MONGODB_URI": where.peers_uri,
        "MONGODB_DATABASE": where.raw.name,
        "INPUT": str(documents),
        "IN_FLIGHT": str(BATCHES_UNDER_WAY),
    }
    command = [sys.executable, "-m", "bench.bare", "insert"]
    said = run_to_end(command, where.cores.there, environment, cards / _LEAST_ROWS_A_SECOND + 60)
    told: dict[str, float] = orjson.loads(said)
    if where.raw.cards.count_documents({}) != cards:
        raise InvalidRunError("the bare writer did not write every card")
    return told
