"""The two files of an import: the one that is read, and the one with the rows that were not taken.

True here: memory is bounded whatever the file holds, for a line has at most LONGEST bytes and a batch at most ROWS lines; a
place in the file is known by the digest of all that lies before it, so going on in another file is noticed. What is said
about a rejected row is line, field and reason. Never here: a value, in either a message or the rejected rows.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple, Self

import orjson

from service.mendable import MendableError

Format = Literal["ndjson", "csv"]

LONGEST: Final = 64 * 1024
ROWS: Final = 1000
# What tells one file from another before it is read: its size, and its beginning.
_HEAD: Final = 64 * 1024
_BLOCK: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class FileError(MendableError):
    """A file cannot be read or written; the text says why, with the path and nothing of the content."""


class Complaint(NamedTuple):
    """Why a row is not taken."""

    line: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file somebody is: bytes and lines that lie before, and the SHA-256 of those bytes."""

    offset: int
    line: int
    digest: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines as they stand there, without their ends; None for one that is too long. `after`: the place behind them."""

    first: int
    lines: tuple[bytes | None, ...]
    after: Place


class SourceFile:
    """A file of rows, read from front to back. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Raises FileError."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise FileError(f"{path} is no plain file: an import goes on where it was, which a pipe or a folder cannot do")
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}") from None
        self.size = os.fstat(self._file.fileno()).st_size
        head = self._file.read(_HEAD)
        self.path = path
        self.identity = f"{self.size}:{hashlib.sha256(head).hexdigest()}"
        self._seek(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def place(self) -> Place:
        """Where the reader is."""
        return Place(self._offset, self._line, self._digest.hexdigest())

    def begin(self) -> None:
        """Go to the first line, behind a byte order mark."""
        self._seek(0)
        if self._take(len(_BOM)) != _BOM:
            self._seek(0)

    def go_to(self, place: Place) -> bool:
        """Go to a place; False, and nowhere certain, when what lies before it is not what it was."""
        self._seek(0)
        while (left := place.offset - self._offset) > 0:
            if not self._take(min(left, _BLOCK)):
                return False
        self._line = place.line
        return self._digest.hexdigest() == place.digest

    def line(self) -> bytes | None:
        """The next line; empty at the end of the file, or when there is nothing on it; None for one that is too long."""
        read = self._take_line()
        self._line += 1
        return read

    def lines(self) -> Lines | None:
        """The next ROWS lines, or those that are left; None at the end."""
        first = self._line + 1
        some: list[bytes | None] = []
        while len(some) < ROWS and self._offset < self.size:
            some.append(self.line())
        return Lines(first, tuple(some), self.place) if some else None

    def _seek(self, offset: int) -> None:
        self._file.seek(offset)
        self._offset = offset
        self._line = 0
        self._digest = hashlib.sha256()

    def _take(self, size: int) -> bytes:
        return self._count(self._file.read(size))

    def _take_line(self) -> bytes | None:
        read = self._count(self._file.readline(LONGEST + 2))
        whole = read.removesuffix(b"\n").removesuffix(b"\r")
        if len(whole) <= LONGEST:
            return whole
        while read and not read.endswith(b"\n"):
            read = self._count(self._file.readline(_BLOCK))
        return None

    def _count(self, read: bytes) -> bytes:
        # Bytes that came after the file was opened are another day's: what is read is the file as it was then.
        read = read[: max(0, self.size - self._offset)]
        self._offset += len(read)
        self._digest.update(read)
        return read


class RejectedFile:
    """Where the rejected rows are written, one JSON object a complaint. One process at a time; a context manager."""

    def __init__(self, path: Path) -> None:
        """Opens or makes it, and keeps what is in it. Raises FileError, also when another import writes to it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise FileError(f"another import is writing to {path}") from None
        self.path = path
        self._file = os.fdopen(descriptor, "r+b")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def cut(self, size: int) -> bool:
        """Keep the first bytes and go on behind them; False when there are fewer."""
        if self._file.seek(0, os.SEEK_END) < size:
            return False
        self._file.truncate(size)
        self._file.seek(size)
        return True

    def write(self, complaints: Iterable[Complaint]) -> int:
        """Add complaints, safe on disk on return; how many bytes the file has now. Raises FileError."""
        lines = b"".join(orjson.dumps(complaint._asdict()) + b"\n" for complaint in complaints)
        try:
            if lines:
                self._file.write(lines)
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise FileError(f"{self.path} cannot be written: {error.strerror}") from None
        return self._file.tell()
