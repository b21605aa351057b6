"""The numbers: what people paste is read, what is wrong is caught, and nobody real is turned away."""

import string
from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import luhn
from stdnum.cn import ric, uscc

from service.numbers import (
    NATIONAL_CARD_NUMBER,
    CardNumberFormat,
    IdentificationCode,
    InvalidNumber,
    ResidentId,
    card_number_check_character,
    credit_code_check_character,
    luhn_check_digit,
    normalise,
    parse_bank_number,
    parse_card_number,
    parse_credit_code,
    parse_household_register,
    parse_identification_code,
    parse_mobile,
    parse_region_code,
    parse_resident_id,
    resident_id_check_character,
)

TODAY: Final = date(2026, 11, 22)
CREDIT_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
FULL_WIDTH: Final = {ord(sign): ord(sign) + 0xFEE0 for sign in string.ascii_letters + string.digits + "+-"}

digits = st.text("0123456789", min_size=1)
six = st.from_regex(r"[0-9]{6}", fullmatch=True)
three = st.from_regex(r"[0-9]{3}", fullmatch=True)
past_days = st.dates(min_value=date(1880, 1, 1), max_value=TODAY)
resident_numbers = st.builds(
    lambda prefix, born, sequence: with_check(f"{prefix}{born:%Y%m%d}{sequence}"), six, past_days, three
)
card_numbers = st.from_regex(r"[0-9A-Z][0-9]{7}", fullmatch=True).map(lambda body: body + card_number_check_character(body))
bank_numbers = st.text("0123456789", min_size=15, max_size=18).map(lambda body: body + luhn_check_digit(body))
credit_codes = st.builds(
    lambda head, region, tail: (body := head + region + tail) + credit_code_check_character(body),
    st.text(CREDIT_ALPHABET, min_size=2, max_size=2),
    six,
    st.text(CREDIT_ALPHABET, min_size=9, max_size=9),
)
spoilers = st.sampled_from([*" \t\u3000\u00a0\u200b\ufeff\u202c-\u2013\uff0d", "\r\n"])


def with_check(body: str) -> str:
    return body + resident_id_check_character(body)


def resident(text: str) -> ResidentId:
    return parse_resident_id(text, today=TODAY)


def fault(parse: Callable[[str], object], text: str) -> str:
    with pytest.raises(InvalidNumber) as caught:
        parse(text)
    return caught.value.code


def national(text: str) -> str:
    return parse_card_number(text, NATIONAL_CARD_NUMBER)


def one_character_changed(number: str, alphabet: str) -> list[str]:
    return [
        number[:place] + other + number[place + 1 :]
        for place in range(len(number))
        for other in alphabet
        if other != number[place]
    ]


def neighbours_swapped(number: str) -> list[str]:
    return [
        number[:place] + number[place + 1] + number[place] + number[place + 2 :]
        for place in range(len(number) - 1)
        if number[place] != number[place + 1]
    ]


@st.composite
def as_pasted(draw: st.DrawFn, number: str) -> str:
    """The same number with strange widths, cases, and things in between."""
    pieces = []
    for sign in number:
        cased = sign.lower() if draw(st.booleans()) else sign
        pieces += [
            draw(st.just("") | spoilers),
            cased.translate(FULL_WIDTH) if draw(st.booleans()) else cased,
        ]
    return "".join([*pieces, draw(st.just("") | spoilers)])


class TestNormalising:
    @given(st.data(), st.text(string.ascii_uppercase + string.digits, max_size=40))
    def test_what_people_paste_comes_out_as_it_is_printed(self, data: st.DataObject, number: str) -> None:
        assert normalise(data.draw(as_pasted(number))) == number

    @given(st.text())
    def test_normalising_twice_changes_nothing_more(self, text: str) -> None:
        assert normalise(normalise(text)) == normalise(text)

    def test_the_roman_ten_of_input_methods_is_the_check_character(self) -> None:
        assert normalise("\u2169\u2179") == "XX"

    @pytest.mark.parametrize("text", list("①²٣३一ß_.\x00\u0425\u0131\u017f\u00d7\U0001d7cf"))
    def test_what_only_looks_like_a_digit_or_letter_is_left_alone(self, text: str) -> None:
        assert normalise(text) == text


