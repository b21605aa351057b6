"""Personal data at rest.

True here: a sealed value opens only in the collection, field and document it was sealed for (the three are its associated
data), and names its algorithm and key, so that another cipher or a new key can stand beside the old. A look-up goes through
a keyed blind index, never through a plain value. Never here: a name in an index; a plaintext in an exception.

Sealed form: algorithm (1 byte; 1 = AES-256-GCM), length of the key id (1 byte), key id, nonce (12 bytes), ciphertext, tag.
"""

import secrets
import time
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from service.keyring import Keyring

_AES_256_GCM: Final = 1
_NONCE: Final = 12
# As many as most documents have fields to seal.
_DRAWN: Final = 5


class VaultError(Exception):
    """A sealed value does not open: a wrong place, an unknown key, or a changed byte."""


class UnknownKeyError(VaultError):
    """A sealed value names a key that this keyring does not hold; a process whose keyring does can open it."""


class Vault:
    """Seals and opens fields with the keys of a keyring."""

    def __init__(self, ring: Callable[[], Keyring]) -> None:
        self._ring = ring
        root = ring()
        self._index_code = HMAC(root.derive("blind-index"), SHA256())
        self._mac_code = HMAC(root.derive("mac"), SHA256())
        self._ciphers: dict[bytes, AESGCM] = {}

    def _cipher(self, kid: bytes) -> AESGCM:
        cipher = self._ciphers.get(kid)
        if cipher is None:
            for key in self._ring().field_keys:
                self._ciphers[key.kid.encode()] = AESGCM(key.key)
            cipher = self._ciphers.get(kid)
            if cipher is None:
                raise UnknownKeyError("sealed under a key that this keyring does not hold")
        return cipher

    def seal(self, collection: str, field: str, document: str, text: str) -> bytes:
        """Encrypt one field of one document under the newest field key."""
        return self.sealing(collection, document)(field, text)

    def sealing(self, collection: str, document: str) -> Callable[[str, str], bytes]:
        """Seals the fields of one document: from field and text to the sealed form. The key is looked up once."""
        kid = self._ring().sealer(time.time()).kid.encode()
        head = bytes((_AES_256_GCM, len(kid))) + kid
        encrypt = self._cipher(kid).encrypt
        drawn = b""

        def seal(field: str, text: str) -> bytes:
            # Some at a time, each used once: a call of the system for every nonce would take half as long as all else here.
            nonlocal drawn
            if not drawn:
                drawn = secrets.token_bytes(_DRAWN * _NONCE)
            nonce, drawn = drawn[:_NONCE], drawn[_NONCE:]
            return head + nonce + encrypt(nonce, text.encode(), f"{collection}\0{field}\0{document}".encode())

        return seal

    def open(self, collection: str, field: str, document: str, sealed: bytes) -> str:
        """Decrypt. Raises VaultError when the value is not whole or not from this place."""
        if len(sealed) < 2 or sealed[0] != _AES_256_GCM:  # noqa: PLR2004  the two bytes before the key id
            raise VaultError("unknown algorithm")
        start = 2 + sealed[1]
        place = f"{collection}\0{field}\0{document}".encode()
        try:
            opened = self._cipher(sealed[2:start]).decrypt(sealed[start : start + _NONCE], sealed[start + _NONCE :], place)
        except (InvalidTag, ValueError):
            raise VaultError("a sealed value does not belong here or was changed") from None
        return opened.decode()

    def index(self, field: str, value: str) -> bytes:
        """Blind index of a value: equal values of one field have equal indexes, and nothing else can be read from it."""
        return _code(self._index_code, f"{field}\0{value}")

    def mac(self, use: str, *parts: str) -> bytes:
        """A keyed code over some parts, for one use: one-time codes, refresh tokens, who made a request."""
        return _code(self._mac_code, "\0".join((use, *parts)))


def _code(keyed: HMAC, text: str) -> bytes:
    """HMAC-SHA-256 of a text. A copy of one that has its key already takes a third of the time of one from the key."""
    code = keyed.copy()
    code.update(text.encode())
    return code.finalize()
