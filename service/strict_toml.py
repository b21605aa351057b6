"""A TOML file becomes a frozen value, or says what is wrong with it.

True here: every objection names the file, the field and the reason, and all of them are told at once. Never
here: a value guessed for what a file left out, and the faulty value itself in the text of an objection.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Objection:
    """One thing wrong with a file: its name, the dotted path of the field ("" for the whole file) and why."""

    file: str
    field: str
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.field, self.reason) if part)


class FaultyFileError(ValueError):
    """Files the service cannot start with; the text has one line for each objection."""

    def __init__(self, objections: Iterable[Objection]) -> None:
        self.objections: Final = tuple(objections)
        super().__init__("\n".join(map(str, self.objections)))


def read(path: Path) -> dict[str, object]:
    """The tables of one file. Raises FaultyFileError when it cannot be read or is not TOML in UTF-8."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise FaultyFileError([Objection(path.name, "", failure.strerror or "cannot be read")]) from None
    except UnicodeDecodeError:
        raise FaultyFileError([Objection(path.name, "", "is not UTF-8")]) from None
    except tomllib.TOMLDecodeError as failure:
        raise FaultyFileError([Objection(path.name, "", f"is not TOML: {failure}")]) from None


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