class TestResidentId:
    @pytest.mark.parametrize(
        ("number", "born", "sex"),
        [
            # The examples of GB 11643-1999 itself.
            ("11010519491231002X", date(1949, 12, 31), "female"),
            ("440524188001010014", date(1880, 1, 1), "male"),
            # Widely printed ones.
            ("34052419800101001X", date(1980, 1, 1), "male"),
            ("53010219200508011X", date(1920, 5, 8), "male"),
        ],
    )
    def test_published_examples_are_read(self, number: str, born: date, sex: str) -> None:
        person = resident(number)
        assert (person.number, person.birth_date, person.sex, person.kind) == (number, born, sex, "resident")
        assert (person.region_prefix, person.sequence) == (number[:6], number[14:17])

    @given(st.from_regex(r"[0-9]{17}", fullmatch=True))
    def test_the_check_character_is_the_one_of_another_implementation(self, body: str) -> None:
        assert resident_id_check_character(body) == ric.calc_check_digit(body + "0")

    @given(st.data(), resident_numbers)
    def test_any_spelling_of_one_number_is_one_number(self, data: st.DataObject, number: str) -> None:
        assert resident(data.draw(as_pasted(number))) == resident(number)

    @given(resident_numbers)
    def test_no_region_prefix_is_ever_a_reason_to_refuse(self, number: str) -> None:
        assert resident(number).region_prefix == number[:6]

    @pytest.mark.parametrize("prefix", ["110103", "132701", "000000", "199999", "830000", "710000", "659099"])
    def test_a_retired_or_unknown_region_prefix_is_accepted(self, prefix: str) -> None:
        assert resident(with_check(f"{prefix}19900307123")).birth_date == date(1990, 3, 7)

    @given(resident_numbers)
    def test_every_single_slip_of_the_finger_is_caught(self, number: str) -> None:
        for wrong in one_character_changed(number, "0123456789X") + neighbours_swapped(number):
            assert fault(resident, wrong) in {"format", "check_character"}, wrong

    @pytest.mark.parametrize(
        ("prefix", "kind"),
        [
            ("810000", "hkmoTw"),
            ("820000", "hkmoTw"),
            ("830000", "hkmoTw"),
            ("911840", "foreignPermanentResident"),
            ("931826", "foreignPermanentResident"),
            ("110105", "resident"),
            ("840000", "resident"),
            ("800000", "resident"),
        ],
    )
    def test_the_prefix_tells_who_carries_the_number(self, prefix: str, kind: str) -> None:
        assert resident(with_check(f"{prefix}19900307123")).kind == kind

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "X",
            "1101051949123100",
            "110105491231002",  # the fifteen digits of the first generation
            "USA110190030712",  # a foreign resident card of before 2023
            "11010519491231002XX",
            "1101051949123100X2",
            "11010519491231002\u0425",  # a Cyrillic letter
            "1101051949123100٢X",
            "110105/19491231/002X",
            "11010519491231002X\x00",
        ],
    )
    def test_another_shape_is_a_wrong_format(self, text: str) -> None:
        assert fault(resident, text) == "format"

    @pytest.mark.parametrize("born", ["19900230", "19901301", "19900001", "19900100", "00000101", "19000229"])
    def test_a_day_that_no_calendar_has_is_a_wrong_birth_date(self, born: str) -> None:
        with pytest.raises(InvalidNumber, match="birth_date") as caught:
            resident(with_check(f"110105{born}002"))
        # The calendar's own complaint may name the year: it must not be printed along.
        assert caught.value.__suppress_context__

    def test_one_may_be_born_today_but_not_tomorrow(self) -> None:
        assert resident(with_check(f"110105{TODAY:%Y%m%d}002")).age_on(TODAY) == 0
        assert fault(resident, with_check(f"110105{TODAY + timedelta(days=1):%Y%m%d}002")) == "birth_date"

    @pytest.mark.parametrize(
        ("born", "day", "age"),
        [
            (date(2010, 11, 22), date(2026, 11, 21), 15),
            (date(2010, 11, 22), date(2026, 11, 22), 16),
            (date(2010, 11, 22), date(2026, 12, 1), 16),
            (date(2010, 11, 22), date(2027, 1, 1), 16),
            (date(2008, 2, 29), date(2026, 2, 28), 17),
            (date(2008, 2, 29), date(2026, 3, 1), 18),
            (date(2008, 2, 29), date(2028, 2, 29), 20),
        ],
    )
    def test_a_year_is_completed_on_the_birthday(self, born: date, day: date, age: int) -> None:
        assert resident(with_check(f"110105{born:%Y%m%d}002")).age_on(day) == age

    def test_there_is_no_age_before_birth(self) -> None:
        with pytest.raises(ValueError, match="before"):
            resident("11010519491231002X").age_on(date(1949, 12, 30))

    @given(resident_numbers)
    def test_a_number_is_in_no_repr_and_in_no_complaint(self, number: str) -> None:
        assert repr(resident(number)) == "ResidentId()"
        with pytest.raises(InvalidNumber) as caught:
            resident(number[:17])
        assert str(caught.value) == "format"
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("body", ["", "1" * 16, "1" * 18, "1" * 16 + "X"])
    def test_no_check_character_for_something_else(self, body: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  whichever of the builtin ones says it
            resident_id_check_character(body)


class TestCardNumber:
    @pytest.mark.parametrize(
        "number",
        ["D2143569-X", "12345678-8", "19220382-1", "71526726-X", "79965505-8"],
    )
    def test_published_codes_of_the_same_standard_are_read(self, number: str) -> None:
        assert national(number) == number.replace("-", "")

    @given(card_numbers)
    def test_the_weighted_sum_with_its_check_is_a_multiple_of_eleven(self, number: str) -> None:
        weights = (3, 7, 9, 10, 5, 8, 4, 2)
        values = [string.digits.find(sign) if sign.isdigit() else ord(sign) - ord("A") + 10 for sign in number[:8]]
        check = 10 if number[8] == "X" else int(number[8])
        assert (sum(w * v for w, v in zip(weights, values, strict=True)) + check) % 11 == 0

    @given(card_numbers)
    def test_every_slip_in_the_digits_is_caught(self, number: str) -> None:
        for wrong in one_character_changed(number[1:], "0123456789X"):
            assert fault(national, number[0] + wrong) in {"format", "check_character"}, wrong
        for wrong in neighbours_swapped(number):
            if wrong[0] == number[0]:
                assert fault(national, wrong) in {"format", "check_character"}, wrong

    @given(st.data(), card_numbers)
    def test_any_spelling_of_one_number_is_one_number(self, data: st.DataObject, number: str) -> None:
        assert national(data.draw(as_pasted(number))) == number

    def test_a_region_may_leave_the_check_character_alone(self) -> None:
        lenient = CardNumberFormat(length=9, check_character_enforced=False)
        assert fault(national, "A12345670") == "check_character"
        assert parse_card_number("a1234567 0", lenient) == "A12345670"
        assert fault(lambda text: parse_card_number(text, lenient), "A1234567Y") == "format"

    @pytest.mark.parametrize("length", [12, 20])
    def test_longer_numbers_are_read_where_the_region_uses_them(self, length: int) -> None:
        longer = CardNumberFormat(length=length, check_character_enforced=False)
        assert parse_card_number("z" + "1" * (length - 1), longer) == "Z" + "1" * (length - 1)
        for wrong in ("Z" + "1" * (length - 2), "Z" + "1" * length, "ZZ" + "1" * (length - 2), "192203821"):
            assert fault(lambda text: parse_card_number(text, longer), wrong) == "format"

    @pytest.mark.parametrize(("length", "enforced"), [(8, False), (0, False), (10, True), (12, True), (20, True)])
    def test_a_format_that_makes_no_sense_cannot_be_made(self, length: int, *, enforced: bool) -> None:
        with pytest.raises(ValueError, match="card number"):
            CardNumberFormat(length=length, check_character_enforced=enforced)

    @pytest.mark.parametrize("text", ["", "A1234567", "AB234567X", "A123456XX", "A1234567X1", "é1234567X"])
    def test_another_shape_is_a_wrong_format(self, text: str) -> None:
        assert fault(national, text) == "format"


class TestIdentificationCode:
    @given(st.data(), st.from_regex(r"[0-9]{6}D156000005[0-9A-F]{16}", fullmatch=True))
    def test_it_is_read_as_pasted_and_names_its_region(self, data: st.DataObject, code: str) -> None:
        read = parse_identification_code(data.draw(as_pasted(code)))
        assert read == IdentificationCode(code)
        assert read.region_code == code[:6]
        assert repr(read) == "IdentificationCode()"

    def test_the_usual_middle_part_is_usual_only(self) -> None:
        assert parse_identification_code("990100" + "F" * 26).code == "990100" + "F" * 26

    @pytest.mark.parametrize("text", ["", "9" * 31, "9" * 33, "99010A" + "0" * 26, "990100" + "G" * 26])
    def test_another_shape_is_a_wrong_format(self, text: str) -> None:
        assert fault(parse_identification_code, text) == "format"


class TestMobile:
    @pytest.mark.parametrize(
        "text",
        [
            "13800138000",
            "138 0013 8000",
            "+86 138-0013-8000",
            "008613800138000",
            "8613800138000",
            "+86 138-0013-8000".translate(FULL_WIDTH),
        ],
    )
    def test_a_country_code_and_spaces_do_no_harm(self, text: str) -> None:
        assert parse_mobile(text) == "13800138000"

    @given(st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True))
    def test_no_block_of_numbers_is_refused(self, number: str) -> None:
        assert parse_mobile(number) == number

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "12800138000",
            "1380013800",
            "138001380000",
            "+8513800138000",
            "++8613800138000",
            "868613800138000",
        ],
    )
    def test_anything_else_is_a_wrong_format(self, text: str) -> None:
        assert fault(parse_mobile, text) == "format"


