"""The walk of docs/counters.md works as it is written."""

from pathlib import Path

from api.client import Api
from contracts.walk import walked

PAPER = Path(__file__).parents[2] / "docs" / "counters.md"
MESSAGE = "Your social security card has been activated"


async def test_the_walk_of_the_counters_works_as_it_is_written(api: Api) -> None:
    paper = PAPER.read_text(encoding="utf-8")
    lines = await walked(paper, api.url)
    assert lines[-1] == MESSAGE
    assert f"`{MESSAGE}`" in paper
    # Signed in, looked up, and activated three times; the fourth answer is the message.
    assert [line.count('"status"') for line in lines if '"code"' in line and '"title"' in line] == []
    assert sum('"result":"activated"' in line for line in lines) == 3
