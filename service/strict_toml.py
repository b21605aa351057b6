"""A TOML file becomes a frozen value, or says what is wrong with it.

True here: every objection names the file, the field and the reason, and all of them are told at once. Never
here: a value guessed for what a file left out, and the faulty value itself in the text of an objection.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import to_json

T = TypeVar("T")

# On the class of a table: no unknown field, and no value of another type.
strict_shape = with_config(ConfigDict(extra="forbid", strict=True))

# How the parser ends its message. One that says "at end of document" has no line.
_PLACE: Final = re.compile(r" \(at line ([0-9]+), column [0-9]+\)$")


@dataclass(frozen=True, slots=True)
class Objection:
    """One thing wrong with a file: its name, the dotted path of the field ("" for the whole file) and why.

    line: where the field stands, or the table that lacks it, counted from 1; None while nobody looked.
    """

    file: str
    field: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        return ": ".join(part for part in (self.file, self.field, self.reason) if part) + where


class FaultyFileError(ValueError):
    """Files the service cannot start with; the text has one line for each objection."""

    def __init__(self, objections: Iterable[Objection]) -> None:
        self.objections: Final = tuple(objections)
        super().__init__("\n".join(map(str, self.objections)))


def read(path: Path) -> dict[str, object]:
    """The tables of one file. Raises FaultyFileError when it cannot be read or is not TOML in UTF-8."""
    return parse(read_text(path), path.name)


def read_text(path: Path) -> str:
    """The text of one file. Raises FaultyFileError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as failure:
        raise FaultyFileError([Objection(path.name, "", failure.strerror or "cannot be read")]) from None
    except UnicodeDecodeError:
        raise FaultyFileError([Objection(path.name, "", "is not UTF-8")]) from None


def parse(text: str, file: str) -> dict[str, object]:
    """The tables of a text. Raises FaultyFileError, with the line, when it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        place = _PLACE.search(str(failure))
        reason = _PLACE.sub("", str(failure))
        raise FaultyFileError([Objection(file, "", f"is not TOML: {reason}", int(place[1]) if place else None)]) from None


def shape(adapter: TypeAdapter[T], content: object, file: str) -> T:
    """The content as the adapter's type; no unknown field, no number in quotes. Raises FaultyFileError."""
    try:
        # By way of JSON, because strict mode takes arrays for tuples and tables for dataclasses only from
        # there.
        return adapter.validate_json(to_json(content), strict=True)
    except ValidationError as failure:
        raise FaultyFileError(
            Objection(file, ".".join(map(str, error["loc"])), error["msg"])
            for error in failure.errors(include_input=False, include_url=False, include_context=False)
        ) from None


_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY: Final = re.compile(r"""\s*([A-Za-z0-9_\-."']+?)\s*=""")
_LONG_TEXT: Final = re.compile(r"\"\"\"|'''")


def located(text: str, objections: Iterable[Objection]) -> Iterator[Objection]:
    """The objections with the lines they are about; a field that is missing has the line of the table that lacks it."""
    lines = _lines(text)
    for objection in objections:
        parts = objection.field.split(".") if objection.field else []
        known = (lines.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
        yield objection if objection.line else replace(objection, line=next((line for line in known if line), None))


def _lines(text: str) -> Mapping[str, int]:
    """Where each key and table of a sound TOML text begins. The elements of an array of tables count from 0."""
    found: dict[str, int] = {}
    elements: dict[str, int] = {}
    table, in_long_text = "", False
    for number, line in enumerate(text.splitlines(), 1):
        if not in_long_text and (header := _HEADER.match(line)):
            table = _numbered(_plain(header[2]), elements, opens=header[1] == "[[")
            found.setdefault(table, number)
        elif not in_long_text and (key := _KEY.match(line)):
            found.setdefault(f"{table}.{_plain(key[1])}".lstrip("."), number)
        in_long_text ^= len(_LONG_TEXT.findall(line)) % 2 == 1
    return found


def _plain(key: str) -> str:
    return ".".join(part.strip(" \t\"'") for part in key.split("."))


def _numbered(table: str, elements: dict[str, int], *, opens: bool) -> str:
    """The path of a table, with the number of the element wherever it lies in an array of tables."""
    path = ""
    parts = table.split(".")
    for place, part in enumerate(parts):
        path = f"{path}.{part}".lstrip(".")
        if opens and place == len(parts) - 1:
            elements[path] = elements.get(path, -1) + 1
        if path in elements:
            path = f"{path}.{elements[path]}"
    return path
