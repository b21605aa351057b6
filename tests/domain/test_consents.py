"""When a consent counts, and that its words are there for good."""

from datetime import UTC, date, datetime, timedelta

import pytest

from service.clock import CHINA
from service.consents import WORDINGS, Consent, Purpose, Turn, Wording, consent_id_of, wording_of
from service.ids import HolderId, is_id
from service.locale import LOCALES, text

SOMEBODY = HolderId("hld_a")
NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


def turned(*turns: tuple[str, int]) -> Consent:
    """Somebody who said this, an hour apart, to these versions of the text."""
    purpose = Purpose.COUNTER_LOOK_UP
    said = tuple(
        Turn(turn, NOW + timedelta(hours=hour), "app", wording, b"m")  # type: ignore[arg-type]  # words come as texts here
        for hour, (turn, wording) in enumerate(turns)
    )
    return Consent(consent_id_of(SOMEBODY, purpose), SOMEBODY, purpose, said)


@pytest.fixture
def _second_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second text for a purpose, from 2027 on."""
    monkeypatch.setitem(
        WORDINGS,
        Purpose.COUNTER_LOOK_UP,
        (Wording(1, date(2026, 11, 1)), Wording(2, date(2027, 1, 1))),
    )


def test_every_text_there_ever_was_is_there_in_both_languages() -> None:
    for purpose, wordings in WORDINGS.items():
        assert [wording.version for wording in wordings] == list(range(1, len(wordings) + 1))
        assert list(wordings) == sorted(wordings, key=lambda wording: wording.since)
        for wording in wordings:
            for locale in LOCALES:
                assert text(locale, f"consents.{purpose}.v{wording.version}.title")
                assert text(locale, f"consents.{purpose}.v{wording.version}.text")
    assert set(WORDINGS) == set(Purpose)


def test_one_person_and_purpose_is_one_id() -> None:
    ids = {consent_id_of(HolderId(holder), purpose) for holder in ("hld_a", "hld_b") for purpose in Purpose}
    assert len(ids) == 2 * len(Purpose)
    assert all(is_id("cns", consent_id) for consent_id in ids)


@pytest.mark.parametrize(
    ("consent", "state"),
    [
        (turned(), "notGiven"),
        (turned(("given", 1)), "given"),
        (turned(("given", 1), ("withdrawn", 1)), "withdrawn"),
        (turned(("given", 1), ("withdrawn", 1), ("given", 1)), "given"),
    ],
)
def test_what_was_said_last_counts(consent: Consent, state: str) -> None:
    assert consent.state(NOW) == state


@pytest.mark.usefixtures("_second_text")
def test_a_new_text_asks_for_a_new_consent_from_its_day_on_in_china() -> None:
    eve = datetime(2026, 12, 31, 23, 59, 59, tzinfo=CHINA)
    day = datetime(2027, 1, 1, tzinfo=CHINA)
    old, new = turned(("given", 1)), turned(("given", 1), ("given", 2))
    assert [old.state(moment) for moment in (eve, day)] == ["given", "outdated"]
    assert [old.shown_wording(moment) for moment in (eve, day)] == [1, 2]
    assert new.state(day) == "given"
    assert turned(("given", 1), ("withdrawn", 1)).state(day) == "withdrawn"


@pytest.mark.usefixtures("_second_text")
def test_before_its_day_the_first_text_is_the_one() -> None:
    assert wording_of(Purpose.COUNTER_LOOK_UP, datetime(2020, 1, 1, tzinfo=UTC)) == 1
    assert wording_of(Purpose.COUNTER_LOOK_UP, datetime(2030, 1, 1, tzinfo=UTC)) == 2


def test_a_withdrawal_leaves_the_day_of_giving() -> None:
    consent = turned(("given", 1), ("withdrawn", 1))
    assert consent.given_at == NOW
    assert consent.withdrawn_at == NOW + timedelta(hours=1)
    assert turned(("given", 1)).withdrawn_at is None
