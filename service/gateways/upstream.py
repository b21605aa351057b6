"""The city's own systems: insurance bureaux and the housing fund centre, who keep the books that we show.

True here: an adapter only carries: it asks about one person and hands back the document that came, of which nobody has
believed a word yet (service/upstream_documents.py judges it, whatever adapter brought it). Never here: a name or a mobile of
anybody; the ID number says enough.
"""

from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, get_args

from service.ids import HolderId

Question = Literal["figures", "contributions", "housingFund"]
QUESTIONS: Final[tuple[Question, ...]] = get_args(Question)


class UpstreamAway(Exception):  # noqa: N818  it says what happened
    """Nothing was learnt: no answer, or none in time, or none that can be believed. `retry_after`: whole seconds."""

    def __init__(self, retry_after: int = 2) -> None:
        super().__init__(retry_after)
        self.retry_after: Final = retry_after


# What may be wrong about a document, in words of ours.
Fault = Literal["tooLarge", "shape", "person", "future", "twice", "status"]


class UpstreamWrong(Exception):  # noqa: N818  it says what happened
    """A document that cannot be true, as the border found it. No adapter raises this."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault: Final[Fault] = fault


@dataclass(frozen=True, slots=True)
class Whose:
    """About whom is asked."""

    holder_id: HolderId
    id_number: str = field(repr=False)


class UpstreamGateway(Protocol):
    """A way to ask a city. Each answer is a JSON document as docs/look-ups.md has it, at most MOST_BYTES long."""

    def refreshes(self, holder_id: HolderId) -> bool:
        """Whether it is any use asking for somebody's newer figures. Costs nothing; asked on every look at old ones."""

    async def figures(self, whose: Whose) -> bytes:
        """Somebody's balances. Raises UpstreamAway."""

    async def contributions(self, whose: Whose) -> bytes:
        """All of somebody's contributions. Raises UpstreamAway."""

    async def housing_fund(self, whose: Whose) -> bytes:
        """Somebody's housing fund account, or that there is none. Raises UpstreamAway."""


# Forty years of five insurances take a third of it.
MOST_BYTES: Final = 1024 * 1024
