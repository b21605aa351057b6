"""The pages of the flow: which there are, what each offers, and where each entry leads.

True here: every entry leads somewhere, every page hangs under a page that opens it, and every path begins at
home, or the start stops. Never here: a person. A page is the same for everybody in a region; what is
somebody's own goes in its panel.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from pydantic_core import to_json

from service.errors import Refusal
from service.locale import LOCALES, Locale
from service.regions import Region
from service.strict_toml import FaultyFileError, Objection, read, shape

SHIPPED: Final = Path(__file__).parent / "pages"
HOME: Final = "home"
# The page that a 401 names: where one says who one is.
VERIFY_PAGE: Final = "identity"

_REGION: Final = "{region}"
# Stands for a region's name while the files are checked at the start.
_ANY_REGION: Final = "X"

_strict = with_config(ConfigDict(extra="forbid", strict=True))
# What a panel is about: the card that matters most, the e-card, or the housing fund.
PanelOf = Literal["card", "ecard", "housingFund"]
_PageId = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
_Text = Annotated[str, Field(min_length=1)]


@_strict
@dataclass(frozen=True, slots=True)
class Crumb:
    """A step of the path from home to a page."""

    page_id: str
    title: str


@_strict
@dataclass(frozen=True, slots=True)
class Opens:
    """The page that comes next."""

    page: _PageId


@_strict
@dataclass(frozen=True, slots=True)
class Entry:
    """Something to tap. The icon is a name that the client draws, never an address."""

    entry_id: _PageId
    title: _Text
    subtitle: _Text
    icon: _PageId
    opens: Opens


@_strict
@dataclass(frozen=True, slots=True)
class Section:
    """Entries under one heading."""

    title: _Text
    entries: Annotated[tuple[Entry, ...], Field(min_length=1)]


@_strict
@dataclass(frozen=True, slots=True)
class Submit:
    """Where a form goes; `{name}` in the URL is that member of the page's panel, or of the answer to the form before."""

    method: Literal["POST"]
    url: Annotated[str, Field(pattern=r"^/v1/[A-Za-z0-9/{}-]+$")]


@_strict
@dataclass(frozen=True, slots=True)
class FormField:
    """One field of a form. A hidden one is sent with its value and never shown.

    The pattern (ECMAScript and Python alike) lets through whatever the service can make a number of:
    full-width characters, lower case, and anything but letters and digits between them. max_length is in
    characters as typed, so it is wider than the number itself. No length is given for what is hidden.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][A-Za-z]*$")]
    label: _Text
    type: Literal["text", "tel", "password", "hidden"]
    required: bool = True
    pattern: str | None = None
    max_length: Annotated[int, Field(ge=1)] | None = None
    help: _Text | None = None
    value: _Text | None = None


@_strict
@dataclass(frozen=True, slots=True)
class Form:
    """What to fill in, where it goes, and the page after success (none: back to where one came from)."""

    submit: Submit
    fields: tuple[FormField, ...] = ()
    opens: Opens | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page in one language, for one region. The revision changes whenever anything shown changes."""

    page_id: str
    title: str
    breadcrumb: tuple[Crumb, ...]
    requires: Literal["nothing", "session"]
    sections: tuple[Section, ...]
    form: Form | None
    has_panel: bool
    panel_of: PanelOf
    revision: str


@_strict
@dataclass(frozen=True, slots=True)
class _Sheet:
    """A file, in one language: a page before it knows its path."""

    page_id: _PageId
    title: _Text
    parent: _PageId | None = None
    requires: Literal["nothing", "session"] = "nothing"
    has_panel: bool = False
    panel_of: PanelOf = "card"
    sections: tuple[Section, ...] = ()
    form: Form | None = None

    def leads_to(self) -> Iterator[tuple[str, str]]:
        """Each page opened from here, with the field that opens it."""
        for at, section in enumerate(self.sections):
            for index, entry in enumerate(section.entries):
                yield f"sections.{at}.entries.{index}.opens.page", entry.opens.page
        if self.form and self.form.opens:
            yield "form.opens.page", self.form.opens.page


_SHEET: Final = TypeAdapter(_Sheet)


