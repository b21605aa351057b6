"""A balance as bytes, written where many are read, says what its view says."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from schemas.cards import balance_json, balance_view, figures_writer
from service.balances import Account, Balance, Figure
from service.cards import MedicalStatus, Status
from service.clock import Clock
from service.ids import CardId
from service.regions import SHIPPED, Regions

CARD = CardId("card_" + "a" * 24)
REGION = "990100"
REGIONS = Regions.load_directory(SHIPPED)
FRESH, OLD = timedelta(minutes=5), timedelta(days=60)


def balance(clock: Clock, ages: dict[Account, timedelta], *, write: bool) -> Balance:
    now = clock.now()
    figures = tuple(
        Figure(account, fen, "normal", now - age, 'a "source"')
        for fen, (account, age) in zip((0, -5, 123_456_789), ages.items(), strict=False)
    )
    oldest = min((figure.as_of for figure in figures), default=None)
    written = b""
    if oldest is not None and write:
        written = figures_writer(REGIONS, clock)(CARD, REGION, figures, oldest, MedicalStatus.NORMAL)
    return Balance(CARD, REGION, 3, Status.ACTIVE, MedicalStatus.NORMAL, figures, oldest, written)


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("medical", [MedicalStatus.NORMAL, MedicalStatus.FROZEN])
@pytest.mark.parametrize(
    "ages",
    [
        {},
        dict.fromkeys(Account, FRESH),
        dict.fromkeys(Account, OLD),
        {Account.PENSION: OLD, Account.MEDICAL: FRESH},
    ],
)
def test_the_bytes_are_those_of_the_view(ages: dict[Account, timedelta], medical: MedicalStatus, write: bool) -> None:  # noqa: FBT001  of the parameters
    clock = Clock()
    found = balance(clock, ages, write=write)
    now = clock.now()
    old_before = now - REGIONS.get(REGION).policy.figures_old_after
    view = balance_view(found, medical, now, old_before)
    said = orjson.loads(balance_json(found, medical, now, old_before))
    assert said == orjson.loads(view.model_dump_json(by_alias=True))
    assert [item["stale"] for item in said["items"]] == [age == OLD for age in ages.values()]


def test_what_was_written_follows_the_clock_of_the_service() -> None:
    clock = Clock()
    clock.offset = timedelta(days=400)
    found = balance(clock, {Account.MEDICAL: FRESH}, write=True)
    assert orjson.loads(found.written)["items"][0]["stale"] is False
    assert found.oldest is not None
    assert found.oldest > datetime.now(UTC) + timedelta(days=300)
