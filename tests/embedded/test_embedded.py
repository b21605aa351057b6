"""The embedded database, with real servers and real kills."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection

from service.mongo.embedded import EmbeddedMongo, EmbeddedMongoError
from service.mongo.embedded_servers import Choice, find_server

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, time
from pathlib import Path
from service.mongo.embedded import EmbeddedMongo
mongo = EmbeddedMongo.start(Path(sys.argv[1]), say=print)
print(mongo.pid, mongo.uri, flush=True)
time.sleep(60)
"""


def can_run(server: Choice) -> bool:
    try:
        find_server(server, say=lambda _: None)
    except EmbeddedMongoError:
        return False
    return True


needs_mongod = pytest.mark.skipif(not can_run("mongod"), reason="no mongod can run on this machine")
needs_secantus = pytest.mark.skipif(not can_run("secantus"), reason="SecantusDB is not installed here")
each_server = pytest.mark.parametrize(
    "server", [pytest.param("mongod", marks=needs_mongod), pytest.param("secantus", marks=needs_secantus)]
)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")


@contextmanager
def notes(uri: str) -> Iterator[Collection[dict[str, Any]]]:
    """A collection whose writes are acknowledged by a majority and journaled."""
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        yield client.get_database("embedded", write_concern=WriteConcern("majority", j=True)).notes


@contextmanager
def stranger(port: int) -> Iterator[None]:
    """Somebody else's server on a port, who hangs up on everybody."""
    with socket.create_server(("127.0.0.1", port)) as listener:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends_within(seconds: float, pid: int) -> bool:
    deadline = time.monotonic() + seconds
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not runs(pid)


@each_server
def test_it_is_a_replica_set_and_a_later_start_finds_data_and_port_even_after_it_was_killed(
    server: Choice, tmp_path: Path
) -> None:
    with EmbeddedMongo.start(tmp_path, say=print, server=server) as first:
        assert first.version in first.name
        with notes(first.uri) as collection, collection.database.client.start_session() as session:
            session.with_transaction(lambda inner: collection.insert_one({"_id": "kept"}, session=inner))
            assert collection.database.client.admin.command("hello")["setName"]
        os.kill(first.pid, signal.SIGKILL)
    with EmbeddedMongo.start(tmp_path, say=print, server=server) as second:
        assert second.port == first.port
        with notes(second.uri) as collection:
            assert collection.find_one() == {"_id": "kept"}


@needs_mongod
def test_a_port_taken_by_a_stranger_is_given_up_and_the_data_moves_along(tmp_path: Path) -> None:
    said: list[str] = []
    with EmbeddedMongo.start(tmp_path, say=print, server="mongod") as first, notes(first.uri) as collection:
        collection.insert_one({"_id": "kept"})
    with (
        stranger(first.port),
        EmbeddedMongo.start(tmp_path, say=said.append, server="mongod") as second,
        notes(second.uri) as collection,
    ):
        collection.insert_one({"_id": "more"})
        assert collection.count_documents({}) == 2
    assert second.port != first.port
    assert f"Port {first.port} is taken" in said[-1]


