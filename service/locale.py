"""The two languages, and every sentence the service says in them.

True here: both languages have the same keys with the same placeholders, or the start stops. Never here: a
sentence that repeats what a caller sent, or from which one could tell whether a person exists.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Final, Literal, Self

from service.strict_toml import FaultyFileError, Objection, read

Locale = Literal["zh-CN", "en"]
DEFAULT_LOCALE: Final[Locale] = "zh-CN"
LOCALES: Final[tuple[Locale, ...]] = ("zh-CN", "en")

SHIPPED: Final = Path(__file__).parent / "locale"

# Browsers send fewer than 100 characters. Longer headers would let a stranger fill the cache with large keys.
LONGEST_HEADER: Final = 200

_RANGE: Final = re.compile(
    r"[ \t]*(?P<language>[a-z]{1,8}|\*)(?:-[a-z0-9]{1,8})*[ \t]*"
    r"(?:;[ \t]*q=(?P<weight>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?",
    re.ASCII | re.IGNORECASE,
)
_OF_LANGUAGE: Final[Mapping[str, Locale]] = {"zh": "zh-CN", "en": "en"}


@dataclass(frozen=True, slots=True)
class Bilingual:
    """One text in both languages, neither of them empty."""

    zh: str
    en: str

    def __post_init__(self) -> None:
        if not self.zh.strip() or not self.en.strip():
            message = "must not be empty in either language"
            raise ValueError(message)

    def read_in(self, locale: Locale) -> str:
        """The text in one of the languages."""
        return self.zh if locale == "zh-CN" else self.en


def negotiate(accept_language: str | None) -> Locale:
    """The language for an Accept-Language header (RFC 9110, 12.5.4); Chinese when the header decides nothing.

    Any Chinese is served as zh-CN and any English as en. Malformed ranges count for nothing; this never
    raises.
    """
    if not accept_language or len(accept_language) > LONGEST_HEADER:
        return DEFAULT_LOCALE
    return _negotiated(accept_language)


@lru_cache(maxsize=512)
def _negotiated(accept_language: str) -> Locale:
    weights: dict[str, float] = {}
    for written in accept_language.split(","):
        if match := _RANGE.fullmatch(written):
            language = match["language"].lower()
            weights[language] = max(weights.get(language, 0.0), float(match["weight"] or 1))
    anything = weights.pop("*", 0.0)
    # Named languages first and in the header's order, so that equal weights fall to what was named first.
    wanted = {_OF_LANGUAGE[language]: weight for language, weight in weights.items() if language in _OF_LANGUAGE}
    for locale in LOCALES:
        wanted.setdefault(locale, anything)
    best = max(wanted, key=lambda locale: wanted[locale])
    return best if wanted[best] > 0 else DEFAULT_LOCALE


class CatalogueError(FaultyFileError):
    """The message catalogues are not fit to start with."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every text by language and dotted key (`problems.not_found.title`). Read once, never changed."""

    texts: Mapping[Locale, Mapping[str, str]]

    @classmethod
    def load(cls, directory: Path) -> Self:
        """One file a language, `en.toml` for one. Raises CatalogueError when they are wrong or disagree."""
        try:
            texts = {locale: dict(_leaves(f"{locale}.toml", read(directory / f"{locale}.toml"))) for locale in LOCALES}
        except FaultyFileError as failure:
            raise CatalogueError(failure.objections) from None
        if objections := [*_disagreements(texts)]:
            raise CatalogueError(objections)
        return cls(MappingProxyType({locale: MappingProxyType(texts[locale]) for locale in LOCALES}))

    def text(self, locale: Locale, key: str, /, **values: object) -> str:
        """The text with its placeholders filled. Raises KeyError for an unknown key or a missing value."""
        return self.texts[locale][key].format_map(values)

    def __contains__(self, key: str) -> bool:
        """Whether there is such a key; it is then there in both languages."""
        return key in self.texts[DEFAULT_LOCALE]


def placeholders(template: str) -> frozenset[str]:
    """The names a text wants filled. Raises ValueError for anything but plain `{name}`."""
    names = set()
    for _, name, specification, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or specification or conversion:
            message = "has a placeholder that is more than a name"
            raise ValueError(message)
        names.add(name)
    return frozenset(names)


def _leaves(file: str, table: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        key = f"{above}{name}"
        if isinstance(value, dict):
            yield from _leaves(file, value, f"{key}.")
        elif isinstance(value, str) and value.strip():
            try:
                placeholders(value)
            except ValueError as failure:
                raise CatalogueError([Objection(file, key, str(failure))]) from None
            yield key, value
        else:
            raise CatalogueError([Objection(file, key, "must be a text that is not empty")])


def _disagreements(texts: Mapping[Locale, Mapping[str, str]]) -> Iterator[Objection]:
    every = set().union(*texts.values())
    for locale in LOCALES:
        for key in sorted(every - texts[locale].keys()):
            yield Objection(f"{locale}.toml", key, "is missing, another language has it")
    for key in sorted(set.intersection(*(set(texts[locale]) for locale in LOCALES))):
        if len({placeholders(texts[locale][key]) for locale in LOCALES}) > 1:
            yield Objection("", key, "has other placeholders in another language")


@cache
def catalogue() -> Catalogue:
    """The catalogues that come with the service. The start asks first, so that a faulty one stops it."""
    return Catalogue.load(SHIPPED)


def text(locale: Locale, key: str, /, **values: object) -> str:
    """A text of the shipped catalogues; see Catalogue.text."""
    return catalogue().text(locale, key, **values)
