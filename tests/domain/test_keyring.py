import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from service.keyring import Keyring, KeyringError, Keys, load_keyring, new_keyring, save_keyring
from service.passwords import Passwords
from service.tokens import Tokens
from service.vault import Vault

ROOT = Path(__file__).parents[2]
T = 1_800_000_000.0


@pytest.fixture
def ring() -> Keyring:
    """Two keys of each kind, the second not in use yet."""
    return new_keyring("sandbox", T).rotate_signing(T, 90).rotate_field(T, 90)


@pytest.fixture
def path(tmp_path: Path, ring: Keyring) -> Path:
    file = tmp_path / "keys" / "keyring.json"
    save_keyring(file, ring)
    return file


def _private(ring: Keyring) -> Iterator[str]:
    """Everything in a keyring that nobody may see, in every spelling that a repr or a file could give it."""
    for secret in (ring.root, *(key.key for key in ring.field_keys)):
        yield from (base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode(), secret.hex())
        yield repr(secret)[2:-1]
    for key in ring.signing_keys:
        if key.private is not None:
            yield str(key.private.private_numbers().private_value)
            yield f"{key.private.private_numbers().private_value:x}"
            pem = key.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            yield from pem.decode().splitlines()[1:-1]


def test_a_keyring_comes_back_as_it_was_written(path: Path, ring: Keyring) -> None:
    read = load_keyring(path)
    assert (read.purpose, read.root, read.field_keys) == (ring.purpose, ring.root, ring.field_keys)
    assert read.jwks() == ring.jwks()
    assert list(_private(read)) == list(_private(ring))
    assert [(k.kid, k.signs_from, k.created_at) for k in read.signing_keys] == [
        (k.kid, k.signs_from, k.created_at) for k in ring.signing_keys
    ]


def test_the_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path, ring: Keyring) -> None:
    before = os.umask(0)
    try:
        save_keyring(tmp_path / "new" / "keyring.json", ring)
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "keyring.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_that_is_open_to_others_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(KeyringError, match="chmod 600"):
        load_keyring(path)


