"""Rows of an import: what is taken, what is not and why, and that nothing of a row gets into the reason."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.imports import FIELDS, REQUIRED, HeaderError, read_csv_row, read_header, read_json_row
from service.cards import AAZ502, Status
from service.imports import Entry, Rejected, RowRules
from service.keyring import new_keyring
from service.regions import SHIPPED, Regions
from service.vault import Vault

REGIONS: Final = Regions.load_directory(SHIPPED)
NOW: Final = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
RING: Final = new_keyring("sandbox")
RULES: Final = RowRules(REGIONS, Vault(lambda: RING), lambda number: "notHere" if number.startswith("8") else None)
SEALED: Final[dict[str, Any]] = {
    "holderName": "欧阳假安",
    "idNumber": "196533199111121376",
    "mobile": "15496531123",
    "insuranceRegionCode": "990200",
    "regionCode": "990100",
    "cardNumber": "N11564394",
    "identificationCode": "990100D156000005ABBD6944BAA1DDF3",
    "generation": 3,
    "bankCode": "B901",
    "bankAccount": "9999655442554180543",
    "bankStatus": "pending",
    "productionStage": "delivered",
    "status": "sealed",
    "medicalAccount": "normal",
    "expiresOn": "2035-08-31",
    "medicalBalanceFen": 794_894,
    "medicalAsOf": "2026-11-20T20:00:00+08:00",
    "medicalSource": "medicalInsuranceBureau",
}
ACTIVE: Final[dict[str, Any]] = SEALED | {
    "status": "active",
    "bankStatus": "active",
    "activatedAt": "2025-03-14T09:30:00+08:00",
    "activationChannel": "bank",
}
LOST: Final[dict[str, Any]] = ACTIVE | {"status": "temporarilyLost", "temporaryLossUntil": "2026-11-30T00:00:00+08:00"}


def entry(row: Mapping[str, Any]) -> Entry:
    return RULES.entry(read_json_row(json.dumps(row).encode()), NOW)


def faults(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(Rejected) as rejected:
        entry({name: value for name, value in row.items() if value is not ...})
    return [(fault.field, fault.reason) for fault in rejected.value.faults]


def test_a_sealed_card_becomes_what_its_row_says() -> None:
    made = entry(SEALED)
    card, holder = made.card, made.holder
    assert (holder.name, holder.id_number, holder.mobile, holder.region_code, holder.query_password) == (
        "欧阳假安",
        "196533199111121376",
        "15496531123",
        "990200",
        None,
    )
    assert (card.holder_id, card.holder_name, card.region_code, card.number) == (
        holder.holder_id,
        holder.name,
        "990100",
        "N11564394",
    )
    assert (card.stored_status, card.stage, card.activation, card.version, made.history) == ("sealed", "delivered", None, 0, ())
    assert (card.pin.state, card.test_batch, card.bank.account) == ("initial", False, "9999655442554180543")
    (figure,) = made.figures
    assert (figure.account, figure.balance_fen, figure.status, figure.source) == (
        "medical",
        794_894,
        "normal",
        "medicalInsuranceBureau",
    )
    assert figure.as_of == datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def test_a_household_register_is_the_persons_and_may_be_left_out() -> None:
    assert entry(SEALED).holder.household_register is None
    assert entry(SEALED | {"householdRegister": " 9900-12345"}).holder.household_register == "990012345"
    assert faults(SEALED | {"householdRegister": "户12"}) == [("householdRegister", "format")]
    assert faults(SEALED | {"householdRegister": 990012345}) == [("householdRegister", "wrongType")]
    row = SEALED | {"householdRegister": "990012345"}
    assert read_csv_row(csv_line(row), FIELDS) == read_json_row(json.dumps(row).encode())


def test_an_active_card_brings_its_activation_along() -> None:
    made = entry(ACTIVE)
    assert made.card.activation is not None
    assert (made.card.activation.at, made.card.activation.channel) == (datetime(2025, 3, 14, 1, 30, tzinfo=UTC), "bank")
    assert made.card.activation.by == made.holder.holder_id
    (happened,) = made.history
    assert (happened.happening, happened.before, happened.after, made.card.version) == ("activated", "sealed", "active", 1)


def test_a_temporary_loss_ends_when_the_row_says() -> None:
    assert entry(LOST).card.temporary_loss_until == datetime(2026, 11, 29, 16, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_taken_as_its_word_or_its_code(status: Status) -> None:
    words = {"status": status.value} | (
        {} if status is not Status.TEMPORARILY_LOST else {"temporaryLossUntil": LOST["temporaryLossUntil"]}
    )
    row = (SEALED if status is Status.SEALED else ACTIVE) | words
    for told in (status.value, AAZ502[status], str(AAZ502[status])):
        assert entry(row | {"status": told}).card.stored_status is status


def test_ids_follow_from_numbers_regions_and_the_keyring_alone() -> None:
    first, again = entry(SEALED), entry(SEALED | {"holderName": "李假远", "mobile": "15400000001", "expiresOn": "2036-01-01"})
    assert (first.card.card_id, first.holder.holder_id) == (again.card.card_id, again.holder.holder_id)
    other = new_keyring("sandbox")
    elsewhere = RowRules(REGIONS, Vault(lambda: other), lambda _: None).entry(read_json_row(json.dumps(SEALED).encode()), NOW)
    assert elsewhere.card.card_id != first.card.card_id
    assert elsewhere.holder.holder_id != first.holder.holder_id


def test_one_number_in_two_regions_is_two_cards_of_one_person() -> None:
    one = entry(SEALED)
    two = entry(SEALED | {"regionCode": "990500", "identificationCode": "990500D156000005ABBD6944BAA1DDF3"})
    assert one.card.card_id != two.card.card_id
    assert one.holder.holder_id == two.holder.holder_id


def test_numbers_are_taken_as_people_paste_them() -> None:
    pasted = SEALED | {
        "idNumber": "１９６５３３ 19911112 1376",
        "mobile": "+86 154-9653-1123",
        "cardNumber": "n1156-4394",
        "identificationCode": "990100d156000005 abbd6944baa1ddf3",
        "bankAccount": "9999 6554 4255 4180 543",
    }
    assert entry(pasted).card == entry(SEALED).card
    assert entry(pasted).holder == entry(SEALED).holder


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("张伟", "张伟"),
        (" 张 伟 ", "张伟"),
        ("欧阳\u3000安", "欧阳安"),
        ("买买提\u2022吐尔逊", "买买提·吐尔逊"),
        ("张\u200b伟", "张伟"),
        ("CLARA  INVENTED", "CLARA INVENTED"),
        ("㐱\U00020bb7", "㐱\U00020bb7"),
        ("e\u0301lan", "élan"),
    ],
)
def test_names_are_taken_as_people_write_them(told: str, name: str) -> None:
    assert entry(SEALED | {"holderName": told}).card.holder_name == name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"idNumber": "196533199111121375"}, [("idNumber", "checkCharacter")]),
        ({"idNumber": "196533199113311376"}, [("idNumber", "birthDate")]),
        ({"idNumber": "19653319911112137"}, [("idNumber", "format")]),
        ({"idNumber": 196533199111121376}, [("idNumber", "wrongType")]),
        ({"mobile": "12345678901"}, [("mobile", "format")]),
        ({"mobile": ...}, [("mobile", "missing")]),
        ({"holderName": "  "}, [("holderName", "format")]),
        ({"holderName": ""}, [("holderName", "missing")]),
        ({"holderName": "甲" * 65}, [("holderName", "tooLong")]),
        ({"insuranceRegionCode": "440100"}, [("insuranceRegionCode", "regionNotServed")]),
        ({"insuranceRegionCode": "9901"}, [("insuranceRegionCode", "format")]),
        ({"regionCode": "440100"}, [("regionCode", "regionNotServed"), ("identificationCode", "regionMismatch")]),
        ({"cardNumber": "N11564395"}, [("cardNumber", "checkCharacter")]),
        ({"cardNumber": "N1156439"}, [("cardNumber", "format")]),
        ({"identificationCode": "990200D156000005ABBD6944BAA1DDF3"}, [("identificationCode", "regionMismatch")]),
        ({"identificationCode": "990100D156"}, [("identificationCode", "format")]),
        ({"generation": 1}, [("generation", "notOfRegion")]),
        ({"generation": 0}, [("generation", "notAllowed")]),
        ({"generation": 3.5}, [("generation", "wrongType")]),
        ({"bankCode": "B904"}, [("bankCode", "bankNotOfRegion")]),
        ({"bankAccount": "9999655442554180544"}, [("bankAccount", "checkCharacter")]),
        ({"bankAccount": "12"}, [("bankAccount", "format")]),
        ({"bankAccount": ..., "bankStatus": "dormant"}, [("bankAccount", "missing")]),
        ({"bankStatus": "none"}, [("bankAccount", "notAllowed")]),
        ({"bankStatus": "open"}, [("bankStatus", "notAllowed")]),
        ({"productionStage": "shipped"}, [("productionStage", "notAllowed")]),
        ({"testBatch": True}, [("productionStage", "testCard")]),
        ({"testBatch": "yes"}, [("testBatch", "wrongType")]),
        ({"status": "lost"}, [("status", "notAllowed")]),
        ({"status": 5}, [("status", "notAllowed")]),
        ({"status": True}, [("status", "notAllowed")]),
        ({"status": "active"}, [("activatedAt", "missing"), ("activationChannel", "missing")]),
        ({"activatedAt": ACTIVE["activatedAt"]}, [("activatedAt", "notAllowed")]),
        ({"temporaryLossUntil": LOST["temporaryLossUntil"]}, [("temporaryLossUntil", "notAllowed")]),
        ({"expiresOn": "2035-02-29"}, [("expiresOn", "format")]),
        ({"expiresOn": "20350831"}, [("expiresOn", "format")]),
        ({"medicalAsOf": "2026-11-20T20:00:00"}, [("medicalAsOf", "format")]),
        ({"medicalAsOf": "2026-11-20T25:00:00+08:00"}, [("medicalAsOf", "format")]),
        ({"medicalAsOf": "2026-11-23T00:00:00+08:00"}, [("medicalAsOf", "inFuture")]),
        ({"medicalAsOf": 1_763_640_000}, [("medicalAsOf", "format")]),
        ({"medicalSource": ...}, [("medicalSource", "missing")]),
        ({"pensionBalanceFen": 5}, [("pensionAsOf", "missing"), ("pensionSource", "missing")]),
        ({"housingFundBalanceFen": 1.5}, [("housingFundBalanceFen", "wrongType")]),
        ({"medicalBalanceFen": 10**14}, [("medicalBalanceFen", "notAllowed")]),
        ({"medicalBalanceFen": 10**30}, [("medicalBalanceFen", "notAllowed")]),
        ({"nickname": "x"}, [("", "unknownField")]),
        ({"196533199111121376": "x"}, [("", "unknownField")]),
    ],
    ids=str,
)
def test_what_a_sealed_row_must_not_say(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(SEALED | change) == expected


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ACTIVE | {"productionStage": "receivedByBank"}, [("status", "notDelivered")]),
        (
            ACTIVE | {"productionStage": "receivedByBank", "testBatch": True},
            [("status", "testCard"), ("status", "notDelivered")],
        ),
        (ACTIVE | {"activatedAt": "2026-11-22T12:00:01+08:00"}, [("activatedAt", "inFuture")]),
        (ACTIVE | {"status": "locked", "activationChannel": ...}, [("activationChannel", "missing")]),
        (ACTIVE | {"status": "cancelled", "activatedAt": ...}, [("activatedAt", "missing")]),
        (LOST | {"temporaryLossUntil": ...}, [("temporaryLossUntil", "missing")]),
        (ACTIVE | {"activationChannel": "post"}, [("activationChannel", "notAllowed")]),
    ],
)
def test_what_the_states_of_a_card_ask_of_each_other(row: Mapping[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(row) == expected


def test_a_card_that_was_cancelled_before_it_was_activated_is_taken() -> None:
    assert entry(SEALED | {"status": "cancelled"}).card.activation is None


def test_a_number_that_has_no_place_in_this_environment_is_refused() -> None:
    assert faults(SEALED | {"idNumber": "819900199001011174"}) == [("idNumber", "notHere")]


def test_all_faults_of_a_row_are_told_at_once() -> None:
    told = faults(SEALED | {"bankCode": "B904", "generation": 1, "cardNumber": "N1", "insuranceRegionCode": "440100"})
    assert {field for field, _ in told} == {"bankCode", "generation", "cardNumber", "insuranceRegionCode"}
    told = faults(SEALED | {"mobile": "1", "idNumber": "2", "status": "?"})
    assert {field for field, _ in told} == {"mobile", "idNumber", "status"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[]", "malformed"),
        (b"{", "malformed"),
        (b"null", "malformed"),
        (b'"x"', "malformed"),
        (b"\xff{}", "notUtf8"),
        (b"{}{}", "malformed"),
    ],
)
def test_a_line_that_is_no_object_is_rejected_whole(line: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        read_json_row(line)
    assert [(fault.field, fault.reason) for fault in rejected.value.faults] == [("", reason)]


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reading(line: bytes) -> None:
    for read in (read_json_row, lambda cells: read_csv_row(cells, FIELDS)):
        with pytest.raises(Rejected):
            read(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), json_values, min_size=1, max_size=5))
def test_whatever_stands_in_a_field_is_taken_or_rejected_under_our_own_words(change: dict[str, Any]) -> None:
    try:
        entry({**ACTIVE, **change})
    except Rejected as rejected:
        for fault in rejected.faults:
            assert fault.field in {"", *FIELDS}
            assert fault.reason.isascii()
            assert fault.reason.isalnum()


# --- CSV ---


def csv_line(row: Mapping[str, Any], columns: tuple[str, ...] = FIELDS) -> bytes:
    return ",".join(f'"{row[name]}"' if name in row else "" for name in columns).encode()


@pytest.mark.parametrize("row", [SEALED, ACTIVE, LOST], ids=["sealed", "active", "lost"])
def test_csv_says_what_json_says(row: Mapping[str, Any]) -> None:
    assert read_csv_row(csv_line(row), FIELDS) == read_json_row(json.dumps(row).encode())
    turned = tuple(reversed(FIELDS))
    assert read_csv_row(csv_line(row, turned), turned) == read_json_row(json.dumps(row).encode())


def test_a_quoted_comma_and_a_doubled_quote_belong_to_the_cell() -> None:
    row = read_csv_row(csv_line(SEALED | {"medicalSource": 'bureau ""two"", city'}), FIELDS)
    assert row.figures[0].source == 'bureau "two", city'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (csv_line(SEALED) + b",", "columns"),
        (b"", "columns"),
        (b"a,b", "columns"),
        (csv_line(SEALED).replace(b'"N11564394"', b'"N11564394'), "malformed"),
        (csv_line(SEALED).replace(b"15496531123", b"1549653\xff123"), "notUtf8"),
    ],
)
def test_a_line_that_is_no_row_of_the_table_is_rejected_whole(line: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        read_csv_row(line, FIELDS)
    assert [(fault.field, fault.reason) for fault in rejected.value.faults] == [("", reason)]


@pytest.mark.parametrize(
    ("field", "cell", "reason"),
    [
        ("generation", "3.0", "wrongType"),
        ("generation", "１", "wrongType"),
        ("medicalBalanceFen", "1,5", "wrongType"),
        ("medicalBalanceFen", "+1_0", "wrongType"),
        ("testBatch", "yes", "wrongType"),
        ("mobile", " ", "missing"),
        ("status", "7", "notAllowed"),
    ],
)
def test_a_cell_is_judged_as_strictly_as_json(field: str, cell: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        read_csv_row(csv_line({**SEALED, field: cell}), FIELDS)
    assert [(fault.field, fault.reason) for fault in rejected.value.faults] == [(field, reason)]


def test_a_header_may_leave_out_what_need_not_be_told_and_come_in_any_order() -> None:
    assert read_header(",".join(FIELDS).encode()) == FIELDS
    needed = tuple(sorted(REQUIRED))
    assert read_header(", ".join(needed).encode()) == needed


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_a_header_that_lacks_a_needed_column_is_refused_by_its_name(missing: str) -> None:
    with pytest.raises(HeaderError, match=f"lacks {missing}$"):
        read_header(",".join(name for name in FIELDS if name != missing).encode())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (csv_line(SEALED), "column 1 of the header is not a field"),
        (",".join([*FIELDS, "196533199111121376"]).encode(), f"column {len(FIELDS) + 1} of the header is not a field"),
        (",".join([*FIELDS, "mobile"]).encode(), f"column {len(FIELDS) + 1} of the header is there twice"),
        (b"", "lacks holderName"),
        (b"\xff\xfeh\x00o\x00", "cannot be read"),
        (b'"holderName', "cannot be read"),
    ],
)
def test_a_header_is_refused_without_saying_what_stands_there(line: bytes, told: str) -> None:
    with pytest.raises(HeaderError, match=told) as refused:
        read_header(line)
    values = chain((str(value) for value in SEALED.values()), ["196533199111121376"])
    assert not [value for value in values if len(value) > 3 and value in str(refused.value)]
