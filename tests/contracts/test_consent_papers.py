"""docs/consents.md says what is so: purposes and their texts, reasons of look-ups, and what is kept about a person."""

from pathlib import Path
from typing import get_args

from schemas.data_rights import ExportDataView
from service.consents import MOST_TURNS_A_DAY, OWN_CONSENT_AGE, WORDINGS
from service.erasures import Obstacle
from service.exports import EXPORTS, MOST_ACCESSES
from service.lookups import LookUpReason
from service.mongo.copies import MOST
from service.mongo.holdings import HOLDINGS, IMPERSONAL

PAPER = (Path(__file__).parents[2] / "docs" / "consents.md").read_text(encoding="utf-8")


def test_every_purpose_and_every_version_of_its_text_is_in_the_paper() -> None:
    for purpose, wordings in WORDINGS.items():
        for wording in wordings:
            assert f"| `{purpose}` | {wording.version} | {wording.since} |" in PAPER
    assert f"At most {MOST_TURNS_A_DAY} in a day" in PAPER
    assert f"under {OWN_CONSENT_AGE} cannot agree" in PAPER


def test_every_reason_of_a_look_up_and_of_a_refusal_is_in_the_paper() -> None:
    assert [word for word in (*get_args(LookUpReason), *get_args(Obstacle)) if f"`{word}`" not in PAPER] == []


def test_the_table_of_what_is_kept_is_the_list_that_the_code_goes_by() -> None:
    for holding in HOLDINGS:
        word = f"`{holding.word}`" if holding.word else "no"
        row = f"| `{holding.collection}` by `{holding.whose}` | {word} | {holding.fate} | {holding.why or '–'} |"
        assert row in PAPER, row
    for name, what in IMPERSONAL.items():
        assert f"| `{name}` | {what} |" in PAPER, name
    assert PAPER.count("` by `") == len(HOLDINGS)


def test_the_numbers_of_the_copy_are_in_the_paper() -> None:
    assert f"the newest {MOST};" in PAPER
    assert f"newest {MOST_ACCESSES} entries" in PAPER
    assert EXPORTS.most == 10
    assert "At most ten a day" in PAPER


def test_the_copy_has_a_place_for_every_kind_and_no_other() -> None:
    places = {field.alias for field in ExportDataView.model_fields.values()}
    assert places == {holding.word for holding in HOLDINGS if holding.word}
