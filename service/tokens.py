"""Access tokens and receipts: ES256 signatures with the keyring's keys.

True here: the algorithm is written in the code, not read from a token; type, key id and every claim are required; time is
the service's clock with 30 s leeway; a verified token is remembered by its digest, so a signature is checked once.
Never here: a key fetched because a header says so; a token kept in plain.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import jwt
import orjson
from jwt.types import Options
from jwt.utils import base64url_decode, base64url_encode

from service.errors import Refusal
from service.ids import new_id
from service.keyring import Keyring, SigningKey

ACCESS: Final = timedelta(minutes=10)
LEEWAY: Final = timedelta(seconds=30)
ACCESS_TYPE: Final = "at+jwt"  # RFC 9068
RECEIPT_TYPE: Final = "receipt+jwt"
CHECKPOINT_TYPE: Final = "ledger-checkpoint+jwt"
_ALGORITHMS: Final = ["ES256"]
_REQUIRED: Final = ["iss", "aud", "sub", "sid", "jti", "iat", "exp", "acr", "amr", "role"]
_REMEMBERED: Final = 20_000
_LONGEST_HEADER: Final = 512
# Times are judged below, on the service's clock; PyJWT would use the machine's.
_NO_TIMES: Final[Options] = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
_ACCESS_OPTIONS: Final[Options] = {**_NO_TIMES, "verify_aud": True, "require": _REQUIRED}
_RECEIPT_OPTIONS: Final[Options] = {**_NO_TIMES, "verify_aud": False, "require": ["iss", "iat"]}


@dataclass(frozen=True, slots=True)
class Claims:
    """Who a token speaks for: `subject` is the opaque holder or operator id, `level` the assurance."""

    subject: str
    session_id: str
    role: str
    level: int


@dataclass(frozen=True, slots=True)
class _Verified:
    """`begins`, `ends`: when it counts, with the leeway."""

    claims: Claims
    begins: datetime
    ends: datetime


class Tokens:
    """Issues and verifies. `ring` gives the keys of the moment."""

    def __init__(self, ring: Callable[[], Keyring], issuer: str, audience: str) -> None:
        self._ring = ring
        self._issuer = issuer
        self._audience = audience
        self._seen: dict[bytes, _Verified] = {}
        self._seen_under = ring()

    def issue(self, claims: Claims, *, method: str, now: datetime, until: datetime) -> tuple[str, int]:
        """An access token and its life in seconds: ten minutes, or less when the session ends before."""
        seconds = int(min(ACCESS, until - now).total_seconds())
        issued = int(now.timestamp())
        payload = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": claims.subject,
            "sid": claims.session_id,
            "jti": new_id("tok"),
            "iat": issued,
            "exp": issued + seconds,
            "acr": str(claims.level),
            "amr": [method],
            "role": claims.role,
        }
        return self._sign(payload, ACCESS_TYPE), seconds

    def verify(self, token: str, now: datetime) -> Claims:
        """Who this token speaks for. Refuses with `token_invalid` or `token_expired`."""
        ring = self._ring()
        if ring is not self._seen_under:
            self._seen, self._seen_under = {}, ring
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        seen = self._seen.get(digest) or self._read(token, ring)
        if seen.ends <= now:
            self._seen.pop(digest, None)
            raise Refusal("token_expired")
        if seen.begins > now:
            raise Refusal("token_invalid")
        if digest not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                # The oldest goes: dicts keep the order in which tokens came.
                del self._seen[next(iter(self._seen))]
            self._seen[digest] = seen
        return seen.claims

    def _read(self, token: str, ring: Keyring) -> _Verified:
        payload = self._open(token, ACCESS_TYPE, (key for key in ring.signing_keys if not key.retired))
        try:
            level = int(payload["acr"])
            claims = Claims(str(payload["sub"]), str(payload["sid"]), str(payload["role"]), level)
            issued, expires = (datetime.fromtimestamp(int(payload[name]), UTC) for name in ("iat", "exp"))
        except (TypeError, ValueError, OverflowError, OSError):
            raise Refusal("token_invalid") from None
        return _Verified(claims, issued - LEEWAY, expires + LEEWAY)

    def sign_receipt(self, claims: Mapping[str, object]) -> str:
        """A receipt over some facts, verifiable offline with the published keys. It has no end and opens nothing."""
        return self._sign({"iss": self._issuer, **claims}, RECEIPT_TYPE)

    def read_receipt(self, receipt: str) -> dict[str, Any] | None:
        """The facts of a receipt of ours, also one signed by a key that has retired; None for anything else."""
        try:
            return self._open(receipt, RECEIPT_TYPE, self._ring().signing_keys)
        except Refusal:
            return None

    def sign_checkpoint(self, claims: Mapping[str, object]) -> str:
        """A checkpoint of the ledger, verifiable offline like a receipt."""
        return self._sign({"iss": self._issuer, **claims}, CHECKPOINT_TYPE)

    def read_checkpoint(self, signed: str) -> dict[str, Any] | None:
        """What a checkpoint of ours says, also one signed by a key that has retired; None for anything else."""
        try:
            return self._open(signed, CHECKPOINT_TYPE, self._ring().signing_keys)
        except Refusal:
            return None

    def _sign(self, payload: dict[str, Any], kind: str) -> str:
        key = self._ring().signer(time.time())
        if key.private is None:
            raise AssertionError("a retired key never signs")
        return jwt.encode(payload, key.private, algorithm="ES256", headers={"typ": kind, "kid": key.kid})

    def _open(self, token: str, kind: str, keys: Iterable[SigningKey]) -> dict[str, Any]:
        try:
            header = _header(token.partition(".")[0])
            if header.get("typ") != kind or header.get("alg") != "ES256" or "crit" in header:
                raise Refusal("token_invalid")
            _require_canonical(token.rpartition(".")[2])
            key: SigningKey = next(key for key in keys if key.kid == header.get("kid"))
            access = kind == ACCESS_TYPE
            return jwt.decode(
                token,
                key.public,
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience if access else None,
                options=_ACCESS_OPTIONS if access else _RECEIPT_OPTIONS,
            )
        except (jwt.PyJWTError, StopIteration, ValueError, TypeError, AttributeError):
            raise Refusal("token_invalid") from None


def _require_canonical(signature: str) -> None:
    """Of the spellings that decode to one signature only that of RFC 7515 is ours: no padding, no other signs or last bits.

    Header and claims need no such look: they are what is signed, as they are spelled. Refuses with `token_invalid`; raises
    ValueError.
    """
    if base64url_encode(base64url_decode(signature)).decode() != signature:
        raise Refusal("token_invalid")


@lru_cache(maxsize=64)
def _header(segment: str) -> dict[str, Any]:
    """What a token says of itself, unverified. All tokens of one key begin alike, so it is read once a key, not once a token.

    Raises ValueError.
    """
    if len(segment) > _LONGEST_HEADER:
        raise ValueError("no header of ours is that long")
    header: dict[str, Any] = orjson.loads(base64url_decode(segment))
    return header
