"""Our templates in the words of a provider who keeps the texts: which of theirs each is, under which sign name.

True here: every template of ours has a row in every language, and a row fills only places that our text has, or the start
stops with file, field and reason; so no message finds out that it has no row. Never here: a text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter, with_config

from service.locale import LOCALES, Locale
from service.strict_toml import FaultyFileError, Objection, located, parse, read_text, shape

_strict = with_config(ConfigDict(extra="forbid", strict=True))
_SignName = Annotated[str, Field(min_length=2, max_length=24)]


@_strict
@dataclass(frozen=True, slots=True)
class _RowFile:
    """One row. Without `parameters` their places have the names of ours; with it, theirs = ours."""

    template_code: Annotated[str, Field(pattern=r"^SMS_[0-9]{1,20}$")]
    sign_name: _SignName | None = None
    parameters: dict[str, str] | None = None


@_strict
@dataclass(frozen=True, slots=True)
class _File:
    """The whole file. `sign_name` is for the rows that say none."""

    templates: dict[str, dict[Locale, _RowFile]]
    sign_name: _SignName | None = None


_FILE: Final = TypeAdapter(_File)


@dataclass(frozen=True, slots=True)
class Row:
    """One of their templates. `parameters`: the names of its places, and the names of our values that fill them."""

    template_code: str
    sign_name: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SmsTemplates:
    """Rows by our template and language."""

    rows: Mapping[tuple[str, Locale], Row]

    @classmethod
    def load(cls, path: Path, wanted: Mapping[str, frozenset[str]]) -> Self:
        """The file's rows. wanted: our templates with the places of their texts. Raises FaultyFileError."""
        text = read_text(path)
        try:
            told = shape(_FILE, parse(text, path.name), path.name)
        except FaultyFileError as error:
            raise FaultyFileError(located(text, error.objections)) from None
        if faults := [Objection(path.name, field, reason) for field, reason in _faults(told, wanted)]:
            raise FaultyFileError(located(text, faults))
        return cls(
            {
                (template, locale): Row(
                    row.template_code,
                    row.sign_name or told.sign_name or "",
                    {name: name for name in sorted(wanted[template])} if row.parameters is None else row.parameters,
                )
                for template, rows in told.templates.items()
                for locale, row in rows.items()
            }
        )

    def row(self, template: str, locale: Locale) -> Row:
        """The row of a template; KeyError for one that is none of ours."""
        return self.rows[template, locale]


def _faults(told: _File, wanted: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str]]:
    for template in sorted(wanted.keys() | told.templates.keys()):
        rows = told.templates.get(template, {})
        if template not in wanted:
            yield f"templates.{template}", "is no template of ours that is sent by SMS"
            continue
        for locale in LOCALES:
            field = f"templates.{template}.{locale}"
            row = rows.get(locale)
            if row is None:
                yield field, "is missing: every template needs a row in every language"
                continue
            if row.sign_name is None and told.sign_name is None:
                yield f"{field}.sign_name", "is missing, and the file has no sign_name for all"
            for theirs, ours in (row.parameters or {}).items():
                if ours not in wanted[template]:
                    yield f"{field}.parameters.{theirs}", f"is filled with a value that our text does not have: {ours}"
