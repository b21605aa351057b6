"""Regions: who they are, which banks' cards they issue, and their policy, read from one file a region.

True here: a pack is whole and consistent or the start stops, naming file, field, line and reason; once loaded nothing
changes. Never here: a rule of a real city (the shipped regions are invented, codes 99xxxx), and a region derived from an ID
number, a card's issuer or an insurance relation: those are three different things.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import Field, TypeAdapter

from service.clock import CHINA
from service.errors import Refusal
from service.locale import LOCALES, Bilingual, Locale
from service.policies import (
    ACTS,
    CATEGORIES,
    CHANNELS,
    MATERIALS,
    ONLINE,
    Act,
    ActivationChannel,
    Category,
    Channel,
    Generation,
    Material,
    Publications,
    RegionPolicy,
    ServicePinRule,
    months_after,
)
from service.policy_checks import contradictions
from service.publications import facts_of, faults_of, written_out
from service.strict_toml import FaultyFileError, Objection, located, parse, read_text, shape, strict_shape

# The words of a policy too, so that a noun which asks a region needs one import.
__all__ = [
    "ACTS",
    "CATEGORIES",
    "CHANNELS",
    "MATERIALS",
    "ONLINE",
    "SHIPPED",
    "Act",
    "ActivationChannel",
    "ActivationGuide",
    "ActivationWay",
    "Bank",
    "Category",
    "Channel",
    "Generation",
    "Material",
    "PolicyError",
    "Publications",
    "Region",
    "RegionPolicy",
    "Regions",
    "ServicePinRule",
    "months_after",
]

SHIPPED: Final = Path(__file__).parent / "regions"


@strict_shape
@dataclass(frozen=True, slots=True)
class Bank:
    """A bank whose cards a region issues, by the code that its tellers and cards carry."""

    code: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,20}$")]
    names: Bilingual

    def name(self, locale: Locale) -> str:
        """The bank's name in a language."""
        return self.names.read_in(locale)


@dataclass(frozen=True, slots=True)
class ActivationWay:
    """One way to activate: a channel and the materials to bring, in the order of the policy."""

    channel: Channel
    materials: tuple[Material, ...]


@dataclass(frozen=True, slots=True)
class ActivationGuide:
    """Every way in which a category of holder activates a card in a region; never empty."""

    category: Category
    ways: tuple[ActivationWay, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A region by its GB/T 2260 code, with its banks and its policy.

    `cut_offs`: by generation, the moment from which its cards no longer count, where one was announced; every look at a card
    asks for it, so it is worked out once.
    """

    code: str
    names: Bilingual
    interconnected: bool
    banks: tuple[Bank, ...]
    policy: RegionPolicy
    cut_offs: Mapping[int, datetime] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        announced = {known.number: known.cut_off_on for known in self.policy.generations if known.cut_off_on is not None}
        midnights = {number: datetime.combine(day, time(), CHINA).astimezone(UTC) for number, day in announced.items()}
        object.__setattr__(self, "cut_offs", MappingProxyType(midnights))

    def name(self, locale: Locale) -> str:
        """The region's name in a language."""
        return self.names.read_in(locale)

    def activation_guide(self, category: Category) -> ActivationGuide:
        """Where a holder of a category activates, and with what."""
        return ActivationGuide(
            category,
            tuple(
                ActivationWay(way.channel, way.materials[category])
                for way in self.policy.activation
                if category in way.materials
            ),
        )

    def is_retired(self, generation: int, now: datetime) -> bool:
        """Whether cards of a generation no longer work at a moment: the calendar at +08:00 has reached their cut-off."""
        cut_off = self.cut_offs.get(generation)
        return cut_off is not None and now >= cut_off

    def serves_cards_of(self, other: "Region") -> bool:
        """Whether cards of the other are served here: it is the same region, or both are interconnected."""
        return self.code == other.code or (self.interconnected and other.interconnected)


@strict_shape
@dataclass(frozen=True, slots=True)
class _Pack:
    code: Annotated[str, Field(pattern=r"^[0-9]{6}$")]
    names: Bilingual
    interconnected: bool
    banks: Annotated[tuple[Bank, ...], Field(min_length=1)]
    policy: RegionPolicy


_PACK: Final = TypeAdapter(_Pack)


class PolicyError(FaultyFileError):
    """Policy packs the service cannot start with."""


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions served, by code."""

    by_code: Mapping[str, Region]

    @classmethod
    def load_directory(cls, directory: Path) -> Self:
        """Every `<code>.toml` of a folder. Raises PolicyError with all that is wrong in all of them."""
        files = sorted(directory.glob("*.toml"))
        objections: list[Objection] = [] if files else [Objection(str(directory), "", "has no policy pack")]
        by_code: dict[str, Region] = {}
        for file in files:
            try:
                region = _load(file)
            except FaultyFileError as failure:
                objections.extend(failure.objections)
            else:
                by_code[region.code] = region
        if objections:
            raise PolicyError(objections)
        return cls(MappingProxyType(by_code))

    def get(self, code: str) -> Region:
        """The region with a code. Raises Refusal `not_found`."""
        try:
            return self.by_code[code]
        except KeyError:
            raise Refusal("not_found") from None

    def __iter__(self) -> Iterator[Region]:
        """The regions in the order of their codes."""
        return iter(self.by_code.values())


def _load(file: Path) -> Region:
    """The region of one file. Raises FaultyFileError with all that is wrong, each part judged by itself."""
    content_text = read_text(file)
    content = parse(content_text, file.name)
    pack, objections = None, [*(Objection(file.name, *fault) for fault in _faults(content, file.stem))]
    try:
        pack = shape(_PACK, content, file.name)
    except FaultyFileError as failure:
        objections[:0] = failure.objections
    if pack and not objections:
        known = frozenset(facts_of(pack.names, pack.policy, LOCALES[0]))
        for line, reason in faults_of(pack.policy.publications, known):
            objections.append(Objection(file.name, f"policy.publications.{line}", reason))
    if pack is None or objections:
        raise FaultyFileError(located(content_text, objections))
    return Region(
        code=pack.code,
        names=pack.names,
        interconnected=pack.interconnected,
        banks=pack.banks,
        policy=replace(pack.policy, publications=written_out(pack.names, pack.policy)),
    )


def _faults(content: Mapping[str, object], stem: str) -> Iterator[tuple[str, str]]:
    if content.get("code", stem) != stem:
        yield "code", "is not the name of the file"
    banks = content.get("banks")
    codes = [bank.get("code") for bank in banks if isinstance(bank, dict)] if isinstance(banks, list) else []
    for index, code in enumerate(codes):
        if code is not None and code in codes[:index]:
            yield f"banks.{index}.code", "is listed twice"
    for line, reason in contradictions(content.get("policy")):
        yield f"policy.{line}", reason
