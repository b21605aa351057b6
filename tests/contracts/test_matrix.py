"""The page of channels, states and actions: it is the one that the code writes, and its cells are what the server judges."""

import re
from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import pytest
from domain.test_cards import CARD, NOW, REGIONS
from typer.testing import CliRunner

from service.actors import COUNTERS, STAFF_ROLES, Actor, holder_actor
from service.cards import Bank, BankStatus, Card, Pin, PinState, Status
from service.policy_commands import policy_command
from service.regions import CHANNELS, ONLINE, SHIPPED, Channel, Region
from service.transitions import Action, judge

PAGE = Path(__file__).parents[2] / "docs" / "transitions.md"
TEXT = PAGE.read_text(encoding="utf-8")


def _rows(text: str, head: str) -> dict[str, list[str]]:
    """The cells of the table under a heading row, by the first one."""
    table = text.split(f"| {head} |")[1].split("\n\n", maxsplit=1)[0]
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]]
    return {cells[0].strip("`"): [*cells[1:], *[""] * (len(CHANNELS) + 1 - len(cells))] for cells in lines}


def _in_order(region: Region, status: Status, *, over: bool) -> Card:
    """A card with nothing in its way but its status, or its date."""
    return replace(
        CARD,
        region_code=region.code,
        stored_status=status,
        temporary_loss_until=NOW + timedelta(days=1) if status is Status.TEMPORARILY_LOST else None,
        bank=Bank("B901", None, BankStatus.PENDING),
        pin=Pin(PinState.SET, 0),
        expires_on=date(2020, 1, 1) if over else CARD.expires_on,
    )


def _is_possible(action: Action, card: Card, channel: Channel, region: Region) -> bool:
    """Whether the server accepts it from anybody who can stand there."""
    if channel in ONLINE:
        there = [holder_actor(card.holder_id, channel)]
    else:
        codes = frozenset({region.code})
        there = [Actor("op_x", role, channel, codes, "ins_x", "B901") for role in STAFF_ROLES if COUNTERS.get(role) == channel]
    return any(judge(action, card, actor, region, NOW) is None for actor in there)


def test_the_page_is_the_one_that_the_code_writes() -> None:
    written = CliRunner().invoke(policy_command, ["matrix", str(SHIPPED)])
    assert written.exit_code == 0
    assert written.output == TEXT, "make matrix writes it anew"


@pytest.mark.parametrize("region", [*REGIONS], ids=lambda region: region.code)
def test_every_cell_of_a_region_is_what_the_server_judges(region: Region) -> None:
    section = TEXT.split(f"\n## {region.code} ")[1].split("\n## ")[0]
    rows = _rows(section, f"action | {' | '.join(CHANNELS)}")
    assert [*rows] == [*Action]
    for action, (place, channel) in product(Action, enumerate(CHANNELS)):
        usual, _, over = rows[action][place].partition("over: ")
        told = {*re.findall(r"\w+", usual)}, {*re.findall(r"\w+", usual + over)}
        for status in Status:
            assert (status in told[0]) == _is_possible(action, _in_order(region, status, over=False), channel, region)
            if _is_possible(action, _in_order(region, status, over=True), channel, region):
                assert status in told[1]
