"""The personas: everybody on the roster, with the ids and numbers that our own generator gives them.

True here: a persona is the same on every machine and after every reset, and is marked as invented (invention.py). Never
here: a moment in time; what the database holds about a persona at a moment is in records.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from service.dependants import dependant_id_of
from service.errors import Refusal
from service.ids import CardId, DependantId, HolderId, InstitutionId, OperatorId, derived_id
from service.locale import Bilingual
from service.numbers import ResidentId, parse_resident_id
from service.operators import Institution, Operator
from service.pins import initial_pin
from service.regions import Region, Regions
from service.sandbox.invention import Inventor, email_of
from service.sandbox.roster import (
    INSTITUTIONS,
    OPERATORS,
    PEOPLE,
    CardRow,
    Condition,
    Employment,
    OperatorRow,
    PersonRow,
)


class CastError(Exception):
    """The personas cannot be cast in the regions that are served; the text says why."""


@dataclass(frozen=True, slots=True)
class PersonaCard:
    """A card as it is printed, and in what condition a reset leaves it."""

    card_id: CardId
    number: str
    identification_code: str
    region_code: str
    bank_code: str
    bank_account: str
    generation: int
    condition: Condition


@dataclass(frozen=True, slots=True)
class Person:
    """A resident. `region_code` is where they are insured; `service_pin` is that of the first card."""

    key: str
    note: Bilingual
    holder_id: HolderId
    name: str
    id_number: ResidentId
    mobile: str
    query_password: str
    service_pin: str
    region_code: str
    household_register: str
    cards: tuple[PersonaCard, ...]
    dependants: tuple["PersonaDependant", ...]
    employment: "PersonaEmployment | None"
    agrees: bool
    email: str | None


@dataclass(frozen=True, slots=True)
class PersonaDependant:
    """Another persona for whom this one may act."""

    dependant_id: DependantId
    key: str


@dataclass(frozen=True, slots=True)
class PersonaEmployment:
    """An employer who has registered this persona for social insurance, and what became of it."""

    employer_id: InstitutionId
    region_code: str
    state: Employment


@dataclass(frozen=True, slots=True)
class Staff:
    """Somebody behind a counter, with what they sign in with."""

    key: str
    note: Bilingual
    operator: Operator
    password: str
    totp_secret: str


Persona = Person | Staff


def cast(regions: Regions) -> tuple[Persona, ...]:
    """Everybody, residents before operators. Raises CastError when a region or bank they need is not served."""
    return (*(_person(row, regions) for row in PEOPLE), *(_staff(row, regions) for row in OPERATORS))


def people(personas: tuple[Persona, ...]) -> Iterator[Person]:
    """The residents among them."""
    return (persona for persona in personas if isinstance(persona, Person))


def staff(personas: tuple[Persona, ...]) -> Iterator[Staff]:
    """The operators among them."""
    return (persona for persona in personas if isinstance(persona, Staff))


def _person(row: PersonRow, regions: Regions) -> Person:
    inventor = Inventor(row.key)
    first, last = row.born
    born = inventor.birth_date(earliest=date(first, 1, 1), latest=date(last, 12, 31))
    id_number = parse_resident_id(inventor.resident_id(born=born, prefix=row.prefix), today=date(last + 1, 1, 1))
    _served(regions, row.insured)
    cards = tuple(_card(row.key, place, card, regions, inventor) for place, card in enumerate(row.cards))
    new = row.cards[0].condition in {"sealed", "notDelivered", "testCard"}
    own_pin = inventor.service_pin(avoiding=id_number.number)
    household = Inventor(row.family) if row.family else inventor
    return Person(
        key=row.key,
        note=Bilingual(zh=row.zh, en=row.en),
        holder_id=_holder_id(row.key),
        name=inventor.name(),
        id_number=id_number,
        mobile=inventor.mobile(),
        query_password=inventor.query_password(),
        service_pin=initial_pin(_served(regions, cards[0].region_code), id_number) if new else own_pin,
        region_code=row.insured,
        household_register=household.household_register(),
        cards=cards,
        dependants=tuple(PersonaDependant(dependant_id_of(_holder_id(row.key), _holder_id(key)), key) for key in row.guards),
        employment=_employment(row),
        agrees=row.agrees,
        email=email_of(row.key) if row.email else None,
    )


def _employment(row: PersonRow) -> PersonaEmployment | None:
    if row.employment is None:
        return None
    return PersonaEmployment(_institution_id(row.employer), INSTITUTIONS[row.employer].region, row.employment)


def _institution_id(key: str) -> InstitutionId:
    return InstitutionId(derived_id("ins", key))


def _holder_id(key: str) -> HolderId:
    return HolderId(derived_id("hld", key))


def _card(key: str, place: int, row: CardRow, regions: Regions, inventor: Inventor) -> PersonaCard:
    region = _served(regions, row.region)
    if row.bank not in {bank.code for bank in region.banks}:
        raise CastError(f"persona {key}: region {row.region} issues no cards of bank {row.bank}")
    return PersonaCard(
        card_id=CardId(derived_id("card", key, str(place))),
        number=inventor.card_number(region.policy.card_number),
        identification_code=inventor.identification_code(row.region),
        region_code=row.region,
        bank_code=row.bank,
        bank_account=inventor.bank_number(),
        generation=row.generation,
        condition=row.condition,
    )


def _served(regions: Regions, code: str) -> Region:
    try:
        return regions.get(code)
    except Refusal:
        raise CastError(f"personas live in region {code}, which is not served here") from None


def _staff(row: OperatorRow, regions: Regions) -> Staff:
    inventor = Inventor(row.key)
    where = INSTITUTIONS[row.institution]
    _served(regions, where.region)
    institution = Institution(
        institution_id=_institution_id(row.institution),
        names=Bilingual(zh=where.zh, en=where.en),
        kind=where.kind,
        region_codes=(where.region,),
        bank_code=where.bank,
        credit_code=Inventor(row.institution).credit_code(where.region),
        redeems_ecards=where.redeems,
    )
    return Staff(
        key=row.key,
        note=Bilingual(zh=row.zh, en=row.en),
        operator=Operator(
            operator_id=OperatorId(derived_id("op", row.key)),
            username=inventor.username(row.key),
            name=inventor.name(),
            role=row.role,
            institution=institution,
            disabled=False,
        ),
        password=inventor.password(),
        totp_secret=inventor.totp_secret(),
    )
