"""The walk of docs/ecard.md works as it is written."""

from pathlib import Path

from api.client import Api
from contracts.walk import walked

PAPER = Path(__file__).parents[2] / "docs" / "ecard.md"
LAST = "ecard_code_used"


async def test_the_walk_of_the_ecard_works_as_it_is_written(api: Api) -> None:
    paper = PAPER.read_text(encoding="utf-8")
    applied, picture, redeemed, last = await walked(paper, api.url)
    assert last == LAST
    assert f"`{LAST}`" in paper
    assert '"level":2' in applied
    assert picture.startswith("<svg ")
    assert '"redemptionId":"red_' in redeemed
