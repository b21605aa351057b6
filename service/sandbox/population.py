"""A population of any size, for trying and measuring: rows of an import about people who do not exist.

True here: one seed gives the same rows on every machine; no ID number, card number or identification code comes twice,
because numbers are counted through in a scattered order instead of being drawn; nothing is kept of what was given out, so a
billion rows take no more memory than ten. Never here: a number somebody could hold (invention.py says why none can), a
moment in time: everything that a row says happened lies before YEAR.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from math import gcd
from random import Random
from typing import Final, Literal

from service.cards import BankStatus, MedicalStatus, PinState, Stage, Status
from service.numbers import card_number_check_character, luhn_check_digit, resident_id_check_character
from service.regions import Region
from service.sandbox.invention import CARD_LETTERS, invented_name, is_invented_region

YEAR: Final = 2026
Mix = Literal["sealed", "mixed"]
Fields = dict[str, str | int | bool]

# Grown up in every region, and young enough to go and fetch a card.
_BORN_FROM: Final = date(1950, 1, 1).toordinal()
_BIRTHDAYS: Final = date(2007, 1, 1).toordinal() - _BORN_FROM
_PREFIXES: Final = 10_000
_SEQUENCES: Final = 1000
_MOBILES: Final = 10**8
_BANK_NUMBERS: Final = 10**14
_CHIPS: Final = 2**64
_NINE: Final = 9
_TWICE: Final = 2
_PERCENT: Final = 100
_EXPIRES_ON: Final = {1: "2028-03-31", 2: "2031-12-31", 3: "2035-08-31"}


class _Scattered:
    """Every number under `size` once, in an order that a seed shuffles: n becomes factor * n + start, modulo size."""

    __slots__ = ("_factor", "_size", "_start")

    def __init__(self, size: int, chance: Random) -> None:
        self._size = size
        self._start = chance.randrange(size)
        factor = chance.randrange(size // 3, size) | 1
        while gcd(factor, size) != 1:
            factor += 2
        self._factor = factor

    def __call__(self, number: int) -> int:
        """The place of a number that is less than `size`; the same for two numbers that differ by it."""
        return (self._factor * number + self._start) % self._size


@dataclass(frozen=True, slots=True)
class _Life:
    """A state in which a card may be, and how many of a hundred are."""

    percent: int
    fields: Fields


_ACTIVATED: Final[Fields] = {
    "bankStatus": BankStatus.ACTIVE,
    "productionStage": Stage.DELIVERED,
    "medicalAccount": MedicalStatus.NORMAL,
    "servicePin": PinState.SET,
    "activatedAt": "2025-03-14T09:30:00+08:00",
    "activationChannel": "bank",
}
_SEALED: Final[Fields] = {
    "bankStatus": BankStatus.PENDING,
    "productionStage": Stage.DELIVERED,
    "status": Status.SEALED,
    "medicalAccount": MedicalStatus.NORMAL,
}
_LIVES: Final = (
    _Life(68, _SEALED),
    _Life(24, {**_ACTIVATED, "status": Status.ACTIVE}),
    _Life(3, {**_SEALED, "productionStage": Stage.RECEIVED_BY_CITY}),
    _Life(1, {**_SEALED, "productionStage": Stage.RECEIVED_BY_BANK, "testBatch": True}),
    _Life(1, {**_ACTIVATED, "status": Status.FORMALLY_LOST}),
    _Life(1, {**_ACTIVATED, "status": Status.TEMPORARILY_LOST, "temporaryLossUntil": "2027-01-31T00:00:00+08:00"}),
    _Life(1, {**_ACTIVATED, "status": Status.LOCKED}),
    _Life(
        1,
        {
            **_ACTIVATED,
            "status": Status.CANCELLED,
            "bankStatus": BankStatus.CLOSED,
            "medicalAccount": MedicalStatus.CLOSED,
        },
    ),
)
_LIFE_OF: Final = tuple(life.fields for life in _LIVES for _ in range(life.percent))


class Population:
    """So many people with so many cards, one or two each. Both cards of a person come one after the other."""

    def __init__(self, regions: Sequence[Region], *, cards: int, people: int, seed: str, mix: Mix) -> None:
        """`people`: from half the cards to as many. ValueError when that does not go, or for a region that could be real."""
        if not people <= cards <= _TWICE * people:
            raise ValueError("everybody has one card or two")
        if not regions or not all(is_invented_region(region.code) for region in regions):
            raise ValueError("invented people live in invented regions only")
        self._regions = tuple(regions)
        self._people = people
        self._second_cards = cards - people
        self._mix = mix
        # These must come out the same again, and are no secrets.
        chance = Random(f"population\0{seed}")  # noqa: S311  invented people must be the same every time
        self._persons = _Scattered(_PREFIXES * _BIRTHDAYS * _SEQUENCES, chance)
        self._mobiles = _Scattered(_MOBILES, chance)
        self._bank_numbers = _Scattered(_BANK_NUMBERS, chance)
        self._chips = _Scattered(_CHIPS, chance)
        self._numbers = {
            region.code: _Scattered(len(CARD_LETTERS) * 10 ** (region.policy.card_number.length - 2), chance)
            for region in regions
        }
        self._traits = chance.getrandbits(64)

    def rows(self) -> Iterator[Fields]:
        """Every row. One that has no word for something leaves the field out."""
        serial = 0
        chance = Random(self._traits)  # noqa: S311  the same
        for number in range(self._people):
            traits = chance.getrandbits(128)
            person = self._person(number, traits)
            home = self._regions[traits % len(self._regions)]
            yield self._card(person, home, serial, traits, old=False)
            serial += 1
            # Spread evenly: this person's share passes the next whole card.
            if (number + 1) * self._second_cards // self._people > number * self._second_cards // self._people:
                yield self._card(person, home, serial, traits >> 7, old=True)
                serial += 1

    def _person(self, number: int, traits: int) -> Fields:
        rest, sequence = divmod(self._persons(number), _SEQUENCES)
        prefix, day = divmod(rest, _BIRTHDAYS)
        born = date.fromordinal(_BORN_FROM + day)
        body = f"19{prefix:04d}{born.year}{born.month:02d}{born.day:02d}{sequence:03d}"
        return {
            "holderName": invented_name(traits >> 64),
            "idNumber": body + resident_id_check_character(body),
            "mobile": f"154{self._mobiles(number):08d}",
        }

    def _card(self, person: Fields, home: Region, serial: int, traits: int, *, old: bool) -> Fields:
        life = _SEALED if self._mix == "sealed" else _LIFE_OF[(traits >> 16) % _PERCENT]
        generation = home.policy.generations[-2 if old and len(home.policy.generations) > 1 else -1].number
        bank = f"9999{self._bank_numbers(serial):014d}"
        return {
            **person,
            "insuranceRegionCode": home.code,
            "regionCode": home.code,
            "cardNumber": self._card_number(home, serial),
            "identificationCode": f"{home.code}D156000005{self._chips(serial):016X}",
            "generation": generation,
            "bankCode": home.banks[(traits >> 24) % len(home.banks)].code,
            "bankAccount": bank + luhn_check_digit(bank),
            **life,
            "expiresOn": _EXPIRES_ON.get(generation, _EXPIRES_ON[3]),
            "medicalBalanceFen": 30_000 + (traits >> 32) % 870_000,
            "medicalAsOf": f"{YEAR - 1}-12-30T20:00:00+08:00",
            "medicalSource": "medicalInsuranceBureau",
            "pensionBalanceFen": 2_000_000 + (traits >> 36) % 16_000_000,
            "pensionAsOf": f"{YEAR - 1}-12-30T18:00:00+08:00",
            "pensionSource": "pensionInsuranceBureau",
            "housingFundBalanceFen": 500_000 + (traits >> 40) % 14_500_000,
            "housingFundAsOf": f"{YEAR - 1}-12-30T17:00:00+08:00",
            "housingFundSource": "housingFundCentre",
        }

    def _card_number(self, region: Region, serial: int) -> str:
        digits = region.policy.card_number.length - 2
        letter, rest = divmod(self._numbers[region.code](serial), 10**digits)
        body = f"{CARD_LETTERS[letter]}{rest:0{digits}d}"
        return body + (card_number_check_character(body) if len(body) == _NINE - 1 else str(serial % 10))
