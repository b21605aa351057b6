"""The personas: everybody on the roster, with the ids and numbers that our own generator gives them.

True here: a persona is the same on every machine and after every reset, and is marked as invented (invention.py). Never
here: a moment in time; what the database holds about a persona at a moment is in records.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from service.errors import Refusal
from service.ids import CardId, DependantId, HolderId, derived_id
from service.locale import Bilingual
from service.numbers import ResidentId, parse_resident_id
from service.regions import Region, Regions
from service.sandbox.invention import Inventor
from service.sandbox.roster import (
    HOME,
    INSTITUTIONS,
    OPERATORS,
    PEOPLE,
    CardRow,
    Condition,
    InstitutionKind,
    OperatorRow,
    PersonRow,
    Role,
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


@dataclass(frozen=True, slots=True)
class PersonaDependant:
    """Another persona for whom this one may act."""

    dependant_id: DependantId
    key: str


@dataclass(frozen=True, slots=True)
class Institution:
    """Where an operator works. `bank_code` only for a bank."""

    institution_id: str
    names: Bilingual
    kind: InstitutionKind
    region_codes: tuple[str, ...]
    bank_code: str | None
    credit_code: str


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody behind a counter."""

    key: str
    note: Bilingual
    role: Role
    name: str
    username: str
    password: str
    totp_secret: str
    institution: Institution


Persona = Person | Operator


def cast(regions: Regions) -> tuple[Persona, ...]:
    """Everybody, residents before operators. Raises CastError when a region or bank they need is not served."""
    return (*(_person(row, regions) for row in PEOPLE), *(_operator(row) for row in OPERATORS))


def people(personas: tuple[Persona, ...]) -> Iterator[Person]:
    """The residents among them."""
    return (persona for persona in personas if isinstance(persona, Person))


def initial_pin(region: Region, id_number: ResidentId) -> str:
    """The service PIN of a new card, as its region sets it."""
    match region.policy.service_pin.initial_value:
        case "idNumberLastSix":
            return id_number.number.removesuffix("X")[-6:]
        case "birthDate":
            return f"{id_number.birth_date:%y%m%d}"
        case "oneToSix":
            return "123456"


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
        holder_id=HolderId(derived_id("hld", row.key)),
        name=inventor.name(),
        id_number=id_number,
        mobile=inventor.mobile(),
        query_password=inventor.query_password(),
        service_pin=initial_pin(_served(regions, cards[0].region_code), id_number) if new else own_pin,
        region_code=row.insured,
        household_register=household.household_register(),
        cards=cards,
        dependants=tuple(PersonaDependant(DependantId(derived_id("dep", row.key, key)), key) for key in row.guards),
    )


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


def _operator(row: OperatorRow) -> Operator:
    inventor = Inventor(row.key)
    where = INSTITUTIONS[row.institution]
    return Operator(
        key=row.key,
        note=Bilingual(zh=row.zh, en=row.en),
        role=row.role,
        name=inventor.name(),
        username=inventor.username(row.key),
        password=inventor.password(),
        totp_secret=inventor.totp_secret(),
        institution=Institution(
            institution_id=derived_id("ins", row.institution),
            names=Bilingual(zh=where.zh, en=where.en),
            kind=where.kind,
            region_codes=(HOME,),
            bank_code=where.bank,
            credit_code=Inventor(row.institution).credit_code(HOME),
        ),
    )
