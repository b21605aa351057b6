"""A row of an import, as JSON or as CSV: the same fields, the same rules, one shape.

True here: CSV becomes JSON before it is judged, so that neither format is laxer than the other; numbers are taken as people
paste them. Never here: a value in a fault, or a field's name that is not ours: a name may be misplaced anywhere.
"""

import csv
import re
from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Final

import orjson
from pydantic import BeforeValidator, Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from schemas.numbers import CardNumberText, HouseholdRegister, IdentificationCode, IdNumber, Mobile, Name
from schemas.wire import Body
from service.balances import Account
from service.cards import AAZ502, BankStatus, MedicalStatus, PinState, Stage, Status
from service.imports import Fault, ImportedFigure, Rejected, Row
from service.numbers import normalise
from service.regions import Channel

_MOST_FEN: Final = 10**13
_DAY: Final = re.compile(r"(?:19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}")
_INSTANT: Final = re.compile(
    r"(?:19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,3})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_STATUS_OF_CODE: Final = {str(code): status.value for status, code in AAZ502.items()}


def _day(value: Any) -> date:  # noqa: ANN401  it comes from a file and may be anything
    if not isinstance(value, str) or _DAY.fullmatch(value) is None:
        raise PydanticCustomError("yika.format", "not a date")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("yika.format", "not a date") from None


def _instant(value: Any) -> datetime:  # noqa: ANN401  it comes from a file and may be anything
    if not isinstance(value, str) or _INSTANT.fullmatch(value) is None:
        raise PydanticCustomError("yika.format", "not a time with its zone")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("yika.format", "not a time with its zone") from None


def _status(value: Any) -> Any:  # noqa: ANN401  it comes from a file and may be anything
    code = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return _STATUS_OF_CODE.get(code, code) if isinstance(code, str) else value


_Text = Annotated[str, Field(min_length=1, max_length=100)]
_RegionCode = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
_BankCode = Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,40}$")]
_BankAccount = Annotated[str, Field(min_length=1, max_length=40)]
_Day = Annotated[date, PlainValidator(_day)]
_Instant = Annotated[datetime, PlainValidator(_instant)]
_Fen = Annotated[int, Field(ge=-_MOST_FEN, le=_MOST_FEN)]


class ImportedRow(Body):
    """One card with its holder. What has no default must be there; an empty CSV cell is a field left out."""

    holder_name: Name
    id_number: IdNumber
    mobile: Mobile
    insurance_region_code: _RegionCode
    household_register: HouseholdRegister | None = None
    region_code: _RegionCode
    card_number: CardNumberText
    identification_code: IdentificationCode
    generation: Annotated[int, Field(ge=1, le=9)]
    bank_code: _BankCode
    bank_account: _BankAccount | None = None
    bank_status: BankStatus
    production_stage: Stage
    test_batch: bool = False
    status: Annotated[Status, BeforeValidator(_status)]
    temporary_loss_until: _Instant | None = None
    activated_at: _Instant | None = None
    activation_channel: Channel | None = None
    medical_account: MedicalStatus
    service_pin: PinState = PinState.INITIAL
    expires_on: _Day
    medical_balance_fen: _Fen | None = None
    medical_as_of: _Instant | None = None
    medical_source: _Text | None = None
    pension_balance_fen: _Fen | None = None
    pension_as_of: _Instant | None = None
    pension_source: _Text | None = None
    housing_fund_balance_fen: _Fen | None = None
    housing_fund_as_of: _Instant | None = None
    housing_fund_source: _Text | None = None

    def row(self) -> Row:
        """The same inside."""
        return Row(
            holder_name=self.holder_name,
            id_number=self.id_number,
            mobile=self.mobile,
            insurance_region_code=self.insurance_region_code,
            region_code=self.region_code,
            card_number=self.card_number,
            identification_code=self.identification_code,
            generation=self.generation,
            bank_code=self.bank_code,
            bank_account=normalise(self.bank_account) if self.bank_account is not None else None,
            bank_status=self.bank_status,
            stage=self.production_stage,
            test_batch=self.test_batch,
            status=self.status,
            temporary_loss_until=self.temporary_loss_until,
            activated_at=self.activated_at,
            activation_channel=self.activation_channel,
            medical=self.medical_account,
            pin=self.service_pin,
            expires_on=self.expires_on,
            household_register=self.household_register,
            figures=(
                ImportedFigure(Account.MEDICAL, self.medical_balance_fen, self.medical_as_of, self.medical_source),
                ImportedFigure(Account.PENSION, self.pension_balance_fen, self.pension_as_of, self.pension_source),
                ImportedFigure(
                    Account.HOUSING_FUND, self.housing_fund_balance_fen, self.housing_fund_as_of, self.housing_fund_source
                ),
            ),
        )


