"""What a region decides about its cards: the words of a policy pack and what they mean.

True here: whatever differs from city to city is a field of RegionPolicy, and nowhere else; once read nothing changes. Never
here: a rule that is the same everywhere, and a rule of a real city. Whether the rules of one pack fit together is asked in
service/policy_checks.py.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from service.locale import Bilingual
from service.message_policies import MessagePolicy
from service.numbers import CardNumberFormat
from service.strict_toml import strict_shape

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
# What a region narrows to some of the channels through which it can be done at all.
Act = Literal[
    "reportTemporaryLoss",
    "reportFormalLoss",
    "cancelTemporaryLoss",
    "cancelFormalLoss",
    "replace",
    "lock",
    "unlock",
    "cancel",
    "changePin",
    "resetPin",
    "confirmInformation",
]
CollectionPlace = Literal["bank", "bureau", "subDistrict"]
Confirmer = Literal["employer", "school", "subDistrict"]

CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
MATERIALS: Final[tuple[Material, ...]] = get_args(Material)
ACTS: Final[tuple[Act, ...]] = get_args(Act)
COLLECTION_PLACES: Final[tuple[CollectionPlace, ...]] = get_args(CollectionPlace)
CONFIRMERS: Final[tuple[Confirmer, ...]] = get_args(Confirmer)

ONLINE: Final[frozenset[Channel]] = frozenset({"app", "web"})

# That every act is there and no other is asked by policy_checks, which can name the act.
_Channels = Annotated[Mapping[str, tuple[Channel, ...]], AfterValidator(MappingProxyType)]
_Materials = Annotated[
    Mapping[Category, Annotated[tuple[Material, ...], Field(min_length=1)]], AfterValidator(MappingProxyType)
]


@strict_shape
@dataclass(frozen=True, slots=True)
class ServicePinRule:
    """What a new card's service PIN is, and after how many wrong tries it locks.

    initial_value: the last six digits of the ID number (a final X is passed over), the birth date as YYMMDD,
    or 123456.
    """

    initial_value: Literal["idNumberLastSix", "birthDate", "oneToSix"]
    max_tries: Annotated[int, Field(ge=3, le=10)]


@strict_shape
@dataclass(frozen=True, slots=True)
class Generation:
    """A card generation. With a cut-off it is being retired: from that day (at +08:00) it counts no more."""

    number: Annotated[int, Field(ge=1, le=9)]
    cut_off_on: date | None = None
    announced_on: date | None = None


@strict_shape
@dataclass(frozen=True, slots=True)
class ActivationChannel:
    """A channel through which cards may be activated, and what each category of holder brings there."""

    channel: Channel
    materials: _Materials


@strict_shape
@dataclass(frozen=True, slots=True)
class Publications:
    """The five things a region makes public about its cards (the Measures, art. 16)."""

    functions_and_uses: Bilingual
    eligibility_conditions_and_procedure: Bilingual
    scope_period_and_method: Bilingual
    loss_damage_and_replacement: Bilingual
    rights_and_duties: Bilingual


@strict_shape
@dataclass(frozen=True, slots=True)
class RegionPolicy:
    """The rules of one region. Hours, days and years are whole; the version grows with every change of the file.

    card_validity_years: from the making of a card to the date printed on it. figures_old_after_hours: from when on a balance or
    a contribution record says that it is old. collection: where finished cards are handed
    out. information_confirmation: who confirms name, ID number and photo before an application. channels: by Act, all of
    them; an act with no channel is never done here.
    """

    version: Annotated[int, Field(ge=1)]
    card_number: CardNumberFormat
    card_validity_years: Annotated[int, Field(ge=5, le=20)]
    temporary_loss_days: Annotated[int, Field(ge=1, le=90)]
    figures_old_after_hours: Annotated[int, Field(ge=1, le=8784)]
    service_pin: ServicePinRule
    guardian_age: Annotated[int, Field(ge=14, le=18)]
    required_assurance: Literal[2, 3]
    collection: CollectionPlace
    information_confirmation: Annotated[tuple[Confirmer, ...], Field(min_length=1)]
    generations: Annotated[tuple[Generation, ...], Field(min_length=1)]
    channels: _Channels
    activation: Annotated[tuple[ActivationChannel, ...], Field(min_length=1)]
    messages: MessagePolicy
    publications: Publications

    @property
    def figures_old_after(self) -> timedelta:
        """For how long what the city reported counts as fresh."""
        return _hours(self.figures_old_after_hours)

    @property
    def formal_loss_cancellable(self) -> bool:
        """Whether a card found again after a formal loss may be used again."""
        return bool(self.channels["cancelFormalLoss"])

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

    def expiry_of(self, made_on: date) -> date:
        """The date printed on a card made on a day: its last day of use."""
        return months_after(made_on, 12 * self.card_validity_years)

    def may_activate(self, channel: Channel, category: Category) -> bool:
        """Whether holders of a category can have their card activated through a channel."""
        return any(way.channel == channel and category in way.materials for way in self.activation)


@lru_cache(maxsize=128)
def _hours(hours: int) -> timedelta:
    # Every look at a balance asks, and making one takes longer than all that is done with it.
    return timedelta(hours=hours)


def months_after(day: date, months: int) -> date:
    """The same day of the month so many months later, or the last day of a shorter month."""
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))
