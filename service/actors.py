"""Actors: who does something, in what capacity and through which channel.

True here: the channel of an operator follows from the role and is never something that a request says. Never here: whether
they may; that is the table beside the card's transitions, narrowed by the region's policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from service.regions import Channel

StaffRole = Literal["bankTeller", "hospitalClerk", "bureauClerk", "bureauSupervisor", "hotlineAgent", "employer", "production"]
Role = Literal["holder"] | StaffRole
STAFF_ROLES: Final[tuple[StaffRole, ...]] = get_args(StaffRole)

# An employer and a card producer stand behind no counter: they touch no card's status.
COUNTERS: Final[Mapping[StaffRole, Channel]] = {
    "bankTeller": "bank",
    "hospitalClerk": "hospital",
    "bureauClerk": "bureau",
    "bureauSupervisor": "bureau",
    "hotlineAgent": "hotline",
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a holder, or an operator of an institution.

    `actor_id`: `hld_…` or `op_…`; `region_codes`: the regions of the operator's institution, none for a holder; `bank_code`:
    the bank that a teller stands for.
    """

    actor_id: str
    role: Role
    channel: Channel | None
    region_codes: frozenset[str]
    institution_id: str | None
    bank_code: str | None


def holder_actor(holder_id: str, channel: Channel) -> Actor:
    """A resident in the app or on the web."""
    return Actor(holder_id, "holder", channel, frozenset(), None, None)
