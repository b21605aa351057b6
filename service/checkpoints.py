"""Checkpoints: signed words on where every lane of the ledger ended at a moment.

True here: a checkpoint is numbered, names the one before it, and is signed with ES256 by the key of the moment; anybody can
check it with the published keys, also after that key has retired. Whoever keeps checkpoints elsewhere can tell when the end
of the ledger was cut off. Never here: anything about a person; a head is a number and a hash.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from service.ledger import LANES, Head

# The form of what is signed.
_FORM: Final = 1
_NOTHING_BEFORE: Final = ""

# Makes a JWS of claims; gives the claims of a JWS of ours, or None.
Sign = Callable[[Mapping[str, object]], str]
Read = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint as it is kept: `signed` is a JWS whose claims say all of it; numbers begin at 1.

    `links`: how many links there were, for the sequencer; only what is signed counts.
    """

    number: int
    at: datetime
    signed: str
    links: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What a checkpoint says. `previous`: the digest of the one before it, in hexadecimal, empty for the first."""

    number: int
    at: datetime
    previous: str
    heads: Mapping[int, Head]


def digest_of(checkpoint: Checkpoint | None) -> str:
    """What the next one says of a checkpoint: SHA-256 over its signed form."""
    return hashlib.sha256(checkpoint.signed.encode()).hexdigest() if checkpoint else _NOTHING_BEFORE


def state(heads: Mapping[int, Head], before: Checkpoint | None, at: datetime, sign: Sign) -> Checkpoint:
    """The checkpoint that follows another."""
    number = before.number + 1 if before else 1
    claims = {
        "form": _FORM,
        "iat": int(at.timestamp()),
        "number": number,
        "previous": digest_of(before),
        "heads": [[lane, heads[lane].seq, heads[lane].hash.hex()] for lane in range(LANES)],
    }
    return Checkpoint(number, at, sign(claims), links_in(heads))


def links_in(heads: Mapping[int, Head]) -> int:
    """How many links there are up to these heads."""
    return sum(head.seq for head in heads.values())


def statement_of(signed: str, read: Read) -> Statement | None:
    """What a checkpoint says, when it is genuine; else None."""
    claims = read(signed)
    if claims is None or claims.get("form") != _FORM:
        return None
    try:
        heads = {int(lane): Head(int(seq), bytes.fromhex(digest)) for lane, seq, digest in claims["heads"]}
        return Statement(int(claims["number"]), datetime.fromtimestamp(claims["iat"], UTC), str(claims["previous"]), heads)
    except (KeyError, TypeError, ValueError):
        return None
