"""The invented people: every check accepts them, nobody can be one of them, and they stay who they are."""

import re
from datetime import date
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import numdb

from service.numbers import (
    NATIONAL_CARD_NUMBER,
    CardNumberFormat,
    Sex,
    card_number_check_character,
    parse_bank_number,
    parse_card_number,
    parse_credit_code,
    parse_identification_code,
    parse_mobile,
    parse_resident_id,
)
from service.sandbox.invention import (
    FOREIGN_PREFIX,
    HONG_KONG_PREFIX,
    MACAU_PREFIX,
    RETIRED_PREFIX,
    TAIWAN_PREFIX,
    Inventor,
    is_invented,
    is_invented_name,
    is_invented_region,
)

TODAY: Final = date(2026, 11, 22)
BORN: Final = date(1988, 8, 8)
SPECIAL_PREFIXES: Final = {
    HONG_KONG_PREFIX: "hkmoTw",
    MACAU_PREFIX: "hkmoTw",
    TAIWAN_PREFIX: "hkmoTw",
    FOREIGN_PREFIX: "foreignPermanentResident",
    RETIRED_PREFIX: "resident",
}

seeds = st.text(max_size=20)
birthdays = st.dates(min_value=date(1900, 1, 1), max_value=TODAY)


def everything(inventor: Inventor) -> list[str]:
    born = inventor.birth_date(earliest=date(1950, 1, 1), latest=date(2008, 12, 31))
    id_number = inventor.resident_id(born=born)
    return [
        inventor.name(),
        inventor.latin_name(),
        id_number,
        inventor.mobile(),
        inventor.card_number(),
        inventor.identification_code("990100"),
        inventor.bank_number(),
        inventor.credit_code("990100"),
        inventor.household_register(),
        inventor.service_pin(avoiding=id_number),
        inventor.query_password(),
        inventor.username("hospital"),
        inventor.password(),
        inventor.totp_secret(),
    ]


@given(seeds, birthdays, st.sampled_from(["male", "female", None]))
def test_an_invented_id_number_is_read_like_any_other(seed: str, born: date, sex: Sex | None) -> None:
    number = Inventor(seed).resident_id(born=born, sex=sex)
    person = parse_resident_id(number, today=TODAY)
    assert (person.number, person.birth_date, person.kind) == (number, born, "resident")
    assert sex is None or person.sex == sex
    assert person.sequence != "000"
    assert is_invented(number)


@pytest.mark.parametrize("prefix", SPECIAL_PREFIXES)
@given(seed=seeds, born=st.dates(min_value=date(1984, 1, 1), max_value=TODAY))
def test_special_kinds_of_people_can_be_invented_too(prefix: str, seed: str, born: date) -> None:
    number = Inventor(seed).resident_id(born=born, prefix=prefix)
    person = parse_resident_id(number, today=TODAY)
    assert (person.region_prefix, person.kind) == (prefix, SPECIAL_PREFIXES[prefix])
    assert is_invented(number)


@given(seeds)
def test_every_other_invented_number_is_read_like_any_other(seed: str) -> None:
    inventor = Inventor(seed)
    assert parse_mobile(mobile := inventor.mobile()) == mobile
    assert parse_bank_number(bank := inventor.bank_number()) == bank
    assert parse_card_number(card := inventor.card_number(), NATIONAL_CARD_NUMBER) == card
    assert parse_credit_code(credit := inventor.credit_code("990200")) == credit
    assert card_number_check_character(credit[8:16]) == credit[16]
    code = parse_identification_code(inventor.identification_code("990100"))
    assert is_invented_region(code.region_code)
    assert code.code[6:16] == "D156000005"
    assert re.fullmatch(r"[0-9]{9}", inventor.household_register())
    assert re.fullmatch(r"hospital\.[0-9]{4}", inventor.username("hospital"))
    assert re.fullmatch(r"[A-Z2-7]{32}", inventor.totp_secret())


@given(seeds, st.sampled_from([9, 12, 20]))
def test_card_numbers_come_in_the_length_of_the_region(seed: str, length: int) -> None:
    card_number_format = CardNumberFormat(length=length, check_character_enforced=False)
    number = Inventor(seed).card_number(card_number_format)
    assert parse_card_number(number, card_number_format) == number


@given(seeds)
def test_passwords_hold_letters_of_both_cases_and_digits(seed: str) -> None:
    inventor = Inventor(seed)
    for password, length in ((inventor.query_password(), 10), (inventor.password(), 16)):
        assert len(password) == length
        assert re.search("[a-z]", password)
        assert re.search("[A-Z]", password)
        assert re.search("[0-9]", password)


@given(seeds)
def test_an_invented_pin_is_not_weak(seed: str) -> None:
    inventor = Inventor(seed)
    id_number = inventor.resident_id(born=BORN)
    pin = inventor.service_pin(avoiding=id_number)
    assert re.fullmatch(r"[0-9]{6}", pin)
    assert pin not in id_number


def test_no_invented_pin_runs_or_stands_still() -> None:
    inventor = Inventor("pins")
    pins = {inventor.service_pin(avoiding="") for _ in range(300_000)}
    rows = ("01234567890123456789", "98765432109876543210", *(digit * 6 for digit in "0123456789"))
    assert pins.isdisjoint({row[place : place + 6] for row in rows for place in range(len(row) - 5)})


