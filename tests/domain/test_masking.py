"""Masks hide what they must, whatever they are given; money reads as people write it."""

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.masking import (
    display_fen,
    mask_bank_number,
    mask_card_number,
    mask_id_number,
    mask_mobile,
    mask_name,
)


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("张伟", "张*"),
        ("欧阳娜娜", "欧***"),
        ("张", "*"),
        ("", ""),
        ("  张伟 ", "张*"),
        ("迪丽热巴·迪力木拉提", "迪***·*****"),
        ("JOHN SMITH", "J*** *****"),
        ("Mary-Jane O'Neil", "M***-**** *'****"),
        ("𠮷野家", "𠮷**"),
        ("葛\U000e0100城", "葛*"),
        ("Jose\u0301", "J***"),
        ("\u0301", ""),
    ],
)
def test_a_name_keeps_its_first_character(name: str, masked: str) -> None:
    assert mask_name(name) == masked


@given(st.text("赵钱孙李周吴郑王abcXYZ", min_size=2, max_size=30))
def test_no_letter_of_a_name_but_the_first_gets_out(name: str) -> None:
    assert mask_name(name) == name[0] + "*" * (len(name) - 1)


@pytest.mark.parametrize(
    ("mask", "number", "masked"),
    [
        (mask_id_number, "11010519491231002X", "110105********002X"),
        (mask_mobile, "13800138000", "138****8000"),
        (mask_card_number, "A1234567X", "A*****67X"),
        (mask_card_number, "310101234567", "3********567"),
        (mask_card_number, "Z1234567890123456789", "Z****************789"),
        (mask_bank_number, "6222021234567890", "************7890"),
        (mask_bank_number, "6222021234567890128", "***************0128"),
    ],
)
def test_a_number_keeps_its_ends(mask: Callable[[str], str], number: str, masked: str) -> None:
    assert mask(number) == masked


@pytest.mark.parametrize("mask", [mask_id_number, mask_mobile, mask_card_number, mask_bank_number])
@given(text=st.text(st.characters(exclude_characters="*"), max_size=40))
def test_a_mask_hides_at_least_four_characters_or_everything(mask: Callable[[str], str], text: str) -> None:
    masked = mask(text)
    assert len(masked) == len(text)
    assert masked.count("*") >= min(4, len(text))
    assert all(shown in ("*", original) for shown, original in zip(masked, text, strict=True))


@pytest.mark.parametrize(
    ("fen", "shown"),
    [
        (0, "0.00"),
        (5, "0.05"),
        (99, "0.99"),
        (100, "1.00"),
        (123456, "1,234.56"),
        (123456789012, "1,234,567,890.12"),
        (-1, "-0.01"),
        (-100, "-1.00"),
        (-123456, "-1,234.56"),
        (2**63, "92,233,720,368,547,758.08"),
    ],
)
def test_fen_are_shown_as_yuan(fen: int, shown: str) -> None:
    assert display_fen(fen) == shown


@given(st.integers(-(10**18), 10**18))
def test_no_fen_is_lost_in_showing(fen: int) -> None:
    shown = display_fen(fen)
    assert re.fullmatch(r"-?[0-9]{1,3}(,[0-9]{3})*\.[0-9]{2}", shown)
    assert Decimal(shown.replace(",", "")) * 100 == fen


def test_a_float_is_no_money() -> None:
    with pytest.raises(TypeError):
        display_fen(12.5)  # type: ignore[arg-type]  # that is what is refused
