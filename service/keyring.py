"""The keyring: every key the service has, in one file outside the database.

True here: a signing key is published before it signs and stays published after it stopped, so that a rotation fails no
request and old receipts stay verifiable; a field key that has sealed anything is never dropped. Never here: a key in a log,
a repr or an exception. The file is written whole or not at all, readable by its owner only.

File: {"version": 1, "purpose": "sandbox"|"production", "root": b64, "field": [{kid, key, sealsFrom}],
"signing": [{kid, publicKey, privateKey?, signsFrom, createdAt}]}; times are seconds of real time, never of a moved clock:
a rotation is between machines.
"""

import base64
import fcntl
import json
import math
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.mendable import MendableError

# A process looks at the file every RELOAD_SECONDS, and clients may keep the published set for PUBLISHED_SECONDS, so a key
# that signs after LEAD_SECONDS is known to all before it is used.
PUBLISHED_SECONDS: Final = 60
RELOAD_SECONDS: Final = 2.0
LEAD_SECONDS: Final = 90
PURPOSES: Final = ("sandbox", "production")


class KeyringError(MendableError):
    """The keyring cannot be used; the text says why without a key in it."""


class _Fault(ValueError):  # noqa: N818  it says what is wrong
    """What is wrong with a keyring, in words without a key."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An ES256 key. Without its private half it only verifies receipts, no longer sessions."""

    kid: str
    public: ec.EllipticCurvePublicKey = field(repr=False)
    private: ec.EllipticCurvePrivateKey | None = field(repr=False)
    signs_from: float
    created_at: float

    @property
    def retired(self) -> bool:
        return self.private is None

    def jwk(self) -> dict[str, str]:
        """The public half as a JWK (RFC 7517)."""
        numbers = self.public.public_numbers()
        x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid, "x": x, "y": y}


@dataclass(frozen=True, slots=True)
class FieldKey:
    """An AES-256 key for fields at rest."""

    kid: str
    key: bytes = field(repr=False)
    seals_from: float


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys at one moment. A change is a new Keyring."""

    purpose: str
    root: bytes = field(repr=False)
    field_keys: tuple[FieldKey, ...]
    signing_keys: tuple[SigningKey, ...]

    def derive(self, use: str) -> bytes:
        """32 bytes for one use (HKDF-SHA-256, RFC 5869); two uses never share a key."""
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"yika/{use}".encode()).derive(self.root)

    def signer(self, at: float) -> SigningKey:
        """The key that signs at a real time: the newest whose hour has come."""
        able = [key for key in self.signing_keys if not key.retired and key.signs_from <= at]
        if not able:
            raise KeyringError("no signing key is due yet")
        return max(able, key=lambda key: key.signs_from)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The published key set (RFC 7517): every key that ever signed and was not revoked."""
        return {"keys": [key.jwk() for key in self.signing_keys]}

    def rotate_signing(self, now: float, lead: float = LEAD_SECONDS) -> "Keyring":
        """Add a signing key that is published at once and signs after `lead` seconds."""
        return replace(self, signing_keys=(*self.signing_keys, _new_signing_key(now, now + lead)))

    def sealer(self, at: float) -> FieldKey:
        """The field key that seals at a real time: the newest whose hour has come."""
        newest: FieldKey | None = None
        for key in self.field_keys:
            if key.seals_from <= at and (newest is None or key.seals_from > newest.seals_from):
                newest = key
        if newest is None:
            raise KeyringError("no field key is due yet")
        return newest

    def rotate_field(self, now: float, lead: float = LEAD_SECONDS) -> "Keyring":
        """Add a field key that all can read with at once and that seals after `lead` seconds."""
        return replace(self, field_keys=(*self.field_keys, _new_field_key(now + lead)))

    def retire(self, kid: str, now: float) -> "Keyring":
        """Drop the private half. Refuses for the key that signs, or a key that is not there."""
        if self.signer(now).kid == kid:
            raise KeyringError("this key signs now: rotate first")
        if kid not in {key.kid for key in self.signing_keys}:
            raise KeyringError("no such key")
        keys = (replace(key, private=None) if key.kid == kid else key for key in self.signing_keys)
        return replace(self, signing_keys=tuple(keys))

    def revoke(self, kid: str, now: float) -> "Keyring":
        """Forget a key that leaked: nothing it signed is believed any more. Refuses as `retire` does."""
        self.retire(kid, now)
        return replace(self, signing_keys=tuple(key for key in self.signing_keys if key.kid != kid))


def new_keyring(purpose: str, now: float | None = None) -> Keyring:
    """A fresh keyring whose first key signs at once."""
    now = time.time() if now is None else now
    return Keyring(purpose, secrets.token_bytes(32), (_new_field_key(now),), (_new_signing_key(now, now),))


