"""How a person can be reached besides the mobile: a confirmed email address, what they declined, and their language.

True here: an address is one that its holder has confirmed; who never said anything has none, declines nothing, and has no
language of their own. Never here: how that came about (service/contacts.py).
"""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Protocol

from service.announcements import OptionalKind
from service.ids import HolderId
from service.locale import Locale


@dataclass(frozen=True, slots=True)
class Reach:
    """Ways to a person. `sms_declined`, `email_declined`: kinds of which nothing optional is sent there."""

    email: str | None
    sms_declined: frozenset[OptionalKind]
    email_declined: frozenset[OptionalKind]
    locale: Locale | None


UNTOLD: Final = Reach(None, frozenset(), frozenset(), None)


class ReachStore(Protocol):
    """Where it is kept how people can be reached."""

    def reach(self, holder_id: HolderId) -> Awaitable[Reach]:
        """How somebody can be reached; UNTOLD for who never said anything."""
