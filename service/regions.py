"""Regions and their policy: what differs from city to city, read from one file a region.

True here: a pack is whole and consistent or the start stops, naming file, field and reason; once loaded
nothing changes. Never here: a rule of a real city (the shipped regions are invented, codes 99xxxx), and a
region derived from an ID number, a card's issuer or an insurance relation: those are three different things.
"""

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, with_config

from service.errors import Refusal
from service.locale import Bilingual, Catalogue, Locale, catalogue, placeholders
from service.numbers import CardNumberFormat
from service.strict_toml import FaultyFileError, Objection, read, shape

SHIPPED: Final = Path(__file__).parent / "regions"

Channel = Literal["app", "web", "bank", "hospital", "bureau", "hotline"]
Category = Literal["adult", "minor", "noIdCard", "disability", "workInjury", "lowIncome", "student"]
Material = Literal[
    "card",
    "idCard",
    "idNumber",
    "cardNumber",
    "identificationCode",
    "registeredMobile",
    "householdRegister",
    "guardianIdCard",
    "guardianLink",
    "disabilityCertificate",
    "workInjuryCertificate",
    "lowIncomeCertificate",
    "studentCard",
]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
MATERIALS: Final[tuple[Material, ...]] = get_args(Material)

ONLINE: Final[frozenset[Channel]] = frozenset({"app", "web"})
THREE_NUMBERS: Final[frozenset[Material]] = frozenset({"idNumber", "cardNumber", "identificationCode"})
_CERTIFICATES: Final[Mapping[Category, Material]] = {
    "disability": "disabilityCertificate",
    "workInjury": "workInjuryCertificate",
    "lowIncome": "lowIncomeCertificate",
}

# A cut-off takes effect no sooner than this after its announcement, so that holders have time to change
# cards.
ANNOUNCED_MONTHS_AHEAD: Final = 6

_strict = with_config(ConfigDict(extra="forbid", strict=True))
_RegionCode = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
_Materials = Annotated[
    Mapping[Category, Annotated[tuple[Material, ...], Field(min_length=1)]], AfterValidator(MappingProxyType)
]


@_strict
@dataclass(frozen=True, slots=True)
class ServicePinRule:
    """What a new card's service PIN is, and after how many wrong tries it locks.

    initial_value: the last six digits of the ID number (a final X is passed over), the birth date as YYMMDD,
    or 123456.
    """

    initial_value: Literal["idNumberLastSix", "birthDate", "oneToSix"]
    max_tries: Annotated[int, Field(ge=3, le=10)]


@_strict
@dataclass(frozen=True, slots=True)
class Generation:
    """A card generation. With a cut-off it is being retired: from that day (at +08:00) it counts no more."""

    number: Annotated[int, Field(ge=1, le=9)]
    cut_off_on: date | None = None
    announced_on: date | None = None


@_strict
@dataclass(frozen=True, slots=True)
class ActivationChannel:
    """A channel through which cards may be activated, and what each category of holder brings there."""

    channel: Channel
    materials: _Materials


@_strict
@dataclass(frozen=True, slots=True)
class Publications:
    """The five things a region makes public about its cards (the Measures, art. 16)."""

    functions_and_uses: Bilingual
    eligibility_conditions_and_procedure: Bilingual
    scope_period_and_method: Bilingual
    loss_damage_and_replacement: Bilingual
    rights_and_duties: Bilingual


@_strict
@dataclass(frozen=True, slots=True)
class RegionPolicy:
    """The rules of one region. Days and years are whole; the version grows with every change of the file."""

    version: Annotated[int, Field(ge=1)]
    card_number: CardNumberFormat
    temporary_loss_days: Annotated[int, Field(ge=1, le=90)]
    formal_loss_cancellable: bool
    service_pin: ServicePinRule
    guardian_age: Annotated[int, Field(ge=14, le=18)]
    required_assurance: Literal[2, 3]
    generations: Annotated[tuple[Generation, ...], Field(min_length=1)]
    activation: Annotated[tuple[ActivationChannel, ...], Field(min_length=1)]
    publications: Publications

    @property
    def current_generation(self) -> int:
        """The generation that is being issued."""
        return self.generations[-1].number

    def cut_off_of(self, generation: int) -> date | None:
        """The day from which a generation no longer counts; none for one that nobody announced."""
        return next((known.cut_off_on for known in self.generations if known.number == generation), None)

    def is_retired(self, generation: int, on: date) -> bool:
        """Whether a generation no longer counts on a day, as the calendar at +08:00 has it."""
        cut_off = self.cut_off_of(generation)
        return cut_off is not None and on >= cut_off

    def may_activate(self, channel: Channel, category: Category) -> bool:
        """Whether holders of a category can have their card activated through a channel."""
        return any(way.channel == channel and category in way.materials for way in self.activation)


@dataclass(frozen=True, slots=True)
class Bank:
    """A bank whose cards a region issues."""

    code: str
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
    """A region by its GB/T 2260 code, with its banks and its policy."""

    code: str
    names: Bilingual
    interconnected: bool
    banks: tuple[Bank, ...]
    policy: RegionPolicy

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

    def serves_cards_of(self, other: "Region") -> bool:
        """Whether cards of the other are served here: it is the same region, or both are interconnected."""
        return self.code == other.code or (self.interconnected and other.interconnected)