def test_whoever_reads_while_it_is_written_reads_a_whole_keyring(path: Path, ring: Keyring) -> None:
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            save_keyring(path, ring)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            assert load_keyring(path).root == ring.root
    finally:
        over.set()
        writer.join()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(path: Path) -> None:
    before = path.read_bytes()
    # A disk that is full after a kilobyte.
    program = """
import resource, sys
from pathlib import Path
from service.keyring import KeyringError, load_keyring, save_keyring
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
path = Path(sys.argv[1])
try:
    save_keyring(path, load_keyring(path).rotate_field(0))
except KeyringError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written" in done.stdout
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="keys generate"):
        load_keyring(tmp_path / "keyring.json")
    with pytest.raises(KeyringError, match="cannot be read"):
        load_keyring(tmp_path)


def _pem(key: Any) -> str:
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return str(public.decode())


def _private_pem(key: Any) -> str:
    return str(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    )


P256, P384, RSA = (
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP384R1()),
    rsa.generate_private_key(65537, 2048),
)
Change = Callable[[dict[str, Any]], object]
MALFORMED: dict[str, Change] = {
    "no version": lambda raw: raw.pop("version"),
    "a later version": lambda raw: raw.update(version=2),
    "no purpose": lambda raw: raw.pop("purpose"),
    "a purpose that is none": lambda raw: raw.update(purpose="staging"),
    "no root": lambda raw: raw.pop("root"),
    "a short root": lambda raw: raw.update(root=base64.b64encode(b"r" * 31).decode()),
    "a root that is no base64": lambda raw: raw.update(root="*" * 43),
    "a root that is a number": lambda raw: raw.update(root=7),
    "no field keys": lambda raw: raw.update(field=[]),
    "a short field key": lambda raw: raw["field"][0].update(key=base64.b64encode(b"k" * 16).decode()),
    "a field key without an hour": lambda raw: raw["field"][0].pop("sealsFrom"),
    "an hour that is a word": lambda raw: raw["field"][0].update(sealsFrom="soon"),
    "an hour that is no number": lambda raw: raw["field"][0].update(sealsFrom=float("nan")),
    "a field key twice": lambda raw: raw["field"][1].update(kid=raw["field"][0]["kid"]),
    "a field key's name that is a number": lambda raw: raw["field"][0].update(kid=7),
    "a field key's name too long for a length byte": lambda raw: raw["field"][0].update(kid="f" * 256),
    "field keys that are no list": lambda raw: raw.update(field="abc"),
    "no signing keys": lambda raw: raw.update(signing=[]),
    "a signing key twice": lambda raw: raw["signing"][1].update(kid=raw["signing"][0]["kid"]),
    "a signing key without a public half": lambda raw: raw["signing"][0].pop("publicKey"),
    "a public half that is a number": lambda raw: raw["signing"][0].update(publicKey=7),
    "a public half that is no key": lambda raw: raw["signing"][0].update(publicKey="PEM"),
    "a public half of another curve": lambda raw: raw["signing"][0].update(publicKey=_pem(P384)),
    "a public half of another kind": lambda raw: raw["signing"][0].update(publicKey=_pem(RSA)),
    "a private half that is a number": lambda raw: raw["signing"][0].update(privateKey=7),
    "a private half of another kind": lambda raw: raw["signing"][0].update(privateKey=_private_pem(RSA)),
    "halves of two keys": lambda raw: raw["signing"][0].update(privateKey=_private_pem(P256)),
    "a signing key that is a word": lambda raw: raw.update(signing=["word"]),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_is_named_without_a_key(path: Path, ring: Keyring, change: Change) -> None:
    raw = json.loads(path.read_bytes())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(KeyringError, match="malformed") as refused:
        load_keyring(path)
    assert str(path) in str(refused.value)
    assert refused.value.__suppress_context__
    assert [secret for secret in _private(ring) if secret in str(refused.value)] == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"{}"])
def test_a_file_that_holds_something_else_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(KeyringError, match=r"cannot be read|malformed"):
        load_keyring(path)


def test_a_new_signing_key_is_published_at_once_and_signs_after_its_lead(ring: Keyring) -> None:
    old, new = ring.signing_keys
    assert [key["kid"] for key in ring.jwks()["keys"]] == [old.kid, new.kid]
    assert [ring.signer(T + seconds).kid for seconds in (0, 89.9, 90, 1e9)] == [old.kid, old.kid, new.kid, new.kid]
    with pytest.raises(KeyringError, match="due"):
        ring.signer(T - 1)


def test_a_new_field_key_opens_at_once_and_seals_after_its_lead(ring: Keyring) -> None:
    old, new = ring.field_keys
    assert [ring.sealer(T + seconds).kid for seconds in (0, 89.9, 90, 1e9)] == [old.kid, old.kid, new.kid, new.kid]
    with pytest.raises(KeyringError, match="due"):
        ring.sealer(T - 1)


def test_rotating_keeps_everything_that_was_there(ring: Keyring) -> None:
    rotated = ring.rotate_signing(T + 1).rotate_field(T + 1)
    assert rotated.signing_keys[:2] == ring.signing_keys
    assert rotated.field_keys[:2] == ring.field_keys
    assert (rotated.root, rotated.purpose) == (ring.root, ring.purpose)
    assert (len(ring.signing_keys), len(ring.field_keys)) == (2, 2)
    assert len({key.kid for key in rotated.signing_keys} | {key.kid for key in rotated.field_keys}) == 6


def test_a_retired_key_stays_published_and_signs_no_more(ring: Keyring) -> None:
    old, new = ring.signing_keys
    retired = ring.retire(old.kid, T + 100)
    assert [key.retired for key in retired.signing_keys] == [True, False]
    assert retired.jwks() == ring.jwks()
    assert retired.retire(old.kid, T + 100) == retired
    assert retired.signer(T + 100).kid == new.kid
    with pytest.raises(KeyringError, match="due"):
        retired.signer(T + 1)


def test_a_revoked_key_is_forgotten(ring: Keyring) -> None:
    old, new = ring.signing_keys
    revoked = ring.revoke(old.kid, T + 100)
    assert [key["kid"] for key in revoked.jwks()["keys"]] == [new.kid]
    assert ring.revoke(new.kid, T).signing_keys == (old,)


@pytest.mark.parametrize("verb", ["retire", "revoke"])
def test_the_key_that_signs_and_one_that_is_not_there_are_refused(ring: Keyring, verb: str) -> None:
    old, new = ring.signing_keys
    with pytest.raises(KeyringError, match="rotate first"):
        getattr(ring, verb)(old.kid, T)
    with pytest.raises(KeyringError, match="rotate first"):
        getattr(ring, verb)(new.kid, T + 90)
    for unknown in ("s000000000000", ring.field_keys[0].kid, ""):
        with pytest.raises(KeyringError, match="no such key"):
            getattr(ring, verb)(unknown, T)


def test_two_uses_and_two_keyrings_never_share_a_derived_key(ring: Keyring) -> None:
    uses = ["blind-index", "mac", "mac ", "", "blind-index\0"]
    keys = [made.derive(use) for made in (ring, new_keyring("sandbox")) for use in uses]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {32}
    assert ring.derive("mac") == replace(ring, signing_keys=()).derive("mac") != ring.root


def test_a_published_key_is_public(ring: Keyring) -> None:
    for published, key in zip(ring.jwks()["keys"], ring.signing_keys, strict=True):
        assert published.keys() == {"kty", "crv", "use", "alg", "kid", "x", "y"}
        numbers = jwt.PyJWK(published).key.public_numbers()
        assert numbers == key.public.public_numbers()


def test_nothing_secret_shows_in_what_is_printed(path: Path, ring: Keyring) -> None:
    vault = Vault(lambda: ring)
    passwords = Passwords(vault)
    tokens = Tokens(lambda: ring, "https://i.example", "yika")
    things = [ring, *ring.signing_keys, *ring.field_keys, Keys(path), vault, passwords, tokens, ring.rotate_field(T)]
    printed = "".join(repr(thing) + str(thing) for thing in things)
    passwords.close()
    derived = [ring.derive(use) for use in ("blind-index", "mac")]
    assert ring.signing_keys[0].kid in printed
    assert [secret for secret in _private(ring) if secret in printed] == []
    assert [key for key in derived if key.hex() in printed or repr(key)[2:-1] in printed] == []


# The keyring as a running process sees it.


def test_a_process_sees_a_change_and_only_a_change(path: Path, ring: Keyring) -> None:
    keys = Keys(path)
    assert not keys.reload()
    before = keys.ring
    save_keyring(path, ring.rotate_field(T + 100))
    assert keys.reload()
    assert keys.ring is not before
    assert len(keys.ring.field_keys) == 3
    assert not keys.reload()


@pytest.mark.parametrize("damage", ["malformed", "open to others", "gone"])
def test_a_process_keeps_its_keys_when_the_file_cannot_be_used(path: Path, ring: Keyring, damage: str) -> None:
    keys = Keys(path)
    before = keys.ring
    if damage == "malformed":
        path.write_text("{}")
    elif damage == "open to others":
        save_keyring(path, ring.rotate_field(T + 100))
        path.chmod(0o644)
    else:
        path.unlink()
    for _ in range(2):
        if damage == "gone":
            assert not keys.reload()
        else:
            with pytest.raises(KeyringError):
                keys.reload()
        assert keys.ring is before
    save_keyring(path, ring.rotate_field(T + 100))
    assert keys.reload()
    assert len(keys.ring.field_keys) == 3
