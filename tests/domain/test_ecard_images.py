"""The picture of a code, read back as a scanner reads it: from the modules alone, by ISO/IEC 18004."""

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ecard_codes import LENGTH, new_code
from service.ecard_images import drawn

# A QR code of version 2 has 25 modules a side; the quiet zone is 4 on each.
SIDE, QUIET = 25, 4
# Of the 44 codewords of version 2 at correction level M the first 28 are data, in one block.
DATA_CODEWORDS = 28
ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"


def modules(picture: str) -> list[list[bool]]:
    """Which modules are dark, off the strokes of the path."""
    (path,) = re.findall(r'stroke="#000" d="([^"]+)"', picture)
    dark = [[False] * SIDE for _ in range(SIDE)]
    x, y = 0.0, 0.0
    for command, numbers in re.findall(r"([Mmh])([-0-9. ]+)", path):
        values = [float(number) for number in re.findall(r"-?\d*\.?\d+", numbers)]
        if command == "M":
            x, y = values
        elif command == "m":
            x, y = x + values[0], y + values[1]
        else:
            for step in range(int(values[0])):
                dark[int(y) - QUIET][int(x) + step - QUIET] = True
            x += values[0]
    return dark


def is_function(row: int, column: int) -> bool:
    """Whether a module holds a pattern and no data: finders with format, timing, alignment."""
    finder = (row < 9 and (column < 9 or column > 16)) or (row > 16 and column < 9)
    return finder or 6 in {row, column} or (16 <= row <= 20 and 16 <= column <= 20)


def walked() -> Iterator[tuple[int, int]]:
    """The data modules in their order: two columns at a time from the right, up and down by turns."""
    up = True
    for right in (24, 22, 20, 18, 16, 14, 12, 10, 8, 5, 3, 1):
        for row in range(SIDE - 1, -1, -1) if up else range(SIDE):
            for column in (right, right - 1):
                if not is_function(row, column):
                    yield row, column
        up = not up


def read(picture: str) -> str:
    """The text of the picture. The mask is the one that turns every other module."""
    dark = modules(picture)
    bits = "".join(str(int(dark[row][column] ^ ((row + column) % 2 == 0))) for row, column in walked())
    bits = bits[: DATA_CODEWORDS * 8]
    assert bits[:4] == "0010", "the alphanumeric mode"
    length, rest = int(bits[4:13], 2), bits[13:]
    pairs = [divmod(int(rest[11 * pair : 11 * pair + 11], 2), 45) for pair in range(length // 2)]
    assert length % 2 == 0
    return "".join(ALPHANUMERIC[first] + ALPHANUMERIC[second] for first, second in pairs)


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=LENGTH, max_size=LENGTH))
def test_the_picture_holds_exactly_the_code(code: str) -> None:
    assert read(drawn(code).decode()) == code


def test_it_is_black_on_white_whatever_is_behind_it_and_has_its_quiet_zone() -> None:
    picture = drawn(new_code()).decode()
    assert f'viewBox="0 0 {SIDE + 2 * QUIET} {SIDE + 2 * QUIET}"' in picture
    assert '<path fill="#fff" d="M0 0h33v33h-33z"/>' in picture
    assert "script" not in picture


@pytest.mark.alone
def test_drawing_holds_up_nobody() -> None:
    taken = []
    for _ in range(100):
        started = time.perf_counter()
        drawn(new_code())
        taken.append(time.perf_counter() - started)
    assert sorted(taken)[50] < 0.005
