"""Access tokens: what opens, for how long, and what is remembered of one that was verified."""

import base64
import gc
import json
import secrets
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from service import tokens as module
from service.errors import Refusal
from service.ids import new_id
from service.keyring import Keyring, new_keyring
from service.tokens import ACCESS, LEEWAY, Claims, Tokens

CLAIMS = Claims("hld_somebody", "ses_some", "holder", 2)
MOMENT = timedelta(milliseconds=1)


def _tokens(ring: Keyring) -> Tokens:
    return Tokens(lambda: ring, "https://i.example", "yika")


def _issue(tokens: Tokens, at: datetime, life: timedelta = timedelta(hours=24)) -> str:
    token, seconds = tokens.issue(CLAIMS, method="sms", now=at, until=at + life)
    assert seconds == min(ACCESS, life).total_seconds()
    return token


# The service's clock judges them, the keyring's real time signs them.


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=400)], ids=["now", "a clock far ahead"])
def test_a_token_lives_ten_minutes_of_the_services_clock_and_half_a_minute_of_leeway(ahead: timedelta) -> None:
    tokens = _tokens(new_keyring("sandbox"))
    now = datetime.now(UTC).replace(microsecond=0) + ahead
    token = _issue(tokens, now)
    for good in (now - LEEWAY, now, now + ACCESS, now + ACCESS + LEEWAY - MOMENT):
        assert tokens.verify(token, good) == CLAIMS
    # Whether it was verified before must not matter.
    for made in (tokens, _tokens(tokens._ring())):  # noqa: SLF001  the same keys, no memory
        for wrong, code in ((now - LEEWAY - MOMENT, "token_invalid"), (now + ACCESS + LEEWAY, "token_expired")):
            with pytest.raises(Refusal, match=code):
                made.verify(token, wrong)
    assert tokens.verify(token, now) == CLAIMS


def test_a_token_ends_with_its_session() -> None:
    tokens = _tokens(new_keyring("sandbox"))
    now = datetime.now(UTC).replace(microsecond=0)
    token = _issue(tokens, now, timedelta(seconds=90))
    with pytest.raises(Refusal, match="token_expired"):
        tokens.verify(token, now + timedelta(seconds=90) + LEEWAY)


def test_the_key_that_signs_is_chosen_by_real_time_not_by_a_clock_that_was_moved() -> None:
    ring = new_keyring("sandbox").rotate_signing(time.time(), 3600)
    token = _issue(_tokens(ring), datetime.now(UTC) + timedelta(days=2))
    assert jwt.get_unverified_header(token)["kid"] == ring.signing_keys[0].kid


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("verb", ["retire", "revoke"])
def test_a_key_that_is_over_opens_nothing_and_only_a_retired_one_still_proves_receipts(verb: str, *, remembered: bool) -> None:
    ring = new_keyring("sandbox", time.time() - 10)
    old = ring.signing_keys[0]
    rings = [ring]
    tokens = Tokens(lambda: rings[-1], "https://i.example", "yika")
    now = datetime.now(UTC)
    token, receipt = _issue(tokens, now), tokens.sign_receipt({"iat": 1, "jti": "act_x"})
    if remembered:
        assert tokens.verify(token, now) == CLAIMS
    rotated = ring.rotate_signing(time.time(), 0)
    rings.append(rotated)
    assert tokens.verify(token, now) == CLAIMS
    rings.append(getattr(rotated, verb)(old.kid, time.time()))
    with pytest.raises(Refusal, match="token_invalid"):
        tokens.verify(token, now)
    assert (tokens.read_receipt(receipt) is not None) is (verb == "retire")
    assert tokens.verify(_issue(tokens, now), now) == CLAIMS


def test_tokens_of_another_keyring_issuer_or_audience_open_nothing() -> None:
    ring, now = new_keyring("sandbox"), datetime.now(UTC)
    token = _issue(_tokens(ring), now)
    for other in (
        _tokens(new_keyring("sandbox")),
        Tokens(lambda: ring, "https://j.example", "yika"),
        Tokens(lambda: ring, "https://i.example", "other"),
    ):
        with pytest.raises(Refusal, match="token_invalid"):
            other.verify(token, now)


