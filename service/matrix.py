"""The matrix of channel, state and action as a page: what the table of transitions and the packs of regions come to.

True here: every cell is read from the rows by which the server judges, so a page that is generated anew says what is so. Never
here: a rule, or a sentence about a single action or region.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from service.actors import COUNTERS, Role
from service.cards import AAZ502, Status
from service.dependants import AUTHORITY
from service.policies import CATEGORIES, CHANNELS, Channel
from service.regions import Region
from service.transitions import PERMITTED, TRANSITIONS, Action, Transition, channels_for, refused_by_state

_HEAD: Final = """\
# What may be done with a card

Generated from the code and from the policy packs; do not edit it. `make matrix` writes it anew, and a test fails while it
is old. The rules are the rows in `service/transitions.py` and the packs in `service/regions/`; the words are those of the
API.
"""
_STATES: Final = """\
## Action and state

What an action makes of a card in each state: the next state, `stays` where the state does not change, or in brackets the
reason why it is refused. *Over* is a card that has expired, or whose generation is retired.
"""
_TRANSITIONS: Final = """\
## The transitions

The history has each change under its name. Besides the state, an action is refused with `testCard` and `notDelivered`
unless it is possible *in production*, and with `expired` and `retired` when the card is over, except from the states in
*if over*. *Two people*: an action that takes the approval of a second person. A card that is replaced stays as it is until
the new one is handed out, and is cancelled then.
"""
_BOUND: Final = """\
## Role and action

The widest that any region may allow; the tables of the regions below narrow it. An operator's channel follows from the role.
A guardian acts online for a linked dependant. Employers and card producers touch no card's state.
"""
_REGION: Final = """\
Each cell has the states from which an action is possible through a channel; after *over* those that a card must also be over
for.
"""
_ACTIVATION: Final = """\
Who is activated through which channel:
"""


def matrix(regions: Iterable[Region]) -> str:
    """The whole page as Markdown: one table of transitions, one of roles, and two for each region."""
    return "\n".join(_parts(regions))


def _parts(regions: Iterable[Region]) -> Iterator[str]:
    yield _HEAD
    yield _STATES
    yield _table(("action", *(f"`{status}` {AAZ502[status]}" for status in Status)), _by_state())
    yield _TRANSITIONS
    heads = ("action", "from", "to", "in the history", "if over", "in production", "two people")
    yield _table(heads, (_row(row) for row in TRANSITIONS.values()))
    yield _BOUND
    roles = [role for role in PERMITTED if PERMITTED[role]]
    columns = ("action", *(f"{role} ({_channels_of(role)})" for role in roles), "guardian (app, web)")
    yield _table(
        columns,
        (
            (_code(action), *(_yes(action in PERMITTED[role]) for role in roles), _yes(AUTHORITY.get(action, False)))
            for action in Action
        ),
    )
    for region in regions:
        yield f"## {region.code} {region.names.en} ({region.names.zh})\n"
        yield _rules(region)
        yield _REGION
        yield _table(("action", *CHANNELS), _in_region(region))
        yield _ACTIVATION
        yield _table(("category", *CHANNELS), _activation(region))


def _by_state() -> Iterator[tuple[str, ...]]:
    for action, row in TRANSITIONS.items():
        yield _code(action), *(_cell(row, status) for status in Status)


def _cell(row: Transition, status: Status) -> str:
    if status in row.sources:
        return f"**{row.target or 'stays'}**"
    refused = f"({refused_by_state(row, status)})"
    return f"{refused}; over: **{row.target or 'stays'}**" if status in row.if_over else refused


def _row(row: Transition) -> tuple[str, ...]:
    over = "" if not row.if_over else "the same" if row.if_over == row.sources else _states(row.if_over)
    people = {"never": "", "afterFraud": "after a lock for fraud", "always": "always"}[row.second_person]
    return (
        _code(row.action),
        _states(row.sources),
        row.target or "",
        f"`{row.happening}`",
        over,
        _yes(row.in_production),
        people,
    )


def _rules(region: Region) -> str:
    policy = region.policy
    told = [
        "interconnected" if region.interconnected else "not interconnected",
        f"a temporary loss lasts {policy.temporary_loss_days} days",
        f"the PIN locks after {policy.service_pin.max_tries} tries",
        f"a guardian acts for who is under {policy.guardian_age}",
        *(
            f"generation {known.number} is retired from {known.cut_off_on} on"
            for known in policy.generations
            if known.cut_off_on
        ),
    ]
    first, *others = told
    return f"{'; '.join([first.capitalize(), *others])}.\n"


def _in_region(region: Region) -> Iterator[tuple[str, ...]]:
    for action, row in TRANSITIONS.items():
        yield _code(action), *(_cell_in_region(row, channel, region) for channel in CHANNELS)


def _cell_in_region(row: Transition, channel: Channel, region: Region) -> str:
    there = {status for status in row.sources | row.if_over if channel in _open_for(row.action, status, region)}
    usual, over = _states(there & row.sources), _states(there - row.sources)
    return f"{usual}; over: {over}" if over else usual


def _open_for(action: Action, status: Status, region: Region) -> set[Channel]:
    """The channels through which an action is open to some holder or other."""
    return {channel for category in CATEGORIES for channel in channels_for(action, status, region, category)}


def _activation(region: Region) -> Iterator[tuple[str, ...]]:
    for category in CATEGORIES:
        open_for = channels_for(Action.ACTIVATE, Status.SEALED, region, category)
        yield category, *(_yes(channel in open_for) for channel in CHANNELS)


def _channels_of(role: Role) -> str:
    return "app, web" if role == "holder" else COUNTERS[role]


def _code(action: Action) -> str:
    return f"`{action}`"


def _states(states: Iterable[Status]) -> str:
    named = set(states)
    return ", ".join(status for status in Status if status in named)


def _yes(told: object) -> str:
    return "yes" if told else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
