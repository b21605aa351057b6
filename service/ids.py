"""Opaque ids.

True here: an id says what kind of thing it names and nothing about it; 120 random bits make two alike unthinkable.
Never derived from anybody's number.
"""

import base64
import hashlib
import re
import secrets
from typing import Final, NewType

CardId = NewType("CardId", str)
HolderId = NewType("HolderId", str)
SessionId = NewType("SessionId", str)
VerificationId = NewType("VerificationId", str)
ActivationId = NewType("ActivationId", str)
DependantId = NewType("DependantId", str)

PATTERN: Final = r"[a-z]{3,4}_[a-z2-7]{24}"
_SHAPE: Final = re.compile(PATTERN)


def _text(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").lower()


def new_id(prefix: str) -> str:
    """A fresh id, for example `card_` and 24 characters."""
    return f"{prefix}_{_text(secrets.token_bytes(15))}"


def derived_id(prefix: str, *parts: str) -> str:
    """The same id for the same parts: for what must be created at most once, and for invented people."""
    digest = hashlib.sha256("\0".join((prefix, *parts)).encode()).digest()
    return f"{prefix}_{_text(digest[:15])}"


def is_id(prefix: str, text: str) -> bool:
    """Whether this could be an id of that kind, so that nonsense never reaches the database."""
    return text.startswith(f"{prefix}_") and _SHAPE.fullmatch(text) is not None
