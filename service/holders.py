"""Holders: the people.

True here: a holder's name, ID number and mobile leave this module masked unless the holder asks to see them; the region
of insurance is the holder's own fact, never read off a number. Never here: a look-up by a plain number.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from service.errors import Refusal
from service.ids import HolderId, OperatorId, new_id
from service.sessions import Session, require_assurance

RevealField = Literal["name", "idNumber", "mobile"]


@dataclass(frozen=True, slots=True)
class Holder:
    """A person. `region_code` is the region of insurance; `query_password` is an argon2id hash.

    `household_register`: the number of their household register, where it is known; `mobile` is empty where it is not.
    """

    holder_id: HolderId
    name: str
    id_number: str
    mobile: str
    region_code: str
    query_password: str | None
    household_register: str | None


@dataclass(frozen=True, slots=True)
class Access:
    """One look at, or change of, a person's data.

    At a counter `by` is the role; `operator_id` says who it was, and is not shown; `ticket` names the call or the queue number.
    """

    access_id: str
    at: datetime
    action: str
    by: str
    channel: str
    reason: str | None
    operator_id: OperatorId | None = None
    ticket: str | None = None


class HolderStore(Protocol):
    """Where people are kept."""

    def holder(self, holder_id: HolderId) -> Awaitable[Holder | None]:
        """A person by id."""

    async def holder_by_number(self, id_number: str) -> Holder | None:
        """A person by ID number, through the blind index."""

    async def in_household(self, id_number: str, household_register: str) -> Holder | None:
        """The person with this ID number, if they are in this household register; both through their blind indexes."""


class AccessLogStore(Protocol):
    """Where looks at personal data are written down."""

    async def record(self, holder_id: HolderId, access: Access) -> None:
        """Write one entry; returns when it is safe. An entry with an id that is there already is that entry."""

    async def entries(self, holder_id: HolderId, after: tuple[datetime, str] | None, limit: int) -> list[Access]:
        """Entries about a person, newest first, beginning after one of them, named by its moment and id."""


class Holders:
    """A person and their own data."""

    def __init__(self, store: HolderStore, log: AccessLogStore) -> None:
        self._store = store
        self._log = log

    async def me(self, holder_id: HolderId) -> Holder:
        """The person of a session. Refuses with `token_revoked` when they are no longer here."""
        holder = await self._store.holder(holder_id)
        if holder is None:
            raise Refusal("token_revoked")
        return holder

    async def reveal(self, session: Session, fields: Sequence[RevealField], now: datetime) -> dict[RevealField, str]:
        """Fields in plain, written down before they are shown. Refuses with `assurance_too_low`: level 2, and fresh."""
        require_assurance(session, 2, now, fresh=True)
        holder = await self.me(session.holder_id)
        wanted = sorted(set(fields))
        await self._log.record(holder.holder_id, Access(new_id("acc"), now, "reveal", "self", "app", ",".join(wanted)))
        values: dict[RevealField, str] = {
            "name": holder.name,
            "idNumber": holder.id_number,
            "mobile": holder.mobile,
        }
        return {field: values[field] for field in wanted}

    async def access_log(
        self, holder_id: HolderId, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Access], tuple[datetime, str] | None]:
        """A page of who looked at my data, newest first, and where the next begins."""
        entries = await self._log.entries(holder_id, after, limit + 1)
        page = entries[:limit]
        return page, (page[-1].at, page[-1].access_id) if len(entries) > limit else None