@on_linux
def test_the_server_ends_with_a_run_that_is_killed_and_the_next_run_starts_at_once(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        pid, uri = owner.stdout.readline().split()
        with notes(uri) as collection:
            collection.insert_one({"_id": "kept"})
        owner.kill()
    with EmbeddedMongo.start(tmp_path, say=print) as mongo, notes(mongo.uri) as collection:
        assert collection.find_one() == {"_id": "kept"}
    assert ends_within(5, int(pid))


@needs_mongod
def test_a_server_left_behind_is_ended_and_somebody_elses_is_not(tmp_path: Path) -> None:
    said: list[str] = []
    program = find_server("mongod", say=print)
    with EmbeddedMongo.start(tmp_path, say=print, server="mongod") as mongo:
        port = mongo.port
    bystander = subprocess.Popen(["/bin/sleep", "60"])
    store = tmp_path / program.store
    left = subprocess.Popen(
        program.command(store, port, {}), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    (tmp_path / f"{program.store}.pid").write_text(str(left.pid))
    (tmp_path / "another.pid").write_text(str(bystander.pid))
    with EmbeddedMongo.start(tmp_path, say=said.append, server="mongod"):
        assert left.wait(5) is not None
        assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    assert said == [f"Ending the database (process {left.pid}) that an earlier run left behind."]


def test_a_second_run_on_a_directory_in_use_is_refused_at_once_and_harms_nobody(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path, say=print) as mongo:
        began = time.monotonic()
        with pytest.raises(EmbeddedMongoError, match=rf"process {os.getpid()}\) is using {tmp_path}"):
            EmbeddedMongo.start(tmp_path, say=print)
        assert time.monotonic() - began < 1
        with notes(mongo.uri) as collection:
            collection.insert_one({})


@needs_mongod
def test_data_that_cannot_be_read_is_put_aside_and_never_deleted(tmp_path: Path) -> None:
    said: list[str] = []
    with EmbeddedMongo.start(tmp_path, say=print, server="mongod"):
        pass
    (store,) = (entry for entry in tmp_path.iterdir() if entry.is_dir())
    (store / "WiredTiger.turtle").write_bytes(b"not a turtle")
    (store / "WiredTiger.wt").write_bytes(b"not a tree")
    with EmbeddedMongo.start(tmp_path, say=said.append, server="mongod") as mongo, notes(mongo.uri) as collection:
        collection.insert_one({})
    (aside,) = tmp_path.glob("*.unreadable-*")
    assert (aside / "WiredTiger.turtle").read_bytes() == b"not a turtle"
    assert str(aside) in said[-1]


@needs_mongod
def test_a_start_that_fails_for_another_reason_leaves_the_data_in_place_and_shows_the_log(tmp_path: Path) -> None:
    with EmbeddedMongo.start(tmp_path, say=print, server="mongod") as mongo, notes(mongo.uri) as collection:
        collection.insert_one({"_id": "kept"})
    with pytest.raises(EmbeddedMongoError, match="noSuchParameter"):
        EmbeddedMongo.start(tmp_path, say=print, server="mongod", parameters={"noSuchParameter": "1"})
    with EmbeddedMongo.start(tmp_path, say=print, server="mongod") as mongo, notes(mongo.uri) as collection:
        assert collection.find_one() == {"_id": "kept"}


@on_linux
def test_ctrl_c_at_the_terminal_does_not_reach_it_and_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    mongo = EmbeddedMongo.start(tmp_path, say=print)
    pid = mongo.pid
    assert os.getpgid(pid) != os.getpgid(0)
    assert os.getsid(pid) != os.getsid(0)
    mongo.stop()
    mongo.stop()
    assert not runs(pid)
    assert mongo.pid == 0


@on_linux
@needs_secantus
def test_where_mongod_cannot_run_the_stand_in_takes_over_with_one_line_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "libcurl.so.4").write_bytes(b"")  # the loader finds this one first, and it is no library
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    said: list[str] = []
    server = find_server("auto", say=said.append)
    assert server.kind == "secantus"
    (line,) = said
    assert "SecantusDB" in line
    assert "libcurl4" in line
    with pytest.raises(EmbeddedMongoError, match=r"libcurl\.so\.4"):
        find_server("mongod", say=said.append)


def test_a_mongod_on_path_comes_first_and_one_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "mongod"
    program.write_text("#!/bin/sh\necho 'db version v7.0.14'\n")
    program.chmod(0o755)
    assert find_server("auto", say=print).name == "MongoDB 7.0.14 (on PATH)"
    program.write_text("#!/bin/sh\necho 'db version v4.4.29'\n")
    assert "4.4" not in find_server("auto", say=print).name


def test_a_server_that_nobody_makes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedMongoError, match="auto, mongod or secantus"):
        EmbeddedMongo.start(tmp_path, say=print, server="mongo")  # type: ignore[arg-type]  # as the environment may say


def test_a_directory_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedMongoError, match="cannot be used"):
        EmbeddedMongo.start(tmp_path / "file" / "inside", say=print)
