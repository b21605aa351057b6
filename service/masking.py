"""How names, numbers and money are shown: personal ones to anybody but the person, money to everybody.

True here: a star stands for one hidden character, and a text too short to hide in is hidden whole:
masking something unexpected gives away less, never more. What must never be: a mask that fails, since it
stands between a record and everybody who is not its subject.
"""

import unicodedata
from typing import Final

STAR: Final = "*"

# What parts a name of several words stays, so that JOHN SMITH still looks like a name of two.
_NAME_PARTS: Final = " ·•・-'\u2019"
_HIDDEN_AT_LEAST: Final = 4
_FEN_PER_YUAN: Final = 100
_CENTS: Final = tuple(f".{fen:02d}" for fen in range(_FEN_PER_YUAN))


def _between(text: str, head: int, tail: int) -> str:
    hidden = len(text) - head - tail
    if hidden < _HIDDEN_AT_LEAST:
        return STAR * len(text)
    return text[:head] + STAR * hidden + text[len(text) - tail :]


def mask_name(name: str) -> str:
    """`张伟` becomes `张*`, `欧阳娜娜` `欧***`, `JOHN SMITH` `J*** *****`; a name of one a star.

    The first character stays, every other letter is a star; accents and glyph variants count with their
    letter.
    """
    first, *rest = [sign for sign in name.strip() if unicodedata.category(sign)[0] != "M"] or [""]
    if not rest:
        return STAR if first else ""
    return first + "".join(sign if sign in _NAME_PARTS else STAR for sign in rest)


def mask_id_number(number: str) -> str:
    """`11010519491231002X` becomes `110105********002X`: the birthday is what must not be seen."""
    return _between(number, 6, 4)


def mask_mobile(number: str) -> str:
    """`13800138000` becomes `138****8000`."""
    return _between(number, 3, 4)


def mask_card_number(number: str) -> str:
    """`A1234567X` becomes `A*****67X`: enough to tell one's own cards apart, too little to use one."""
    return _between(number, 1, 3)


def mask_bank_number(number: str) -> str:
    """`6222021234567890128` becomes fifteen stars and `0128`: the last four, as banks themselves show it."""
    return _between(number, 0, 4)


def display_fen(fen: int) -> str:
    """Money as people read it: 123456 fen become `1,234.56`, -5 become `-0.05`. Never a float: raises TypeError."""
    if fen < 0:
        return f"-{display_fen(-fen)}"
    return f"{fen // _FEN_PER_YUAN:,}{_CENTS[fen % _FEN_PER_YUAN]}"
