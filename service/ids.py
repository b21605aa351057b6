"""Opaque ids.

True here: an id says what kind of thing it names and nothing about whom it belongs to; 120 bits, random or drawn from a
digest, make two alike unthinkable. An imported card or person has a placed id: 20 bits are the region that keeps it (shown
beside the id anyway), so that a sharded cluster can tell by the id where it lies, and 100 are a keyed code.
Never here: an id that follows from anybody's number without the keyring's secret.
"""

import hashlib
import re
import secrets
from functools import lru_cache
from typing import Final, NewType

CardId = NewType("CardId", str)
HolderId = NewType("HolderId", str)
SessionId = NewType("SessionId", str)
VerificationId = NewType("VerificationId", str)
ActivationId = NewType("ActivationId", str)
DependantId = NewType("DependantId", str)
OperatorId = NewType("OperatorId", str)
InstitutionId = NewType("InstitutionId", str)
VisitId = NewType("VisitId", str)
ApprovalId = NewType("ApprovalId", str)
ApplicationId = NewType("ApplicationId", str)
BatchId = NewType("BatchId", str)
RegistrationId = NewType("RegistrationId", str)
ConsentId = NewType("ConsentId", str)
ErasureId = NewType("ErasureId", str)
EcardId = NewType("EcardId", str)
RedemptionId = NewType("RedemptionId", str)

PATTERN: Final = r"[a-z]{2,4}_[a-z2-7]{24}"
_SHAPE: Final = re.compile(PATTERN)
_SIGNS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = tuple(first + second for first in _SIGNS for second in _SIGNS)
# The same in the order in which they sort, so that regions sort among ids as their codes do.
_SORTED: Final = "".join(sorted(_SIGNS))
_REGION: Final = re.compile(r"[0-9]{6}")
_PLACED_BYTES: Final = 13
_PLACED_SIGNS: Final = 20


def _text(raw: bytes) -> str:
    """15 bytes in base32 (RFC 4648), lower case. The standard library's takes six times as long, and ids are made often."""
    number = int.from_bytes(raw)
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in range(110, -1, -10)])


def new_id(prefix: str) -> str:
    """A fresh id, for example `card_` and 24 characters."""
    return f"{prefix}_{_text(secrets.token_bytes(15))}"


def derived_id(prefix: str, *parts: str) -> str:
    """The same id for the same parts: for what must be created at most once, and for invented people."""
    digest = hashlib.sha256("\0".join((prefix, *parts)).encode()).digest()
    return f"{prefix}_{_text(digest[:15])}"


@lru_cache(maxsize=4096)
def place_of(region_code: str) -> str:
    """The first four signs of every placed id of a region. They sort as the codes do. ValueError if not six digits."""
    if _REGION.fullmatch(region_code) is None:
        raise ValueError("a region code has six digits")
    number = int(region_code)
    return "".join(_SORTED[(number >> shift) & 31] for shift in (15, 10, 5, 0))


def placed_id(prefix: str, region_code: str, secret: bytes) -> str:
    """The id for a keyed code in a region: the same secret, which has at least 13 bytes, is the same id."""
    if len(secret) < _PLACED_BYTES:
        raise ValueError("a placed id needs 100 secret bits")
    return f"{prefix}_{place_of(region_code)}{_text(secret[:15])[:_PLACED_SIGNS]}"


def is_id(prefix: str, text: str) -> bool:
    """Whether this could be an id of that kind, so that nonsense never reaches the database."""
    return text.startswith(f"{prefix}_") and _SHAPE.fullmatch(text) is not None