def _new_signing_key(now: float, signs_from: float) -> SigningKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey(f"s{secrets.token_hex(6)}", private.public_key(), private, signs_from, now)


def _new_field_key(seals_from: float) -> FieldKey:
    return FieldKey(f"f{secrets.token_hex(3)}", secrets.token_bytes(32), seals_from)


def load_keyring(path: Path) -> Keyring:
    """Read the file. Raises KeyringError when it is missing, open to others, or malformed.

    What would only fail when a key is first used is looked at here too: a process refuses such a file and keeps its keys.
    """
    try:
        mode = path.stat().st_mode
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise KeyringError(f"no keyring at {path}: make one with `python -m service keys generate`") from None
    except (OSError, ValueError) as error:
        raise KeyringError(f"the keyring at {path} cannot be read ({type(error).__name__})") from None
    if mode & 0o077:
        raise KeyringError(f"the keyring at {path} is open to others: chmod 600")
    try:
        return _parse(raw)
    except (AttributeError, KeyError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        why = error if isinstance(error, _Fault) else type(error).__name__
        raise KeyringError(f"the keyring at {path} is malformed ({why})") from None


def _parse(raw: Mapping[str, Any]) -> Keyring:
    if raw["version"] != 1:
        raise _Fault("version")
    if raw["purpose"] not in PURPOSES:
        raise _Fault("purpose")
    signing = tuple(
        SigningKey(
            item["kid"],
            _public(item["publicKey"]),
            _private(item["privateKey"]) if item.get("privateKey") else None,
            float(item["signsFrom"]),
            float(item["createdAt"]),
        )
        for item in raw["signing"]
    )
    fields = tuple(FieldKey(item["kid"], _secret(item["key"]), float(item["sealsFrom"])) for item in raw["field"])
    kids: list[Any] = [*(key.kid for key in signing), *(key.kid for key in fields)]
    # A sealed value has one byte for the length of its key's name.
    if not all(isinstance(kid, str) and 0 < len(kid.encode()) < 256 for kid in kids) or len(set(kids)) < len(kids):  # noqa: PLR2004  what a byte can count
        raise _Fault("kid")
    if not signing or not fields:
        raise _Fault("no keys")
    if not all(map(math.isfinite, (*(key.signs_from for key in signing), *(key.seals_from for key in fields)))):
        raise _Fault("times")
    if any(key.private is not None and key.private.public_key() != key.public for key in signing):
        raise _Fault("halves of two keys")
    return Keyring(raw["purpose"], _secret(raw["root"]), fields, signing)


def _secret(text: str) -> bytes:
    secret = base64.b64decode(text, validate=True)
    if len(secret) != 32:  # noqa: PLR2004  256 bits
        raise _Fault("length")
    return secret


def _public(pem: str) -> ec.EllipticCurvePublicKey:
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _Fault("publicKey")
    return key


def _private(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _Fault("privateKey")
    return key


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Nobody else changes the file until this is left: of two changes at once one would lose its key, and what it sealed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise KeyringError(f"the keyring at {path} cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def save_keyring(path: Path, keyring: Keyring) -> None:
    """Write the file whole, owner-only, durable before it replaces the old one. Raises KeyringError when it cannot."""
    raw = {
        "version": 1,
        "purpose": keyring.purpose,
        "root": base64.b64encode(keyring.root).decode(),
        "field": [
            {"kid": key.kid, "key": base64.b64encode(key.key).decode(), "sealsFrom": key.seals_from}
            for key in keyring.field_keys
        ],
        "signing": [_signing_json(key) for key in keyring.signing_keys],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".keyring-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(raw, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise KeyringError(f"the keyring at {path} cannot be written ({error.strerror})") from None


def _signing_json(key: SigningKey) -> dict[str, object]:
    public = key.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    item: dict[str, object] = {
        "kid": key.kid,
        "publicKey": public.decode(),
        "signsFrom": key.signs_from,
        "createdAt": key.created_at,
    }
    if key.private is not None:
        item["privateKey"] = key.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
    return item


class Keys:
    """The keyring as a running process sees it: loaded at start, looked at again every RELOAD_SECONDS."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self.ring = load_keyring(path)

    def _look(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def reload(self) -> bool:
        """Read the file again if it changed; True when it did. A file that cannot be read leaves the keys as they were.

        Raises KeyringError then, so that the caller can log it; blocks for a file read, so call it in a thread.
        """
        stamp = self._look()
        if stamp is None or stamp == self._stamp:
            return False
        self.ring = load_keyring(self._path)
        self._stamp = stamp
        return True