class TestBankNumber:
    @given(digits)
    def test_the_check_digit_is_the_one_of_another_implementation(self, body: str) -> None:
        assert luhn_check_digit(body) == luhn.calc_check_digit(body)

    @given(st.text("0123456789", min_size=16, max_size=19))
    def test_what_another_implementation_accepts_is_accepted(self, number: str) -> None:
        if luhn.is_valid(number):
            assert parse_bank_number(number) == number
        else:
            assert fault(parse_bank_number, number) == "check_character"

    @pytest.mark.parametrize("number", ["4111111111111111", "5555555555554444", "6205500000000000004"])
    def test_published_test_numbers_are_read(self, number: str) -> None:
        assert parse_bank_number(f"{number[:4]} {number[4:8]} {number[8:]}") == number

    @given(bank_numbers)
    def test_every_changed_digit_is_caught_and_every_swap_that_luhn_can_see(self, number: str) -> None:
        for wrong in one_character_changed(number, "0123456789"):
            assert fault(parse_bank_number, wrong) == "check_character"
        for wrong in neighbours_swapped(number):
            swapped = {before for before, after in zip(number, wrong, strict=True) if before != after}
            if swapped != {"0", "9"}:
                assert fault(parse_bank_number, wrong) == "check_character", wrong

    @pytest.mark.parametrize("text", ["", "4" * 15, "4" * 20, "411111111111111X"])
    def test_another_shape_is_a_wrong_format(self, text: str) -> None:
        assert fault(parse_bank_number, text) == "format"


