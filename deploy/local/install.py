"""Installs a lock file into .venv of the checkout, with python3's own pip and every hash checked.

True here: after a run the environment holds what the lock file says, or nothing uses it. An install that was
interrupted is begun anew, two at once take turns, and one that is up to date costs nothing. Never here: an
import from outside the standard library; this runs before anything is installed.
"""

import fcntl
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
STAMP = VENV / ".yika-installed"
# There from before the first file until after the last one.
UNFINISHED = VENV / ".yika-unfinished"
# Which locks an environment satisfies: the development lock holds every pin of the sandbox's.
COVERS = {"sandbox": ("sandbox",), "dev": ("sandbox", "dev")}
LOG_LINES = 15


class InstallError(Exception):
    """The environment could not be made. The text is for the person at the terminal."""


def main(*arguments: str) -> int:
    """Make the environment ready, or with `--is-ready` only say by the exit status whether it is."""
    *options, kind = arguments
    if is_ready(kind):
        return 0
    if options:
        return 1
    with (ROOT / ".venv.lock").open("w") as turn:
        take_turn(turn)
        if not is_ready(kind):  # the one before us may have done it
            install(kind, turn)
    return 0


def take_turn(turn: IO[str]) -> None:
    """Wait until no other make is installing. The kernel ends the turn of one that was killed."""
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Waiting for another make to finish installing ...", flush=True)
        fcntl.flock(turn, fcntl.LOCK_EX)


def is_ready(kind: str) -> bool:
    """Whether the environment holds this lock, made by a Python like the one that asks."""
    stamp = read_stamp()
    return PYTHON.exists() and stamp.get("interpreter") == interpreter() and stamp.get(kind) == digest(kind)


def install(kind: str, turn: IO[str]) -> None:
    """Bring the environment to the lock. Raises InstallError."""
    started = time.monotonic()
    clear_away_what_cannot_be_built_upon()
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    if not PYTHON.exists():
        print("Making .venv ...", flush=True)
        run([sys.executable, "-I", "-m", "venv", str(VENV)], "making .venv", turn)
    packages = len(re.findall(r"^[a-z].*==", lock(kind).read_text(), re.MULTILINE))
    print(f"Installing the {packages} packages of deploy/lock/{kind}.txt into .venv ...", flush=True)
    pip = [str(PYTHON), "-I", "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
    # Built wheels only: building one would run its code and ask for compilers.
    pip += ["--progress-bar=off", "--only-binary=:all:", "--no-deps", "--require-hashes"]
    run([*pip, "-r", str(lock(kind))], "installing", turn)
    digests = {covered: digest(covered) for covered in COVERS[kind]}
    STAMP.write_text(json.dumps({"interpreter": interpreter(), **digests}))
    UNFINISHED.unlink()
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def clear_away_what_cannot_be_built_upon() -> None:
    """Empty an environment that was left unfinished: pip takes a half-copied package for an installed one.

    Raises InstallError for an environment that is not ours.
    """
    VENV.mkdir(exist_ok=True)
    entries = [entry for entry in VENV.iterdir() if entry != UNFINISHED]
    if not UNFINISHED.exists():
        if entries and not STAMP.exists():
            raise InstallError(f"{VENV} was not made by this Makefile: move it away, then run make again")
        if PYTHON.exists() and read_stamp().get("interpreter") == interpreter():
            return
    UNFINISHED.touch()
    if entries:
        print("Making .venv anew: an install was interrupted, or Python has changed.", flush=True)
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def run(command: list[str], doing: str, turn: IO[str]) -> None:
    """Run a command, its output into the log, its progress onto the terminal. Raises InstallError.

    It shares our turn, so that the next make waits for it also when we are killed and it lives on.
    """
    on_terminal = sys.stdout.isatty()
    step = 0
    said: list[str] = []
    with LOG.open("a") as log:
        process = subprocess.Popen(  # noqa: S603  our own command, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=(turn.fileno(),),
        )
        for line in process.stdout or ():
            log.write(line)
            said.append(line)
            match = re.match(r"Collecting ([\w.-]+)|Installing collected packages", line)
            if match and on_terminal:
                step += 1
                print(f"\r\033[K  {step} {match[1] or 'putting them in place'}", end="", flush=True)
    if step:
        print("\r\033[K", end="", flush=True)
    if process.wait() != 0:
        first = next((place for place, line in enumerate(said) if line.startswith("ERROR")), -LOG_LINES)
        why = "".join(f"  {line}" for line in said[first:][:LOG_LINES])
        raise InstallError(
            f"{doing} failed; the whole log is {LOG}\n{why}"
            "The next make tries again. Behind a package mirror, set PIP_INDEX_URL as for pip itself."
        )


def read_stamp() -> dict[str, str]:
    """What was installed, empty when that is not known."""
    try:
        return {str(key): str(value) for key, value in json.loads(STAMP.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def interpreter() -> str:
    """What installed packages are bound to: after an upgrade of the system's Python they are of no use."""
    return f"{sys.implementation.cache_tag}-{platform.machine()}"


def lock(kind: str) -> Path:
    """The lock file of a kind of environment."""
    return ROOT / "deploy" / "lock" / f"{kind}.txt"


def digest(kind: str) -> str:
    """What tells one version of a lock from another."""
    return hashlib.sha256(lock(kind).read_bytes()).hexdigest()


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except InstallError as error:
        sys.exit(f"yika: {error}")
    except OSError as error:
        sys.exit(f"yika: {error}")
    except KeyboardInterrupt:
        print("\nyika: interrupted; the next make begins this install anew.", file=sys.stderr)
        sys.exit(130)
