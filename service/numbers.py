"""The numbers that people and cards carry: reading what was typed, and proving it by its check character.

True here: every parser takes what people paste (full-width characters, spaces, dashes, lower case) and
gives back one canonical text, so that two spellings of one number are never two numbers. All of it is
pure and takes microseconds, so it may run on the event loop.

Never here: a refusal because of a region. Prefixes are retired, renamed and added faster than any list of
them, and a list turns real people away. Nor may a number stand in an exception or a repr: `InvalidNumber`
carries a code and nothing else.
"""

import re
from dataclasses import dataclass, field
from datetime import date
from operator import mul
from typing import Final, Literal, NewType

NumberFault = Literal["format", "check_character", "birth_date"]
ResidentKind = Literal["resident", "hkmoTw", "foreignPermanentResident"]
Sex = Literal["female", "male"]

CardNumber = NewType("CardNumber", str)
Mobile = NewType("Mobile", str)
BankNumber = NewType("BankNumber", str)
CreditCode = NewType("CreditCode", str)
RegionCode = NewType("RegionCode", str)


class InvalidNumber(ValueError):  # noqa: N818  it is not an error of ours: somebody mistyped
    """A text is not such a number. `code`: what is wrong, stable, and never the text itself."""

    def __init__(self, code: NumberFault) -> None:
        super().__init__(code)
        self.code: Final[NumberFault] = code


# --- What people paste ---

