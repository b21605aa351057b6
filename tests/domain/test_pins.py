"""Which PINs are too easy to guess, and which one a card begins with."""

from datetime import date

import pytest
from domain.test_cards import REGIONS
from hypothesis import given
from hypothesis import strategies as st

from service.locale import LOCALES, text
from service.numbers import ResidentId, parse_resident_id
from service.pins import initial_pin, weaknesses

HOME = REGIONS.get("990100")
# Its check character is an X, so the last six digits begin one place earlier.
SOMEBODY = parse_resident_id("11010519491231002X", today=date(2026, 11, 22))


def faults(pin: str, region: str = "990100", current: str | None = None) -> set[str]:
    return set(weaknesses(pin, REGIONS.get(region), SOMEBODY, current))


@pytest.mark.parametrize(
    ("initial_value", "pin"),
    [("idNumberLastSix", "231002"), ("birthDate", "491231"), ("oneToSix", "123456")],
)
def test_the_first_pin_is_as_the_region_has_it(initial_value: str, pin: str) -> None:
    regions = [region for region in REGIONS if region.policy.service_pin.initial_value == initial_value]
    assert regions
    for region in regions:
        assert initial_pin(region, SOMEBODY) == pin
        assert "pin_initial" in faults(pin, region.code)


@pytest.mark.parametrize("digit", "0123456789")
def test_six_alike_are_weak(digit: str) -> None:
    assert "pin_alike" in faults(digit * 6)


@pytest.mark.parametrize("first", range(10))
def test_six_in_a_row_are_weak_up_and_down_and_past_the_end(first: int) -> None:
    up = "".join(str((first + step) % 10) for step in range(6))
    assert "pin_running" in faults(up)
    assert "pin_running" in faults(up[::-1])
    broken = up[:5] + str((int(up[5]) + 1) % 10)
    assert "pin_running" not in faults(broken)


@pytest.mark.parametrize("start", range(12))
def test_any_part_of_the_id_number_is_weak(start: int) -> None:
    part = SOMEBODY.number[start : start + 6]
    assert ("pin_in_id_number" in faults(part)) == part.isdigit()


@pytest.mark.parametrize("birthday", ["491231", "194912", "311249", "123149", "121949", "493112"])
def test_a_birthday_is_weak_however_it_is_written(birthday: str) -> None:
    assert faults(birthday) & {"pin_birth_date", "pin_in_id_number"}


def test_a_pin_is_changed_for_another() -> None:
    assert faults("274913", current="274913") == {"pin_unchanged"}
    assert faults("274913", current="274914") == set()


def test_every_fault_is_told_and_each_has_its_words() -> None:
    assert faults("123456", "990600") == {"pin_running", "pin_initial"}
    every = faults("111111") | faults("123456", "990600") | faults("231002", current="231002") | faults("311249")
    assert every == {"pin_alike", "pin_running", "pin_initial", "pin_in_id_number", "pin_unchanged", "pin_birth_date"}
    for code in every:
        assert len({text(locale, f"fields.{code}") for locale in LOCALES}) == 2


@given(pin=st.integers(0, 999_999).map(lambda number: f"{number:06d}"))
def test_few_pins_are_weak_and_those_that_are_not_have_no_plain_pattern(pin: str) -> None:
    if faults(pin):
        return
    assert len(set(pin)) > 1
    assert pin not in SOMEBODY.number
    assert pin not in "01234567890123456789"
    assert pin[::-1] not in "01234567890123456789"


def test_nearly_all_pins_are_open_to_choose() -> None:
    assert sum(bool(faults(f"{number:06d}")) for number in range(0, 1_000_000, 997)) < 10


def test_the_id_number_is_in_no_fault() -> None:
    def of(somebody: ResidentId) -> list[str]:
        return [*weaknesses(somebody.number[:6], HOME, somebody, None)]

    assert all(part not in str(of(SOMEBODY)) for part in (SOMEBODY.number, SOMEBODY.number[:6]))