class PagesError(FaultyFileError):
    """Pages the service cannot start with."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Every page by id, made once for each language and region name: as many as regions allow."""

    files: Mapping[str, Mapping[str, object]]
    _made: dict[tuple[str, Locale, str], Page] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """One `<pageId>.toml` a page, both languages in it. Raises PagesError with all that is wrong."""
        files: dict[str, Mapping[str, object]] = {}
        objections: list[Objection] = []
        for path in sorted(directory.glob("*.toml")):
            try:
                files[path.stem] = read(path)
                for locale in LOCALES:
                    _sheet(path.stem, files[path.stem], locale, _ANY_REGION)
            except FaultyFileError as failure:
                objections.extend(found for found in failure.objections if found not in objections)
        # Where pages lead is asked only of pages that can be read.
        if not objections:
            objections.extend(_astray({name: _sheet(name, files[name], LOCALES[0], _ANY_REGION) for name in files}))
        if objections:
            raise PagesError(objections)
        return cls(files)

    def page(self, page_id: str, locale: Locale, region: Region) -> Page:
        """The page as people of a region see it. Raises Refusal `not_found`."""
        key = (page_id, locale, region.name(locale))
        made = self._made.get(key)
        if made is None:
            if page_id not in self.files:
                raise Refusal("not_found")
            made = self._made[key] = self._make(*key)
        return made

    def _make(self, page_id: str, locale: Locale, region_name: str) -> Page:
        sheet = _sheet(page_id, self.files[page_id], locale, region_name)
        path = [sheet]
        while (parent := path[0].parent) is not None:
            path.insert(0, _sheet(parent, self.files[parent], locale, region_name))
        page = Page(
            page_id=sheet.page_id,
            title=sheet.title,
            breadcrumb=tuple(Crumb(step.page_id, step.title) for step in path),
            requires=sheet.requires,
            sections=sheet.sections,
            form=sheet.form,
            has_panel=sheet.has_panel,
            panel_of=sheet.panel_of,
            revision="",
        )
        return replace(page, revision=hashlib.sha256(to_json(asdict(page))).hexdigest()[:32])


def _sheet(name: str, content: Mapping[str, object], locale: Locale, region_name: str) -> _Sheet:
    return shape(_SHEET, _in_language(content, "zh" if locale == "zh-CN" else "en", region_name), f"{name}.toml")


def _in_language(node: object, language: Literal["zh", "en"], region_name: str) -> object:
    # A table of exactly the two languages is a text. With one missing it stays a table, and is refused.
    if isinstance(node, dict):
        if node.keys() == {"zh", "en"}:
            chosen = node[language]
            return chosen.replace(_REGION, region_name) if isinstance(chosen, str) else chosen
        return {name: _in_language(value, language, region_name) for name, value in node.items()}
    if isinstance(node, list):
        return [_in_language(value, language, region_name) for value in node]
    return node


def _astray(sheets: Mapping[str, _Sheet]) -> Iterator[Objection]:
    for needed in (HOME, VERIFY_PAGE):
        if needed not in sheets:
            yield Objection(f"{needed}.toml", "", "is missing")
    for name, sheet in sheets.items():
        file = f"{name}.toml"
        if sheet.page_id != name:
            yield Objection(file, "page_id", "is not the name of the file")
        for where, target in sheet.leads_to():
            if target not in sheets:
                yield Objection(file, where, "is not a page")
        if reason := _wrong_parent(sheet, sheets):
            yield Objection(file, "parent", reason)
        for where, reason in _wrong_parts(sheet):
            yield Objection(file, where, reason)


def _wrong_parent(sheet: _Sheet, sheets: Mapping[str, _Sheet]) -> str | None:
    if sheet.page_id == HOME or sheet.parent is None:
        return None if (sheet.page_id == HOME) == (sheet.parent is None) else "is for every page but home"
    if sheet.parent not in sheets:
        return "is not a page"
    if sheet.page_id not in {target for _, target in sheets[sheet.parent].leads_to()}:
        return "has nothing that opens this page"
    passed = {sheet.page_id}
    above: str | None = sheet.parent
    while above is not None and above in sheets:
        if above in passed:
            return "never reaches home"
        passed.add(above)
        above = sheets[above].parent
    return None


def _wrong_parts(sheet: _Sheet) -> Iterator[tuple[str, str]]:
    entries = [entry.entry_id for section in sheet.sections for entry in section.entries]
    if len(entries) != len(set(entries)):
        yield "sections", "has an entry_id twice"
    if sheet.has_panel and sheet.requires != "session":
        yield "has_panel", "needs a session, a panel is somebody's own"
    for index, wanted in enumerate(sheet.form.fields if sheet.form else ()):
        if (wanted.type == "hidden") != (wanted.value is not None):
            yield f"form.fields.{index}.value", "and the type hidden go together"
        if wanted.type != "hidden" and wanted.max_length is None:
            yield f"form.fields.{index}.max_length", "is missing"
        if wanted.pattern is not None and not _is_pattern(wanted.pattern):
            yield f"form.fields.{index}.pattern", "is not a pattern from ^ to $"


def _is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return pattern.startswith("^") and pattern.endswith("$")
