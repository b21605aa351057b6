"""Invented populations: nobody real, nobody twice, the same from one seed, and rows that an import takes."""

from collections import Counter
from datetime import UTC, date, datetime
from itertools import islice
from typing import Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.imports import read_json_row
from service.imports import RowRules
from service.keyring import new_keyring
from service.regions import SHIPPED, Regions
from service.sandbox.invention import is_invented, is_invented_name, is_invented_region
from service.sandbox.population import Fields, Mix, Population
from service.vault import Vault

REGIONS: Final = Regions.load_directory(SHIPPED)
NOW: Final = datetime(2026, 11, 22, tzinfo=UTC)


def rows(cards: int, people: int, *, seed: str = "1", mix: Mix = "mixed") -> list[Fields]:
    return list(Population(list(REGIONS), cards=cards, people=people, seed=seed, mix=mix).rows())


@pytest.mark.parametrize("mix", ["sealed", "mixed"])
def test_an_import_takes_every_row(mix: Mix) -> None:
    ring = new_keyring("sandbox")
    rules = RowRules(REGIONS, Vault(lambda: ring), lambda number: None if is_invented(number) else "notInvented")
    entries = [rules.entry(read_json_row(orjson.dumps(row)), NOW) for row in rows(3000, 2000, mix=mix)]
    assert len({entry.card.card_id for entry in entries}) == 3000
    assert len({entry.holder.holder_id for entry in entries}) == 2000
    statuses = Counter(entry.card.stored_status for entry in entries)
    assert len(statuses) == (1 if mix == "sealed" else 6)


def test_nobody_is_real_and_no_number_comes_twice() -> None:
    made = rows(20_000, 15_000)
    assert all(is_invented(str(row["idNumber"])) for row in made)
    assert all(is_invented_name(str(row["holderName"])) for row in made)
    assert all(is_invented_region(str(row["regionCode"])) for row in made)
    assert len({row["idNumber"] for row in made}) == 15_000
    for name in ("identificationCode", "bankAccount"):
        assert len({row[name] for row in made}) == 20_000
    assert len({(row["regionCode"], row["cardNumber"]) for row in made}) == 20_000
    assert {row["regionCode"] for row in made} == {region.code for region in REGIONS}


def test_sealed_ones_can_all_be_activated_by_their_holder() -> None:
    for row in rows(2000, 2000, mix="sealed"):
        born = date.fromisoformat(f"{str(row['idNumber'])[6:10]}-01-01")
        assert NOW.year - born.year > 18
        assert (row["status"], row["productionStage"], row["insuranceRegionCode"]) == ("sealed", "delivered", row["regionCode"])
        assert str(row["expiresOn"]) > "2027"


def test_the_same_seed_is_the_same_people_and_another_is_not() -> None:
    assert rows(500, 400) == rows(500, 400)
    first, second = rows(500, 400), rows(500, 400, seed="2")
    assert not {row["idNumber"] for row in first} & {row["idNumber"] for row in second}


@settings(max_examples=30)
@given(st.integers(1, 400), st.data())
def test_there_are_as_many_people_and_cards_as_were_asked_for(cards: int, data: st.DataObject) -> None:
    people = data.draw(st.integers((cards + 1) // 2, cards))
    made = rows(cards, people)
    of = Counter(row["idNumber"] for row in made)
    assert (len(made), len(of)) == (cards, people)
    assert set(of.values()) <= {1, 2}
    # Both cards of a person stand together.
    assert [row["idNumber"] for row in made] == [
        number for number in dict.fromkeys(row["idNumber"] for row in made) for _ in range(of[number])
    ]


@pytest.mark.parametrize(("cards", "people"), [(10, 11), (10, 4), (0, 1)])
def test_more_than_two_cards_each_or_none_is_refused(cards: int, people: int) -> None:
    with pytest.raises(ValueError, match="one card or two"):
        Population(list(REGIONS), cards=cards, people=people, seed="1", mix="sealed")


def test_a_huge_population_begins_at_once() -> None:
    huge = Population(list(REGIONS), cards=1_000_000_000, people=1_000_000_000, seed="1", mix="sealed")
    assert len(list(islice(huge.rows(), 3))) == 3
