import hmac
import secrets
import time

import pytest

from service.keyring import FieldKey, Keyring, new_keyring
from service.passwords import Passwords
from service.vault import Vault, VaultError

PLACE = ("cards", "number", "card_a")


@pytest.fixture
def rings() -> list[Keyring]:
    """The keyring as it was over time; the last one counts."""
    return [new_keyring("sandbox", time.time() - 100)]


@pytest.fixture
def vault(rings: list[Keyring]) -> Vault:
    return Vault(lambda: rings[-1])


def _elsewhere() -> Vault:
    """A vault with keys of its own."""
    ring = new_keyring("sandbox")
    return Vault(lambda: ring)


@pytest.mark.parametrize("text", ["", "A1234567X", "张伟", "买买提·吐尔逊", "x" * 100_000, "\0\n\u2028", "👩‍👧"])
def test_what_is_sealed_opens_again_and_shows_nothing(vault: Vault, text: str) -> None:
    sealed = vault.seal(*PLACE, text)
    assert vault.open(*PLACE, sealed) == text
    assert len(text) < 3 or text.encode() not in sealed
    assert vault.seal(*PLACE, text) != sealed


@pytest.mark.parametrize(
    "place",
    [
        ("holders", "number", "card_a"),
        ("cards", "identificationCode", "card_a"),
        ("cards", "number", "card_b"),
        ("card", "snumber", "card_a"),
        ("cards", "numberc", "ard_a"),
        ("cards", "", "card_a"),
    ],
)
def test_a_sealed_value_opens_in_its_own_place_only(vault: Vault, place: tuple[str, str, str]) -> None:
    sealed = vault.seal(*PLACE, "A1234567X")
    with pytest.raises(VaultError):
        vault.open(*place, sealed)


def test_a_value_with_any_bit_changed_does_not_open(vault: Vault) -> None:
    sealed = vault.seal(*PLACE, "A1234567X")
    for position in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[position] ^= 1 << bit
            with pytest.raises(VaultError):
                vault.open(*PLACE, bytes(changed))


def test_a_value_that_is_cut_or_has_grown_does_not_open(vault: Vault) -> None:
    sealed = vault.seal(*PLACE, "A1234567X")
    for length in range(len(sealed)):
        with pytest.raises(VaultError):
            vault.open(*PLACE, sealed[:length])
    with pytest.raises(VaultError):
        vault.open(*PLACE, sealed + b"\0")


def test_a_value_of_another_keyring_does_not_open(vault: Vault) -> None:
    with pytest.raises(VaultError, match="does not hold"):
        vault.open(*PLACE, _elsewhere().seal(*PLACE, "A1234567X"))


def test_what_does_not_open_is_not_told_either(vault: Vault) -> None:
    sealed = bytearray(vault.seal(*PLACE, "A1234567X"))
    sealed[-1] ^= 1
    with pytest.raises(VaultError) as refused:
        vault.open(*PLACE, bytes(sealed))
    assert "A1234567X" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_new_key_seals_from_its_hour_and_the_old_one_opens_for_ever(vault: Vault, rings: list[Keyring]) -> None:
    (first,) = rings[-1].field_keys
    old = vault.seal(*PLACE, "old")
    rings.append(rings[-1].rotate_field(time.time(), 3600))
    waiting = vault.seal(*PLACE, "waiting")
    rings.append(rings[-2].rotate_field(time.time() - 1, 0))
    new = vault.seal(*PLACE, "new")
    assert first.kid.encode() in old
    assert first.kid.encode() in waiting
    assert rings[-1].field_keys[-1].kid.encode() in new
    assert [vault.open(*PLACE, sealed) for sealed in (old, waiting, new)] == ["old", "waiting", "new"]
    assert Vault(lambda: rings[-1]).open(*PLACE, old) == "old"


def test_a_key_that_another_process_uses_already_opens_as_soon_as_the_keyring_has_it(
    vault: Vault, rings: list[Keyring]
) -> None:
    ahead = rings[-1].rotate_field(time.time() - 1, 0)
    sealed = Vault(lambda: ahead).seal(*PLACE, "theirs")
    with pytest.raises(VaultError):
        vault.open(*PLACE, sealed)
    rings.append(ahead)
    assert vault.open(*PLACE, sealed) == "theirs"


