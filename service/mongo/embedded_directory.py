"""The data directory of an embedded server: one owner at a time, and what an earlier owner left in it.

True here: the kernel lets go of the directory when its owner ends, however it ends. Never here: ending a
process that cannot be shown to serve this directory; a process id alone may be anybody's by now.
"""

import fcntl
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.mongo.embedded_servers import EmbeddedMongoError

# Below the range that systems use for outgoing connections, so that a kept port tends to stay free.
_PORTS: Final = range(27100, 32700)
_END_SECONDS: Final = 15.0
_LOG_LINES: Final = 6
_LOG_WIDTH: Final = 400


class DataDirectory:
    """A directory that this process owns until `release`. A process that forks shares it with its child."""

    def __init__(self, path: Path) -> None:
        """Take the directory, made when it is missing.

        Raises EmbeddedMongoError when another run owns it or when it cannot be written.
        """
        self.path = path.resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._owner = (self.path / "owner.lock").open("a+", encoding="ascii")
        except OSError as error:
            raise EmbeddedMongoError(f"the data directory {path} cannot be used: {error}") from error
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._owner.seek(0)
            pid = self._owner.read().strip() or "unknown"
            self._owner.close()
            if not isinstance(error, BlockingIOError):
                raise EmbeddedMongoError(f"the data directory {path} cannot be locked: {error}") from error
            raise EmbeddedMongoError(
                f"another run (process {pid}) is using {self.path}: stop it, or give this one a directory of its own"
            ) from None
        self._owner.truncate(0)
        self._owner.write(str(os.getpid()))
        self._owner.flush()

    def release(self) -> None:
        """Let the next run have it. Again: nothing happens."""
        self._owner.close()

    def end_leftovers(self, say: Callable[[str], None]) -> None:
        """End the servers that a killed run left here. We own the directory, so nobody alive uses them."""
        for file in self.path.glob("*.pid"):
            store = self.path / file.stem
            pid = _number_in(file)
            if pid and _serves(pid, store):
                say(f"Ending the database (process {pid}) that an earlier run left behind.")
                _end(pid, store)
            file.unlink(missing_ok=True)


class Store:
    """The data folder of one kind of server, and the files beside it that tell about its last run."""

    def __init__(self, directory: DataDirectory, name: str) -> None:
        self.path = directory.path / name
        self.log = directory.path / f"{name}.log"
        self.pid = directory.path / f"{name}.pid"
        self._port = directory.path / f"{name}.port"
        self._previous_log = directory.path / f"{name}.previous.log"

    def make(self) -> bool:
        """Make the folder when it is missing. Whether it is empty."""
        self.path.mkdir(exist_ok=True)
        return not any(self.path.iterdir())

    def kept_port(self) -> int:
        """The port of the last run, or 0."""
        port = _number_in(self._port)
        return port if port in _PORTS else 0

    def keep_port(self, port: int) -> None:
        """Remember the port for the next run."""
        self._port.write_text(str(port))

    def turn_log(self) -> None:
        """Keep the log of the last run, and no older one."""
        with suppress(FileNotFoundError):
            self.log.replace(self._previous_log)

    def log_says(self, words: str) -> bool:
        """Whether the log has these words, in whatever case."""
        return words.lower() in self.log.read_text(errors="replace").lower()

    def log_tail(self) -> str:
        """The end of the log, for a person."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        # mongod writes JSON, and after an error (E) or a fatal one (F) comes a page about its shutdown.
        grave = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
        shown = [f"  {line[:_LOG_WIDTH]}" for line in (grave or lines)[-_LOG_LINES:]]
        return "\n".join([f"The end of {self.log}:", *shown])


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As the servers do: connections of an earlier run that are still fading do not occupy a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A free port. Somebody else may be faster: who starts a server on it must be ready for that."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if is_free(port):
            return port
    raise EmbeddedMongoError(f"no port is free between {_PORTS.start} and {_PORTS.stop}")


def _number_in(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _serves(pid: int, store: Path) -> bool:
    """Whether the process lives and has the data folder on its command line."""
    try:
        return os.fsencode(store) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        if Path("/proc/self").exists():
            return False
    # No /proc on this system.
    listed = subprocess.run(  # noqa: S603  a number, no shell
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return f" {store} " in f"{listed.stdout.strip()} "


def _end(pid: int, store: Path) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, kind)
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline:
            if not _serves(pid, store):
                return
            time.sleep(0.02)
    raise EmbeddedMongoError(f"the database left behind (process {pid}) does not end")
