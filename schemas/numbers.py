"""Numbers as clients send them: normalised where that is harmless, refused with a code that says what is wrong."""

import re
import unicodedata
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic.functional_validators import AfterValidator
from pydantic_core import PydanticCustomError

from service.clock import CHINA
from service.numbers import (
    InvalidNumber,
    ResidentId,
    normalise,
    parse_bank_number,
    parse_household_register,
    parse_identification_code,
    parse_mobile,
    parse_resident_id,
)

Parsed = TypeVar("Parsed")
_LONGEST = 128


def _parsing(noun: str, parse: Callable[[str], Parsed]) -> Callable[[Any], Parsed]:
    def validate(value: Any) -> Parsed:  # noqa: ANN401  it comes from the wire and may be anything
        if not isinstance(value, str):
            raise PydanticCustomError("yika.wrong_type", "wrong type")
        if len(value) > _LONGEST:
            raise PydanticCustomError("yika.too_long", "too long")
        try:
            return parse(value)
        except InvalidNumber as error:
            raise PydanticCustomError(f"yika.{noun}_{error.code}", "not such a number") from None

    return validate


def _schema(example: str, description: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "maxLength": _LONGEST, "examples": [example], "description": description})


def _today_resident_id(text: str) -> ResidentId:
    return parse_resident_id(text, today=datetime.now(CHINA).date())


# Chats and pages hand these along; and the dot in the names of many peoples is typed in many ways.
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_DOTS = dict.fromkeys(map(ord, "\u2022\u2027\u2219\u22c5\u30fb\uff65\u16eb"), "\u00b7")
_HAN = re.compile(r"[\u4e00-\u9fff]+")
_BETWEEN_HAN = re.compile(r"(?<=[\u3400-\u9fff\u00b7])\s+(?=[\u3400-\u9fff\u00b7])")


def _name(value: str) -> str:
    # Most names are this and nothing has to be done about them.
    if _HAN.fullmatch(value):
        return value
    plain = unicodedata.normalize("NFC", value).translate(_UNSEEN).translate(_DOTS)
    name = _BETWEEN_HAN.sub("", " ".join(plain.split()))
    if not name or any(unicodedata.category(sign).startswith("C") for sign in name):
        raise PydanticCustomError("yika.invalid", "not a name")
    return name


def _recipient(text: str) -> str:
    try:
        return parse_mobile(text)
    except InvalidNumber:
        # An address is the same however its letters are written; we keep them small.
        return text.strip().lower()


def _code(value: str) -> str:
    code = normalise(value)
    if len(code) != 6 or not (code.isascii() and code.isdigit()):  # noqa: PLR2004  six digits, as sent
        raise PydanticCustomError("yika.pattern", "not a code")
    return code


Name = Annotated[str, Field(min_length=1, max_length=64, examples=["张伟"]), AfterValidator(_name)]
OneTimeCode = Annotated[str, Field(max_length=32, examples=["123456"], description="Six digits."), AfterValidator(_code)]
IdNumber = Annotated[
    ResidentId,
    PlainValidator(_parsing("resident_id", _today_resident_id)),
    _schema("11010519491231002X", "Resident ID number, 18 characters (GB 11643); spaces and full width do no harm."),
]
Mobile = Annotated[
    str,
    PlainValidator(_parsing("mobile", parse_mobile)),
    _schema("13800138000", "Mainland mobile number; +86 before it does no harm."),
]
HouseholdRegister = Annotated[
    str,
    PlainValidator(_parsing("household_register", parse_household_register)),
    _schema("990012345", "Number of the household register (hukou): 4 to 32 digits and letters."),
]
Recipient = Annotated[
    str,
    PlainValidator(_parsing("recipient", _recipient)),
    _schema("13800138000", "Where messages go: a mobile number, or an address of another kind."),
]
CardNumberText = Annotated[
    str,
    PlainValidator(_parsing("card_number", normalise)),
    _schema("A12345670", "Number on the face of the card (AAZ500), as its region numbers cards."),
]
IdentificationCode = Annotated[
    str,
    PlainValidator(_parsing("identification_code", lambda text: parse_identification_code(text).code)),
    _schema("990100D1560000050123456789ABCDEF", "Card identification code (AAZ501), 32 hexadecimal characters."),
]
BankNumberText = Annotated[
    str,
    PlainValidator(_parsing("bank_number", parse_bank_number)),
    _schema("9999012345678901231", "Number of the bank account on the card: 16 to 19 digits with a check digit (Luhn)."),
]
