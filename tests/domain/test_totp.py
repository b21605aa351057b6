from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.totp import STEP_SECONDS, WINDOW, code_of, enrolment_uri, matching_step, new_secret, step_at

# "12345678901234567890" in base32; RFC 6238, appendix B, the last six of its eight digits.
RFC_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
RFC_CODES = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  given a zone


@pytest.mark.parametrize(("seconds", "code"), RFC_CODES)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    moment = datetime.fromtimestamp(seconds, UTC)
    assert code_of(RFC_SECRET, step_at(moment)) == code
    assert matching_step(RFC_SECRET, code, [moment]) == step_at(moment)


@given(MOMENTS, st.integers(-4, 4))
def test_a_code_matches_within_one_step_of_its_moment(moment: datetime, distance: int) -> None:
    step = step_at(moment) + distance
    matched = matching_step(RFC_SECRET, code_of(RFC_SECRET, step), [moment])
    # Of a million codes two near ones are alike now and then.
    assert matched == step if abs(distance) <= WINDOW else matched != step


@given(MOMENTS, st.integers(0, 10**9))
def test_each_of_several_clocks_counts(moment: datetime, ahead: int) -> None:
    clocks = [moment, moment + timedelta(seconds=ahead)]
    for clock in clocks:
        assert matching_step(RFC_SECRET, code_of(RFC_SECRET, step_at(clock)), clocks) is not None


@pytest.mark.parametrize("code", ["", "28708", "2870820", "abcdef"])
def test_what_is_no_code_matches_nothing(code: str) -> None:
    assert matching_step(RFC_SECRET, code, [datetime.fromtimestamp(59, UTC)]) is None


def test_secrets_are_long_and_of_their_own() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(secret) for secret in made} == {32}


def test_the_address_for_an_authenticator_holds_all_it_needs() -> None:
    uri = urlsplit(enrolment_uri(RFC_SECRET, "li.0002", "Yika"))
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/Yika:li.0002")
    told = parse_qs(uri.query)
    assert (told["secret"], told["issuer"]) == ([RFC_SECRET], ["Yika"])
    # What is left out is what authenticators take by themselves: SHA-1, six digits, thirty seconds.
    assert set(told) == {"secret", "issuer"}
    assert STEP_SECONDS == 30