@_strict
@dataclass(frozen=True, slots=True)
class _Pack:
    code: _RegionCode
    names: Bilingual
    interconnected: bool
    banks: Annotated[tuple[str, ...], Field(min_length=1)]
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
        objections: list[Objection] = [] if files else [Objection(directory.name, "", "has no policy pack")]
        by_code: dict[str, Region] = {}
        for file in files:
            try:
                region = _load(file, catalogue())
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


def _load(file: Path, texts: Catalogue) -> Region:
    pack = shape(_PACK, read(file), file.name)
    objections = [Objection(file.name, field, reason) for field, reason in _objections(pack, file.stem, texts)]
    if objections:
        raise FaultyFileError(objections)
    return Region(
        code=pack.code,
        names=pack.names,
        interconnected=pack.interconnected,
        banks=tuple(
            Bank(code, Bilingual(zh=texts.text("zh-CN", f"banks.{code}"), en=texts.text("en", f"banks.{code}")))
            for code in pack.banks
        ),
        policy=replace(pack.policy, publications=_written_out(pack)),
    )


def _objections(pack: _Pack, stem: str, texts: Catalogue) -> Iterator[tuple[str, str]]:
    if pack.code != stem:
        yield "code", "is not the name of the file"
    for index, bank in enumerate(pack.banks):
        if f"banks.{bank}" not in texts:
            yield f"banks.{index}", "has no name in the message catalogues"
        if bank in pack.banks[:index]:
            yield f"banks.{index}", "is listed twice"
    yield from _about_generations(pack.policy.generations)
    yield from _about_activation(pack.policy.activation)
    known = frozenset(_facts(pack, "en"))
    for field in fields(Publications):
        published = getattr(pack.policy.publications, field.name)
        for language in ("zh", "en"):
            try:
                unknown = placeholders(getattr(published, language)) - known
            except ValueError as failure:
                yield f"policy.publications.{field.name}.{language}", str(failure)
            else:
                if unknown:
                    yield (
                        f"policy.publications.{field.name}.{language}",
                        "has a placeholder that no policy fills",
                    )


def _about_generations(generations: tuple[Generation, ...]) -> Iterator[tuple[str, str]]:
    numbers = [generation.number for generation in generations]
    if numbers != sorted(set(numbers)):
        yield "policy.generations", "must go from the oldest to the newest, each once"
    if generations[-1].cut_off_on is not None:
        yield f"policy.generations.{len(generations) - 1}.cut_off_on", "would leave no generation to issue"
    for index, generation in enumerate(generations):
        field = f"policy.generations.{index}.announced_on"
        if (generation.cut_off_on is None) != (generation.announced_on is None):
            yield field, "and cut_off_on go together"
        elif (
            generation.cut_off_on is not None
            and generation.announced_on is not None
            and months_after(generation.announced_on, ANNOUNCED_MONTHS_AHEAD) > generation.cut_off_on
        ):
            yield field, f"must be at least {ANNOUNCED_MONTHS_AHEAD} months before the cut-off"


def _about_activation(ways: tuple[ActivationChannel, ...]) -> Iterator[tuple[str, str]]:
    channels = [way.channel for way in ways]
    for index, way in enumerate(ways):
        if way.channel in channels[:index]:
            yield f"policy.activation.{index}.channel", "is listed twice"
        for category, materials in way.materials.items():
            for reason in _about_materials(way.channel, category, frozenset(materials)):
                yield f"policy.activation.{index}.materials.{category}", reason
    for category in CATEGORIES:
        if not any(category in way.materials for way in ways):
            yield "policy.activation", f"leaves the category {category} without any channel"


def _about_materials(channel: Channel, category: Category, materials: frozenset[Material]) -> Iterator[str]:
    if channel in ONLINE and not materials >= THREE_NUMBERS:
        yield "must ask online for ID number, card number and identification code"
    if category == "minor" and channel in ONLINE and "guardianLink" not in materials:
        yield "must ask online for a linked guardian"
    if category == "minor" and channel not in ONLINE and not materials >= {"guardianIdCard", "householdRegister"}:
        yield "must ask for the guardian's ID and the household register"
    if category == "noIdCard" and channel not in ONLINE and "householdRegister" not in materials:
        yield "must ask for the household register"
    if category in {"minor", "noIdCard"} and "idCard" in materials:
        yield "must not ask for an ID card that the holder may not have"
    if category in _CERTIFICATES and channel not in ONLINE and _CERTIFICATES[category] not in materials:
        yield "must ask for the certificate of the group"


def months_after(day: date, months: int) -> date:
    """The same day of the month so many months later, or the last day of a shorter month."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def _facts(pack: _Pack, language: Literal["zh", "en"]) -> Mapping[str, object]:
    # Published texts take their figures from the rules, so that the two cannot disagree.
    return {
        "name": getattr(pack.names, language),
        "temporary_loss_days": pack.policy.temporary_loss_days,
        "guardian_age": pack.policy.guardian_age,
        "pin_max_tries": pack.policy.service_pin.max_tries,
        "card_number_length": pack.policy.card_number.length,
    }


def _written_out(pack: _Pack) -> Publications:
    def written(text: Bilingual) -> Bilingual:
        return Bilingual(zh=text.zh.format_map(_facts(pack, "zh")), en=text.en.format_map(_facts(pack, "en")))

    every = {field.name: written(getattr(pack.policy.publications, field.name)) for field in fields(Publications)}
    return Publications(**every)