# What is remembered. Whether it is shows in the number of signatures that are checked.


class _Counted(ec.EllipticCurvePublicKey):
    """A public key that counts the signatures it is asked about."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self.checked = 0

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._key.curve

    @property
    def key_size(self) -> int:
        return self._key.key_size

    def public_numbers(self) -> ec.EllipticCurvePublicNumbers:
        return self._key.public_numbers()

    def public_bytes(self, *form: Any) -> bytes:
        return self._key.public_bytes(*form)

    def verify(self, *signed: Any) -> None:
        self.checked += 1
        self._key.verify(*signed)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> "_Counted":
        return self

    def __deepcopy__(self, memo: object) -> "_Counted":
        return self


class _Watched:
    """Tokens under a keyring that may change, whose first key counts. `now` is a whole second, as in tokens."""

    def __init__(self) -> None:
        ring = new_keyring("sandbox", time.time() - 10)
        (key,) = ring.signing_keys
        self._key = _Counted(key.public)
        self.ring = replace(ring, signing_keys=(replace(key, public=self._key),))
        self.tokens = Tokens(lambda: self.ring, "https://i.example", "yika")
        self.now = datetime.now(UTC).replace(microsecond=0)

    def issue(self) -> str:
        return _issue(self.tokens, self.now)

    def checks(self, *tokens: str) -> int:
        """How many signatures are checked to verify these."""
        before = self._key.checked
        for token in tokens:
            assert self.tokens.verify(token, self.now) == CLAIMS
        return self._key.checked - before

    def refuses(self, token: str, at: datetime | None = None) -> str:
        with pytest.raises(Refusal) as refused:
            self.tokens.verify(token, at or self.now)
        return refused.value.code


@pytest.fixture
def watched() -> _Watched:
    return _Watched()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """A memory for only so many tokens."""
    monkeypatch.setattr(module, "_REMEMBERED", 16)
    return 16


def test_a_signature_is_checked_once(watched: _Watched) -> None:
    one, other = watched.issue(), watched.issue()
    assert watched.checks(one) == 1
    assert watched.checks(other) == 1
    assert watched.checks(one, other, one, other) == 0


def test_of_too_many_tokens_the_oldest_are_forgotten(watched: _Watched, few: int) -> None:
    tokens = [watched.issue() for _ in range(few + 3)]
    assert watched.checks(*tokens) == few + 3
    assert watched.checks(*tokens[3:]) == 0
    # Forgotten is not refused.
    assert watched.checks(*tokens[:3]) == 3
    assert watched.checks(*tokens[6:], *tokens[:3]) == 0


def _kept(work: Callable[[], object]) -> int:
    """The bytes that verifying left in memory, of all that was done meanwhile."""
    gc.collect()
    tracemalloc.start(12)
    try:
        work()
        gc.collect()
        verifying = tracemalloc.Filter(inclusive=True, filename_pattern=module.__file__, all_frames=True)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([verifying]).traces)
    finally:
        tracemalloc.stop()


def test_as_many_as_are_remembered_fit_a_small_memory(watched: _Watched) -> None:
    tokens = [watched.issue() for _ in range(600)]
    watched.checks(*tokens[:100])
    kept = _kept(lambda: watched.checks(*tokens[100:]))
    # A worker may take 120 MB in all.
    assert 0 < kept / 500 * module._REMEMBERED < 32_000_000  # noqa: SLF001  its size is the point


def _everything() -> Iterator[object]:
    """All that the interpreter holds."""
    met: dict[int, object] = {}
    ahead: list[object] = list(gc.get_objects())
    own = {id(met), id(ahead)}
    while ahead:
        thing = ahead.pop()
        # A proxy of something that is gone cannot be asked what it is, but for its type.
        if id(thing) in met or id(thing) in own or type(thing) in weakref.ProxyTypes:
            continue
        met[id(thing)] = thing
        if isinstance(thing, dict):
            # The collector passes over keys that are all text.
            ahead.extend(thing.keys())
        ahead.extend(gc.get_referents(thing))
    yield from met.values()


def _in_memory(pieces: list[bytes]) -> list[bool]:
    """Which of these, given backwards so that asking does not put them there, some text or bytes in memory holds."""
    gc.collect()
    found = [False] * len(pieces)
    for thing in _everything():
        if isinstance(thing, str | bytes | bytearray) and len(thing) >= len(min(pieces, key=len)):
            text = (thing.encode("utf-8", "surrogatepass") if isinstance(thing, str) else bytes(thing))[::-1]
            found = [was or piece in text for was, piece in zip(found, pieces, strict=True)]
    return found


def _verified(watched: _Watched) -> list[bytes]:
    """A token is verified; what nobody may find of it, backwards: what it says, its signature, and that as it is."""
    token = watched.issue()
    assert watched.checks(token, token) == 1
    _, body, signature = token.split(".")
    return [body.encode()[::-1], signature.encode()[::-1], base64.urlsafe_b64decode(signature + "==")[::-1]]


def test_no_piece_of_a_token_is_kept(watched: _Watched) -> None:
    pieces, others = _verified(watched), _verified(watched)
    # Pieces that are kept are found.
    kept = [others[0][::-1].decode(), others[2][::-1]]
    assert _in_memory([*pieces, *others]) == [False, False, False, True, False, True]
    assert len(kept) == 2


def test_an_expired_token_is_refused_and_forgotten(watched: _Watched) -> None:
    token = watched.issue()
    assert watched.checks(token, token) == 1
    over = watched.now + ACCESS + LEEWAY
    assert watched.tokens.verify(token, over - MOMENT) == CLAIMS
    assert watched.refuses(token, over) == "token_expired"
    assert watched.refuses(token, over) == "token_expired"
    assert watched.checks(token) == 1


def test_a_remembered_token_is_still_too_early_for_a_clock_that_went_back(watched: _Watched) -> None:
    token = watched.issue()
    assert watched.checks(token) == 1
    assert watched.refuses(token, watched.now - LEEWAY - MOMENT) == "token_invalid"
    assert watched.checks(token) <= 1


KEY_CHANGES: dict[str, Callable[[Keyring], Keyring]] = {
    "a key is added": lambda ring: ring.rotate_signing(time.time()),
    "a field key is added": lambda ring: ring.rotate_field(time.time()),
    "a key is retired": lambda ring: ring.retire(ring.signing_keys[1].kid, time.time()),
    "a key is revoked": lambda ring: ring.revoke(ring.signing_keys[1].kid, time.time()),
}


@pytest.mark.parametrize("change", KEY_CHANGES.values(), ids=KEY_CHANGES.keys())
def test_under_other_keys_nothing_is_remembered(watched: _Watched, change: Callable[[Keyring], Keyring]) -> None:
    watched.ring = before = watched.ring.rotate_signing(time.time(), 3600)
    tokens = [watched.issue() for _ in range(3)]
    assert watched.checks(*tokens, *tokens) == 3
    watched.ring = change(before)
    assert watched.checks(*tokens, *tokens) == 3
    # Also not when the old ones come back.
    watched.ring = before
    assert watched.checks(*tokens, *tokens) == 3


def test_a_remembered_token_dies_with_its_key_and_comes_back_only_by_being_verified(watched: _Watched) -> None:
    token = watched.issue()
    assert watched.checks(token, token) == 1
    kid = watched.ring.signing_keys[0].kid
    before = watched.ring
    for verb in ("retire", "revoke"):
        watched.ring = getattr(before.rotate_signing(time.time() - 1, 0), verb)(kid, time.time())
        assert [watched.refuses(token) for _ in range(3)] == ["token_invalid"] * 3
    watched.ring = before
    assert watched.checks(token) == 1


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _garbage(watched: _Watched) -> Iterator[str]:
    """Tokens that are not ours, each another, nearer and nearer to ours."""
    stranger = _tokens(new_keyring("sandbox"))
    while True:
        head, body, signature = watched.issue().split(".")
        yield secrets.token_urlsafe(300)
        yield f"{head}.{body}.{_b64(secrets.token_bytes(64))}"
        yield f"{head}.{_b64(secrets.token_bytes(200))}.{signature}"
        yield f"{head}.{body}.{signature[:-1]}"
        header = {"alg": "ES256", "typ": "at+jwt", "kid": secrets.token_hex(100)}
        yield f"{_b64(json.dumps(header).encode())}.{body}.{signature}"
        yield _issue(stranger, watched.now)
        yield "a" * 4000 + secrets.token_hex(8)
        yield f"{secrets.token_hex(4)}\udcff.\xe9.\u4e2d"


def test_what_was_refused_is_refused_again_however_often_it_comes(watched: _Watched) -> None:
    good = watched.issue()
    for forged, _ in zip(_garbage(watched), range(70), strict=False):
        assert [watched.refuses(forged) for _ in range(3)] == ["token_invalid"] * 3
    # A good one beside it changes nothing for a forged one, before or after.
    head, body, _ = good.split(".")
    forged = f"{head}.{body}.{_b64(secrets.token_bytes(64))}"
    assert watched.refuses(forged) == "token_invalid"
    assert watched.checks(good, good) == 1
    assert watched.refuses(forged) == "token_invalid"


def test_a_flood_of_garbage_pushes_nobody_out_and_takes_no_memory(watched: _Watched, few: int) -> None:
    tokens = [watched.issue() for _ in range(few)]
    assert watched.checks(*tokens) == few
    garbage = [token for token, _ in zip(_garbage(watched), range(1800), strict=False)]

    def flood(some: list[str]) -> None:
        for token in some:
            assert watched.refuses(token) == "token_invalid"

    few_kept, many_kept = _kept(lambda: flood(garbage[:600])), _kept(lambda: flood(garbage[600:]))
    assert many_kept - few_kept < 600 * 16, "less than sixteen bytes a token"
    assert watched.checks(*tokens) == 0


@pytest.mark.parametrize(
    ("issued", "code"), [(-ACCESS - LEEWAY, "token_expired"), (LEEWAY + timedelta(seconds=1), "token_invalid")]
)
def test_a_token_of_ours_that_is_refused_pushes_nobody_out(watched: _Watched, few: int, issued: timedelta, code: str) -> None:
    untimely = [_issue(watched.tokens, watched.now + issued) for _ in range(few)]
    tokens = [watched.issue() for _ in range(few)]
    assert watched.checks(*tokens) == few
    for token in untimely:
        assert watched.refuses(token) == code
    assert watched.checks(*tokens) == 0


def test_no_other_token_shares_what_is_remembered_of_one(watched: _Watched) -> None:
    token = watched.issue()
    assert watched.checks(token) == 1
    for place, letter in enumerate(token):
        for other in {"A", "_", ".", "=", chr(ord(letter) ^ 1)} - {letter}:
            assert watched.refuses(token[:place] + other + token[place + 1 :]) == "token_invalid"
    for near in (token[:-1], token + "A", token + "\0", " " + token, token.swapcase(), token[1:]):
        assert watched.refuses(near) == "token_invalid"
    assert watched.checks(token) == 0


def test_what_is_remembered_of_two_tokens_is_each_ones_own(watched: _Watched) -> None:
    people = [Claims(new_id("hld"), new_id("ses"), role, level) for role in ("holder", "operator") for level in (1, 2, 3)]
    until = watched.now + timedelta(hours=1)
    issued = [(watched.tokens.issue(claims, method="sms", now=watched.now, until=until)[0], claims) for claims in people]
    for _ in range(2):
        for token, claims in issued:
            assert watched.tokens.verify(token, watched.now) == claims