class TestCreditCode:
    @pytest.mark.parametrize(
        "code",
        ["91110000600037341L", "9144030071526726XG", "914403001922038216", "91350100M000100Y43"],
    )
    def test_published_codes_are_read(self, code: str) -> None:
        assert parse_credit_code(code) == code

    @given(st.text(CREDIT_ALPHABET, min_size=17, max_size=17))
    def test_the_check_character_is_the_one_of_another_implementation(self, body: str) -> None:
        assert credit_code_check_character(body) == uscc.calc_check_digit(body)

    @given(credit_codes)
    def test_every_slip_is_caught(self, code: str) -> None:
        assert parse_credit_code(code.lower()) == code
        for wrong in one_character_changed(code, CREDIT_ALPHABET) + neighbours_swapped(code):
            assert fault(parse_credit_code, wrong) in {"format", "check_character"}, wrong

    def test_a_farmers_cooperative_begins_with_a_letter(self) -> None:
        body = "N2440783MA4W1234X"
        assert parse_credit_code(body + uscc.calc_check_digit(body)).startswith("N2")

    @pytest.mark.parametrize("letter", "IOSVZ")
    def test_the_letters_that_the_standard_leaves_out_are_a_wrong_format(self, letter: str) -> None:
        assert fault(parse_credit_code, f"91110000{letter}00037341L") == "format"


class TestHouseholdRegister:
    @pytest.mark.parametrize(("typed", "number"), [(" 9900-12345 ".translate(FULL_WIDTH), "990012345"), ("ab12", "AB12")])
    def test_digits_and_letters_are_read_as_they_are_pasted(self, typed: str, number: str) -> None:
        assert parse_household_register(typed) == number

    @pytest.mark.parametrize("text", ["", "123", "1" * 33, "户号12345", "1234/5"])
    def test_anything_else_is_a_wrong_format(self, text: str) -> None:
        assert fault(parse_household_register, text) == "format"


class TestRegionCode:
    def test_any_six_digits_may_be_a_region(self) -> None:
        assert parse_region_code(" 99 0100".translate(FULL_WIDTH)) == "990100"

    @pytest.mark.parametrize("text", ["", "99010", "9901000", "99010A", "٩٩٠١٠٠"])
    def test_anything_else_is_a_wrong_format(self, text: str) -> None:
        assert fault(parse_region_code, text) == "format"


@pytest.mark.parametrize(
    "parse",
    [
        resident,
        national,
        parse_household_register,
        parse_identification_code,
        parse_mobile,
        parse_bank_number,
        parse_credit_code,
        parse_region_code,
    ],
)
@given(text=st.text() | st.text("0123456789XABCDEF+- \u3000", max_size=34))
def test_whatever_is_typed_is_read_or_refused_with_a_code(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except InvalidNumber as no:
        # Either answer is right; a crash is not.
        assert no.code in {"format", "check_character", "birth_date"}  # noqa: PT017  it may be raised or not


@given(st.text(alphabet=string.ascii_letters + string.digits, min_size=1))
def test_plain_text_is_normalised_like_text_with_something_to_mend(text: str) -> None:
    assert normalise(text) == normalise(f"{text}\u200b") == text.upper()


@pytest.mark.parametrize("body", ["", "1" * 16, "1" * 18, "1" * 16 + "x", "1" * 16 + "²"])
def test_a_body_that_is_none_has_no_check_character(body: str) -> None:
    with pytest.raises(ValueError, match="not a body"):
        resident_id_check_character(body)