_SPACES: Final = (
    " \t\n\r\v\f\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
# Zero-width characters and direction marks travel along when a number is copied out of a chat or a page.
_UNSEEN: Final = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
_DASHES: Final = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_FULL_WIDTH: Final = 0xFEE0  # the distance from an ASCII character to its full-width form
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_HARMLESS: Final[dict[int, str | None]] = {
    **dict.fromkeys(map(ord, _SPACES + _UNSEEN + _DASHES)),
    **{ord(letter.lower()): letter for letter in _LETTERS},
    **{ord(sign) + _FULL_WIDTH: sign for sign in "0123456789+" + _LETTERS},
    **{ord(letter.lower()) + _FULL_WIDTH: letter for letter in _LETTERS},
    # GB 11643 calls the check character ten a Roman numeral, and input methods offer it as one.
    0x2169: "X",
    0x2179: "X",
}


def normalise(text: str) -> str:
    """The number as it would be printed: ASCII width, upper case, no spaces, dashes or invisible signs.

    Deliberately less than Unicode's NFKC, which would also make digits of circled and superscript ones:
    whoever sends those is not pasting a number. What is not known to be harmless stays, and fails the
    format later.
    """
    # Nearly every number comes so, and for these translating does nothing but this.
    if text.isascii() and text.isalnum():
        return text.upper()
    return text.translate(_HARMLESS)


# --- Check characters ---

_RESIDENT_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_RESIDENT_CHECKS: Final = "10X98765432"
_CARD_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
_CARD_CHECKS: Final = "0X987654321"
_CREDIT_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_CREDIT_VALUES: Final = {sign: value for value, sign in enumerate(_CREDIT_ALPHABET)}
_CREDIT_WEIGHTS: Final = tuple(pow(3, place, 31) for place in range(17))
_LUHN_DOUBLED: Final = bytes.maketrans(bytes(range(10)), bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
_NINE: Final = 9
# Each ASCII digit and letter as its value in base 36, every other byte as one beyond any base.
_VALUES: Final = bytes(int(chr(byte), 36) if chr(byte).isalnum() else 255 for byte in range(128)) + b"\xff" * 128


def _weighed(weights: tuple[int, ...], body: str, base: int) -> int:
    """The sum of the signs' values, each times its weight; through bytes, because an import does this for every row.

    ValueError if the body is not of that length, or a sign is none of that base.
    """
    values = body.encode().translate(_VALUES)
    if len(values) != len(weights) or max(values) >= base:
        raise ValueError("not a body of such a number")
    return sum(map(mul, weights, values))


def resident_id_check_character(body: str) -> str:
    """The 18th character for the first 17 digits (GB 11643, ISO 7064 MOD 11-2). ValueError if not that."""
    return _RESIDENT_CHECKS[_weighed(_RESIDENT_WEIGHTS, body, 10) % 11]


def card_number_check_character(body: str) -> str:
    """The 9th character for the first 8, digits or letters (GB 11714, A=10, Z=35). ValueError if not that."""
    return _CARD_CHECKS[_weighed(_CARD_WEIGHTS, body, 36) % 11]


def credit_code_check_character(body: str) -> str:
    """The 18th character for the first 17 (GB 32100, modulo 31). ValueError or KeyError if not that."""
    total = sum(weight * _CREDIT_VALUES[sign] for weight, sign in zip(_CREDIT_WEIGHTS, body, strict=True))
    return _CREDIT_ALPHABET[-total % 31]


def luhn_check_digit(body: str) -> str:
    """The digit that completes any number of digits (ISO/IEC 7812-1, annex B). ValueError if not digits."""
    values = body.encode().translate(_VALUES)
    if max(values, default=0) > _NINE:
        raise ValueError("not digits")
    return str(-(sum(values[::-2].translate(_LUHN_DOUBLED)) + sum(values[-2::-2])) % 10)


# --- People ---

_RESIDENT_SHAPE: Final = re.compile(r"[0-9]{17}[0-9X]")
_HKMOTW_PREFIXES: Final = ("81", "82", "83")


@dataclass(frozen=True, slots=True)
class ResidentId:
    """An 18-character ID number that has been checked. Made by `parse_resident_id` only."""

    number: str = field(repr=False)
    birth_date: date = field(repr=False)

    @property
    def kind(self) -> ResidentKind:
        """A citizen, a resident from Hong Kong, Macau or Taiwan (81, 82, 83), or a foreign resident (9)."""
        if self.number.startswith("9"):
            return "foreignPermanentResident"
        return "hkmoTw" if self.number.startswith(_HKMOTW_PREFIXES) else "resident"

    @property
    def region_prefix(self) -> str:
        """The first six digits: where a citizen was first registered, perhaps under a code that is no more.

        It says nothing about where the person lives or is insured. For a foreign permanent resident: 9,
        two digits of the province that issued it first, three of ISO 3166-1 for the nationality then
        (rules of 2023).
        """
        return self.number[:6]

    @property
    def sequence(self) -> str:
        """The three digits that tell people of one prefix and birthday apart."""
        return self.number[14:17]

    @property
    def sex(self) -> Sex:
        """As numbered at birth or first registration: odd sequences are male, even ones female."""
        return "male" if int(self.number[16]) % 2 else "female"

    def age_on(self, day: date) -> int:
        """Completed years on a day. Somebody born on 29 February completes a common year on 1 March.

        Raises ValueError before the day of birth.
        """
        if day < self.birth_date:
            raise ValueError("before the day of birth")
        birthday_to_come = (day.month, day.day) < (self.birth_date.month, self.birth_date.day)
        return day.year - self.birth_date.year - birthday_to_come


def parse_resident_id(text: str, *, today: date) -> ResidentId:
    """Read an ID number of 18 characters; `today` is the date in China.

    Any region prefix will do. The fifteen characters of the first card generation (void since 2013) and
    of foreign residents' cards from before December 2023 are a wrong format. Raises InvalidNumber.
    """
    number = normalise(text)
    if _RESIDENT_SHAPE.fullmatch(number) is None:
        raise InvalidNumber("format")
    if resident_id_check_character(number[:17]) != number[17]:
        raise InvalidNumber("check_character")
    try:
        birth_date = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        raise InvalidNumber("birth_date") from None
    if birth_date > today:
        raise InvalidNumber("birth_date")
    return ResidentId(number, birth_date)


_MOBILE_SHAPE: Final = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})")


def parse_mobile(text: str) -> Mobile:
    """Read a mainland mobile number: eleven digits, any country code dropped. Raises InvalidNumber."""
    match = _MOBILE_SHAPE.fullmatch(normalise(text))
    if match is None:
        raise InvalidNumber("format")
    return Mobile(match[1])


def is_personal_number(text: str) -> bool:
    """Whether a text could be somebody's ID number or mobile, and so has no place where texts are kept in plain."""
    number = normalise(text)
    resident = _RESIDENT_SHAPE.fullmatch(number) is not None and resident_id_check_character(number[:17]) == number[17]
    return resident or _MOBILE_SHAPE.fullmatch(number) is not None


_HOUSEHOLD_SHAPE: Final = re.compile(r"[0-9A-Z]{4,32}")