def test_a_pin_avoids_whatever_it_is_told_to_avoid() -> None:
    first = Inventor("pin").service_pin(avoiding="")
    assert Inventor("pin").service_pin(avoiding=f"11{first}22") != first


def test_an_invented_person_stays_the_same_from_release_to_release() -> None:
    """Integrators write these down. Whoever has to change a line here takes somebody's test data away."""
    assert everything(Inventor("sealed")) == [
        "彭假麦",
        "ELENA INVENTED",
        "198189197506049121",
        "15441710621",
        "Z02541905",
        "990100D1560000058EB8C6563283DC4E",
        "9999604671590477594",
        "91990100PDY7555350",
        "992086785",
        "048865",
        "bb7wGAzvKx",
        "hospital.1081",
        "F8J6EudnqqyqtxKf",
        "PQJGB7RTO77SO227X4LV7EUBOHCHW5AZ",
    ]


@given(seeds)
def test_the_same_seed_invents_the_same_person(seed: str) -> None:
    assert everything(Inventor(seed)) == everything(Inventor(seed))


def test_one_thing_more_changes_nothing_else() -> None:
    plain, busy = Inventor("sealed"), Inventor("sealed")
    for _ in range(3):
        busy.mobile()
        busy.name()
    assert plain.resident_id(born=BORN) == busy.resident_id(born=BORN)
    assert plain.totp_secret() == busy.totp_secret()


def test_a_hundred_thousand_seeds_invent_a_hundred_thousand_people() -> None:
    people = set()
    for count in range(100_000):
        inventor = Inventor(f"person {count}")
        born = inventor.birth_date(earliest=date(1950, 1, 1), latest=date(2008, 12, 31))
        people.add(inventor.resident_id(born=born))
    assert len(people) == 100_000


def test_one_inventor_never_repeats_a_number() -> None:
    inventor = Inventor("population")
    assert len({inventor.card_number() for _ in range(100_000)}) == 100_000
    assert len({inventor.mobile() for _ in range(100_000)}) == 100_000
    assert len({inventor.username("hospital") for _ in range(5_000)}) == 5_000


def test_a_birthday_with_all_sequences_taken_is_said_to_be_full() -> None:
    inventor = Inventor("crowd")
    numbers = {inventor.resident_id(born=BORN, prefix=HONG_KONG_PREFIX) for _ in range(999)}
    assert len(numbers) == 999
    with pytest.raises(ValueError, match="resident_id"):
        inventor.resident_id(born=BORN, prefix=HONG_KONG_PREFIX)


@pytest.mark.parametrize("prefix", ["110105", "810000", "820000", "830000", "911840", "", "19", "1900001"])
def test_a_prefix_that_could_be_somebodys_is_not_used(prefix: str) -> None:
    with pytest.raises(ValueError, match="somebody"):
        Inventor("real").resident_id(born=BORN, prefix=prefix)


def test_a_retired_region_is_used_only_for_people_born_after_it() -> None:
    with pytest.raises(ValueError, match="somebody"):
        Inventor("old").resident_id(born=date(1983, 12, 31), prefix=RETIRED_PREFIX)
    assert is_invented("132701198401010011")
    assert not is_invented("132701198312310011")


@pytest.mark.parametrize("region", ["110100", "310000", "", "99", "9901000", "99010A"])
def test_a_region_that_could_be_real_issues_nothing(region: str) -> None:
    with pytest.raises(ValueError, match="real"):
        Inventor("real").identification_code(region)
    with pytest.raises(ValueError, match="real"):
        Inventor("real").credit_code(region)


@pytest.mark.parametrize(
    "number",
    [
        "11010519491231002X",
        "440524188001010014",
        "810000199408230021",
        "911840198808080011",
        "132702199001010011",
    ],
)
def test_nobody_real_is_taken_for_invented(number: str) -> None:
    assert not is_invented(number)


def test_every_region_that_ever_was_is_nobody_of_ours() -> None:
    """The history of region codes since 1980, as another library keeps it."""
    history = numdb.get("cn/loc")

    def once_a_region(prefix: str) -> bool:
        return any("county" in known for _, known in history.info(prefix))

    assert once_a_region("132701")
    assert once_a_region("810000")
    ours = [f"19{rest:04d}" for rest in range(10_000)]
    ours += [f"{head}99{rest:02d}" for head in ("81", "82", "83", "99") for rest in range(100)]
    assert [prefix for prefix in ours if once_a_region(prefix)] == []
    assert all(is_invented(f"{prefix}19880808001X") for prefix in ours)


@given(seeds)
def test_names_are_marked_as_made_up(seed: str) -> None:
    inventor = Inventor(seed)
    assert is_invented_name(inventor.name())
    assert is_invented_name(inventor.latin_name())


@pytest.mark.parametrize("name", ["张伟", "欧阳娜娜", "JOHN SMITH", "迪丽热巴·迪力木拉提", "INVENTED"])
def test_an_ordinary_name_carries_no_mark(name: str) -> None:
    assert not is_invented_name(name)
