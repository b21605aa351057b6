"""The housing fund: what somebody has put by for a home, and in which state their account is.

True here: the account has states of its own, which are no card's and no insurance's; who has none is told so in an answer of
the same shape. The account's number leaves masked. Never here: arithmetic on money; the housing fund centre keeps the books.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from service.contributions import Month
from service.ids import HolderId
from service.last_known import LastKnown, Shown


class HousingFundStatus(StrEnum):
    """The states of a person's account, as the industry standard for housing fund data (JGJ/T 320) tells them apart."""

    NORMAL = "normal"
    # Nobody pays in, since an employment ended; the money stays and earns interest.
    SEALED = "sealed"
    FROZEN = "frozen"
    # Ended: joined with another account of the same person, moved to another city's centre, or paid out.
    MERGED = "merged"
    TRANSFERRED = "transferred"
    CLOSED = "closed"
    OTHER = "other"


# As that standard codes them; housing fund centres exchange these.
HOUSING_FUND_CODES: Final[Mapping[str, HousingFundStatus]] = {
    "01": HousingFundStatus.NORMAL,
    "02": HousingFundStatus.SEALED,
    "03": HousingFundStatus.MERGED,
    "04": HousingFundStatus.TRANSFERRED,
    "05": HousingFundStatus.CLOSED,
    "06": HousingFundStatus.FROZEN,
    "99": HousingFundStatus.OTHER,
}


@dataclass(frozen=True, slots=True)
class HousingFundAccount:
    """An account. Amounts in fen; `monthly_deposit_fen`: what is paid in each month, both parts together.

    `paid_through`: the last month that was paid in; `opened_on`: where the centre says.
    """

    number: str = field(repr=False)
    status: HousingFundStatus
    balance_fen: int
    monthly_deposit_fen: int
    paid_through: Month | None
    opened_on: date | None


@dataclass(frozen=True, slots=True)
class HousingFund:
    """What a centre said of a person: their account, or that they have none."""

    source: str
    as_of: datetime
    account: HousingFundAccount | None


class HousingFunds:
    """Looking at one's housing fund."""

    def __init__(self, records: LastKnown[HousingFund]) -> None:
        self._records = records

    async def of_holder(self, holder_id: HolderId) -> Shown[HousingFund]:
        """A person's housing fund, as the centre has it now, or marked as last known.

        Refuses with `unavailable` when the centre does not answer and nothing is known from before.
        """
        return await self._records.of(holder_id)