FIELDS: Final = tuple(str(field.alias) for field in ImportedRow.model_fields.values())
REQUIRED: Final = frozenset(str(field.alias) for field in ImportedRow.model_fields.values() if field.is_required())

_KNOWN: Final = frozenset(FIELDS)
_NUMBERS: Final = frozenset({"generation", *(name for name in FIELDS if name.endswith("BalanceFen"))})
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_TRUTHS: Final = {"true": True, "false": False}
# pydantic's many error types, as the few reasons that a rejected row gives.
_REASONS: Final = {
    "missing": "missing",
    "extra_forbidden": "unknownField",
    "json_invalid": "malformed",
    "model_type": "malformed",
    "string_too_long": "tooLong",
    "string_too_short": "missing",
    "string_pattern_mismatch": "format",
    "string_unicode": "notUtf8",
    "literal_error": "notAllowed",
    "enum": "notAllowed",
    "greater_than_equal": "notAllowed",
    "less_than_equal": "notAllowed",
    "yika.too_long": "tooLong",
    "yika.wrong_type": "wrongType",
    "yika.invalid": "format",
    "yika.format": "format",
}


def read_json_row(line: bytes) -> Row:
    """A line of NDJSON. Raises Rejected."""
    try:
        return ImportedRow.model_validate_json(line).row()
    except ValidationError as error:
        raise Rejected(_faults(error) if _is_utf8(line) else [Fault("", "notUtf8")]) from None


def read_csv_row(line: bytes, columns: Sequence[str]) -> Row:
    """A line of CSV under a header that `read_header` found good. Raises Rejected."""
    cells = _cells(line)
    if len(cells) != len(columns):
        raise Rejected([Fault("", "columns")])
    return read_json_row(
        orjson.dumps({name: _value(name, cell) for name, cell in zip(columns, cells, strict=True) if cell.strip()})
    )


class HeaderError(ValueError):
    """The first line of a CSV file is no header; the text says why by the number of the column, never by what stands there."""


def read_header(line: bytes) -> tuple[str, ...]:
    """The columns of a CSV file, in its order. Raises HeaderError."""
    try:
        columns = tuple(cell.strip() for cell in _cells(line))
    except Rejected as rejected:
        raise HeaderError(f"the header cannot be read ({rejected.faults[0].reason})") from None
    for place, name in enumerate(columns, start=1):
        if name not in _KNOWN:
            raise HeaderError(f"column {place} of the header is not a field of an import")
        if name in columns[: place - 1]:
            raise HeaderError(f"column {place} of the header is there twice")
    if missing := [name for name in FIELDS if name in REQUIRED and name not in columns]:
        raise HeaderError(f"the header lacks {', '.join(missing)}")
    return columns


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _cells(line: bytes) -> list[str]:
    try:
        rows = list(csv.reader([line.decode()], strict=True))
    except UnicodeDecodeError:
        raise Rejected([Fault("", "notUtf8")]) from None
    except csv.Error:
        raise Rejected([Fault("", "malformed")]) from None
    return rows[0] if len(rows) == 1 else []


def _value(name: str, cell: str) -> str | int | bool:
    text = cell.strip()
    if name in _NUMBERS and _WHOLE.fullmatch(text):
        return int(text)
    return _TRUTHS.get(text, text) if name == "testBatch" else text


def _faults(error: ValidationError) -> list[Fault]:
    return [
        Fault(str(item["loc"][0]) if item["loc"] and item["loc"][0] in _KNOWN else "", _reason(item["type"]))
        for item in error.errors(include_input=False, include_url=False, include_context=False)
    ]


def _reason(kind: str) -> str:
    if kind in _REASONS:
        return _REASONS[kind]
    if kind.endswith("_check_character"):
        return "checkCharacter"
    if kind.endswith("_birth_date"):
        return "birthDate"
    if kind.startswith("yika."):
        return "format"
    return "wrongType" if kind.endswith(("_type", "_parsing")) else "notAllowed"