def parse_household_register(text: str) -> str:
    """Read the number of a household register: 4 to 32 digits and letters, for its form varies. Raises InvalidNumber."""
    number = normalise(text)
    if _HOUSEHOLD_SHAPE.fullmatch(number) is None:
        raise InvalidNumber("format")
    return number


# --- Cards ---

# One letter or digit, then digits; the last may be the check character X. Lengths as regions use them.
_CARD_SHAPES: Final = {length: re.compile(rf"[0-9A-Z][0-9]{{{length - 2}}}[0-9X]") for length in (9, 12, 20)}
_CHECKED_LENGTH: Final = 9


@dataclass(frozen=True, slots=True)
class CardNumberFormat:
    """How a region numbers its cards: 9, 12 or 20 characters, of which only nine have a check to enforce.

    Raises ValueError for anything else, so that a wrong region file stops the start.
    """

    length: int
    check_character_enforced: bool

    def __post_init__(self) -> None:
        if self.length not in _CARD_SHAPES:
            raise ValueError(f"a card number has 9, 12 or 20 characters, not {self.length}")
        if self.check_character_enforced and self.length != _CHECKED_LENGTH:
            raise ValueError(f"no check character is defined for card numbers of {self.length} characters")

    @property
    def pattern(self) -> str:
        """A regular expression for the canonical number, also fit for a form field."""
        return _CARD_SHAPES[self.length].pattern


NATIONAL_CARD_NUMBER: Final = CardNumberFormat(length=9, check_character_enforced=True)


def parse_card_number(text: str, card_number_format: CardNumberFormat) -> CardNumber:
    """Read the number on the face of a card (AAZ500) as its region numbers cards. Raises InvalidNumber."""
    number = normalise(text)
    if _CARD_SHAPES[card_number_format.length].fullmatch(number) is None:
        raise InvalidNumber("format")
    if card_number_format.check_character_enforced and number[8] != card_number_check_character(number[:8]):
        raise InvalidNumber("check_character")
    return CardNumber(number)


_IDENTIFICATION_SHAPE: Final = re.compile(r"[0-9]{6}[0-9A-F]{26}")


@dataclass(frozen=True, slots=True)
class IdentificationCode:
    """A card identification code (AAZ501) of 32 characters. Made by `parse_identification_code` only."""

    code: str = field(repr=False)

    @property
    def region_code(self) -> RegionCode:
        """The issuing region, to compare with the card's own; it is not where the holder is insured."""
        return RegionCode(self.code[:6])


def parse_identification_code(text: str) -> IdentificationCode:
    """Read a card identification code. What stands between region and own part varies, and is left alone.

    Raises InvalidNumber.
    """
    code = normalise(text)
    if _IDENTIFICATION_SHAPE.fullmatch(code) is None:
        raise InvalidNumber("format")
    return IdentificationCode(code)


_BANK_SHAPE: Final = re.compile(r"[0-9]{16,19}")


def parse_bank_number(text: str) -> BankNumber:
    """Read a bank card number: 16 to 19 digits that satisfy Luhn. Raises InvalidNumber."""
    number = normalise(text)
    if _BANK_SHAPE.fullmatch(number) is None:
        raise InvalidNumber("format")
    if luhn_check_digit(number[:-1]) != number[-1]:
        raise InvalidNumber("check_character")
    return BankNumber(number)


# --- Employers and regions ---

_CREDIT_SHAPE: Final = re.compile(rf"[{_CREDIT_ALPHABET}]{{2}}[0-9]{{6}}[{_CREDIT_ALPHABET}]{{10}}")
_REGION_SHAPE: Final = re.compile(r"[0-9]{6}")


def parse_credit_code(text: str) -> CreditCode:
    """Read a unified social credit code (GB 32100). Raises InvalidNumber.

    The two leading characters may be letters (farmers' cooperatives begin with N, others with Y). The
    organisation code inside has a check character of its own; it is not enforced, the outer one covers it.
    """
    code = normalise(text)
    if _CREDIT_SHAPE.fullmatch(code) is None:
        raise InvalidNumber("format")
    if credit_code_check_character(code[:17]) != code[17]:
        raise InvalidNumber("check_character")
    return CreditCode(code)


def parse_region_code(text: str) -> RegionCode:
    """Read a region code (GB/T 2260, six digits). Whether such a region is known is for regions to say.

    Raises InvalidNumber.
    """
    code = normalise(text)
    if _REGION_SHAPE.fullmatch(code) is None:
        raise InvalidNumber("format")
    return RegionCode(code)
