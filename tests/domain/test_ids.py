import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ids import PATTERN, derived_id, is_id, new_id, place_of, placed_id

regions = st.integers(0, 999_999).map(lambda number: f"{number:06d}")
secrets = st.binary(min_size=13, max_size=64)


@given(regions, secrets)
def test_a_placed_id_is_an_id_like_any_other(region: str, secret: bytes) -> None:
    made = placed_id("card", region, secret)
    assert re.fullmatch(PATTERN, made)
    assert is_id("card", made)
    assert made == placed_id("card", region, secret)


@given(regions, regions)
def test_regions_sort_among_placed_ids_as_their_codes_do(one: str, other: str) -> None:
    least, most = bytes(13), b"\xff" * 13
    assert (one < other) == (place_of(one) < place_of(other))
    if one < other:
        assert max(placed_id("card", one, least), placed_id("card", one, most)) < placed_id("card", other, least)
        assert placed_id("card", one, most) < min(placed_id("card", other, most), placed_id("card", other, least))


def test_a_province_is_one_run_of_ids() -> None:
    inside = [f"card_{place_of(f'44{rest:04d}')}" for rest in range(10_000)]
    outside = [f"card_{place_of(code)}" for code in ("439999", "450000")]
    assert outside[0] < min(inside)
    assert max(inside) < outside[1]


@given(regions, st.sets(st.binary(min_size=16, max_size=16), min_size=2, max_size=20))
def test_two_secrets_are_two_ids(region: str, some: set[bytes]) -> None:
    # The first hundred bits count.
    heads = {secret[:12] + bytes([secret[12] & 0xF0]) for secret in some}
    assert len({placed_id("hld", region, secret) for secret in some}) == len(heads)


@pytest.mark.parametrize("region", ["", "44010", "4401000", "44010x", "-44010", "４４０１００", "44 010"])
def test_a_region_that_is_none_places_nothing(region: str) -> None:
    with pytest.raises(ValueError, match="six digits"):
        placed_id("card", region, bytes(16))


def test_a_secret_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="100 secret bits"):
        placed_id("card", "440100", bytes(12))


@given(st.binary(min_size=15, max_size=15))
def test_ids_are_the_base32_that_everybody_knows(raw: bytes) -> None:
    standard = base64.b32encode(raw).decode().lower()
    assert placed_id("card", "000000", raw)[9:] == standard[:20]


def test_ids_of_before_stay_what_they_were() -> None:
    assert derived_id("card", "sealed", "0") == "card_" + _standard("card\0sealed\x000")
    assert len({new_id("ver") for _ in range(1000)}) == 1000


def _standard(text: str) -> str:
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:15]).decode().lower()