def test_a_value_names_algorithm_and_key_so_that_others_can_stand_beside_them(vault: Vault, rings: list[Keyring]) -> None:
    sealed = vault.seal(*PLACE, "A1234567X")
    kid = rings[-1].field_keys[0].kid.encode()
    assert sealed[:2] + sealed[2 : 2 + len(kid)] == bytes((1, len(kid))) + kid
    with pytest.raises(VaultError, match="algorithm"):
        vault.open(*PLACE, b"\x02" + sealed[1:])


def test_no_nonce_is_used_twice(vault: Vault, rings: list[Keyring]) -> None:
    start = 2 + len(rings[-1].field_keys[0].kid)
    documents = [vault.sealing("cards", "card_a") for _ in range(100)]
    sealed = [seal("number", "A1234567X") for seal in documents for _ in range(23)]
    assert len({value[start : start + 12] for value in sealed}) == len(sealed)
    assert {vault.open(*PLACE, value) for value in sealed} == {"A1234567X"}


def test_an_index_is_stable_for_a_value_and_a_field(vault: Vault, rings: list[Keyring]) -> None:
    index = vault.index("idNumber", "11010519491231002X")
    assert index == vault.index("idNumber", "11010519491231002X")
    rings.append(rings[-1].rotate_field(time.time(), 0).rotate_signing(time.time(), 0))
    assert Vault(lambda: rings[-1]).index("idNumber", "11010519491231002X") == index
    others = [
        vault.index("cardNumber", "11010519491231002X"),
        vault.index("idNumber", "110105194912310021"),
        vault.index("idNumbe", "r11010519491231002X"),
        vault.index("idNumber", ""),
        vault.mac("idNumber", "11010519491231002X"),
        _elsewhere().index("idNumber", "11010519491231002X"),
    ]
    assert len({index, *others}) == len(others) + 1
    assert len(index) == 32


def test_indexes_and_codes_are_what_databases_hold_already(vault: Vault, rings: list[Keyring]) -> None:
    ring = rings[-1]
    assert vault.index("idNumber", "1") == hmac.digest(ring.derive("blind-index"), b"idNumber\x001", "sha256")
    assert vault.mac("refresh", "ses_a", "1") == hmac.digest(ring.derive("mac"), b"refresh\x00ses_a\x001", "sha256")


def test_a_code_over_parts_is_for_one_use_and_one_way_to_part_them(vault: Vault) -> None:
    codes = [
        vault.mac("refresh", "ses_a", "1"),
        vault.mac("refresh", "ses_a1"),
        vault.mac("refresh", "ses_a", "1", ""),
        vault.mac("limit", "ses_a", "1"),
        vault.mac("refresh", "1", "ses_a"),
    ]
    assert len(set(codes)) == len(codes)
    assert vault.mac("refresh", "ses_a", "1") == codes[0]


def test_a_vault_shows_nothing_of_its_keys(vault: Vault, rings: list[Keyring]) -> None:
    vault.seal(*PLACE, "A1234567X")
    key = FieldKey("f0", secrets.token_bytes(32), 0)
    printed = f"{vault!r}{vault}{key!r}{rings[-1]!r}"
    for secret in (rings[-1].root, rings[-1].derive("mac"), rings[-1].field_keys[0].key, key.key):
        assert secret.hex() not in printed
        assert repr(secret)[2:-1] not in printed


async def test_a_password_is_peppered_so_that_a_stolen_hash_cannot_be_tried_elsewhere(vault: Vault) -> None:
    passwords, elsewhere = Passwords(vault), Passwords(_elsewhere())
    try:
        stored = await passwords.hash("Kq7mXw2pRt")
        assert stored.startswith("$argon2id$")
        assert "Kq7mXw2pRt" not in stored
        assert await passwords.hash("Kq7mXw2pRt") != stored
        assert await passwords.verify(stored, "Kq7mXw2pRt")
        assert not await passwords.verify(stored, "Kq7mXw2pRu")
        assert not await elsewhere.verify(stored, "Kq7mXw2pRt")
        for broken in (None, "", "nonsense", stored[:-4]):
            assert not await passwords.verify(broken, "Kq7mXw2pRt")
    finally:
        passwords.close()
        elsewhere.close()
