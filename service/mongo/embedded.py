"""A real MongoDB as a child process, a replica set of one, for development, the demo and the tests.

True here: the server ends with the process that started it, also when that is killed, and what a killed run
left behind never stops the next one. Never here: production, and never a second kind of database.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from service.mongo.embedded_directory import DataDirectory, Store, free_port, is_free
from service.mongo.embedded_servers import REPLICA_SET, Choice, EmbeddedMongoError, Server, find_server

__all__ = ["EmbeddedMongo", "EmbeddedMongoError"]

_START_SECONDS: Final = 30.0
# On a new port, mongod first asks whoever has the old one whether that is itself, and gives a mute one 30 s.
_MOVE_SECONDS: Final = 40.0
_STOP_SECONDS: Final = 15.0
_ATTEMPTS: Final = 5
_NO_PARAMETERS: Final[Mapping[str, str]] = MappingProxyType({})
_NOT_YET_INITIATED: Final = 94

# Runs between fork and the server: asks the kernel to end this process when its parent is gone, then becomes
# the server. A program of its own, because code after a fork is not safe in a process with threads.
_TIED: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class _EndedError(Exception):
    """The server ended by itself while we waited for it."""


class EmbeddedMongo:
    """A running server. Use it as a context manager, or call `stop`.

    Start it from a thread that lives as long as the server shall: Linux ends the server with the thread.
    """

    def __init__(self, directory: DataDirectory, server: Server, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._server = server
        self._say = say
        self._store = Store(directory, server.store)
        self._child: subprocess.Popen[bytes] | None = None
        self.port = 0

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        say: Callable[[str], None],
        server: Choice = "auto",
        parameters: Mapping[str, str] = _NO_PARAMETERS,
    ) -> Self:
        """Start a server on a data directory and wait until it takes writes: nearly always a second, 30 s at most.

        `say` gets a line for whatever a person should know. `parameters` are server parameters, such as
        `enableTestCommands`. Raises EmbeddedMongoError: nothing can run here, another run owns the directory,
        or the server does not come up; the last lines of its log are then in the text.
        """
        directory = DataDirectory(data_dir)
        try:
            directory.end_leftovers(say)
            mongo = cls(directory, find_server(server, say=say), say)
        except BaseException:
            directory.release()
            raise
        try:
            mongo._bring_up(parameters)
        except BaseException:
            mongo.stop()
            raise
        return mongo

    @property
    def uri(self) -> str:
        """Where it answers.

        A direct connection: with one member there is nothing to discover, and a driver that discovers would
        follow the address in the replica set's configuration, which is the old one until a changed port is
        written there. Majority writes, retryable writes, transactions and change streams work the same.
        """
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    @property
    def name(self) -> str:
        """For people: "MongoDB 6.0.5 (embedded wheel)"."""
        return self._server.name

    @property
    def version(self) -> str:
        """The server's own version, "6.0.5"."""
        return self._server.version

    @property
    def kind(self) -> str:
        """`mongod` or `secantus`."""
        return self._server.kind

    @property
    def pid(self) -> int:
        """Process id of the server, 0 once it was stopped."""
        return self._child.pid if self._child is not None else 0

    def stop(self) -> None:
        """End the server cleanly, by force after 15 s, and give the directory up. Again: nothing happens."""
        child, self._child = self._child, None
        if child is not None:
            child.terminate()
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            self._store.pid.unlink(missing_ok=True)
        self._directory.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _bring_up(self, parameters: Mapping[str, str]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        kept = self._store.kept_port()
        aside: Path | None = None
        for _ in range(_ATTEMPTS):
            empty = self._store.make()
            self.port = kept if kept and is_free(kept) else free_port()
            if kept and kept != self.port:
                self._say(f"Port {kept} is taken by somebody else; the database moves to {self.port}.")
                deadline += _MOVE_SECONDS
            kept = 0
            child = self._spawn(parameters)
            try:
                self._await_primary(child, deadline)
            except _EndedError:
                if self._store.log_says("address already in use"):
                    continue
                killed = child.returncode in {-signal.SIGKILL, -signal.SIGTERM}
                if empty or aside is not None or killed:
                    self._take_back(aside)
                    status = f"{self.name} ended while starting (status {child.returncode})."
                    raise EmbeddedMongoError(f"{status}\n{self._store.log_tail()}") from None
                aside = self._put_aside()
            else:
                self._store.keep_port(self.port)
                if aside is not None:
                    self._say(f"The data was unreadable and is put aside in {aside}; this is a fresh start.")
                return
        self._take_back(aside)
        raise EmbeddedMongoError(f"{self.name} found no free port in {_ATTEMPTS} attempts")

    def _put_aside(self) -> Path:
        store = self._store.path
        return store.rename(store.with_name(f"{store.name}.unreadable-{time.strftime('%Y%m%d-%H%M%S')}"))

    def _take_back(self, aside: Path | None) -> None:
        # An empty folder failed as well, so it was not the data's fault: a full disk, a missing permission.
        if aside is not None:
            self._store.path.rename(aside.with_name(f"{aside.name}.failed"))
            aside.rename(self._store.path)

    def _spawn(self, parameters: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = self._server.command(self._store.path, self.port, parameters)
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]
        self._store.turn_log()
        with self._store.log.open("wb") as output:
            # Its own session: Ctrl-C at the terminal reaches the service, which needs its database to drain.
            self._child = subprocess.Popen(  # noqa: S603  a program that we found, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._directory.path,
                start_new_session=True,
            )
        self._store.pid.write_text(str(self._child.pid))
        return self._child

    def _await_primary(self, child: subprocess.Popen[bytes], deadline: float) -> None:
        """Wait until it takes writes. Raises _EndedError when it ends, EmbeddedMongoError at the deadline."""
        while not _answers(self.port):
            self._check(child, deadline)
        with MongoClient[dict[str, Any]](
            self.uri, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000, socketTimeoutMS=5000
        ) as client:
            while not self._is_primary(client, child):
                self._check(child, deadline)

    def _is_primary(self, client: MongoClient[dict[str, Any]], child: subprocess.Popen[bytes]) -> bool:
        admin = client.admin
        here = f"127.0.0.1:{self.port}"
        try:
            if admin.command("serverStatus")["pid"] != child.pid:
                return False  # somebody was faster on this port, and our child is about to end
            if admin.command("hello").get("isWritablePrimary"):
                return True
            config = admin.command("replSetGetConfig")["config"]
            if config["members"][0]["host"] != here:
                config["members"][0]["host"] = here
                config["version"] += 1
                admin.command("replSetReconfig", config, force=True)
        except OperationFailure as error:
            if error.code == _NOT_YET_INITIATED:
                config = {"_id": REPLICA_SET, "members": [{"_id": 0, "host": here}]}
                with suppress(PyMongoError):
                    admin.command("replSetInitiate", config)
        except PyMongoError:
            pass  # not yet, or no more: the caller looks which
        return False

    def _check(self, child: subprocess.Popen[bytes], deadline: float) -> None:
        if child.poll() is not None:
            raise _EndedError
        if time.monotonic() > deadline:
            raise EmbeddedMongoError(f"{self.name} takes no writes yet; given up.\n{self._store.log_tail()}")
        time.sleep(0.01)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
