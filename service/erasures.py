"""Erasure: a holder has everything forgotten that no law has us keep.

True here: what decides is one document, written before anything goes; whatever follows is read off it, may be done again, and
is done by the relay wherever a process died. It goes in two sweeps: a request that was under way at the first has ended by
the second. What is in the way is looked for again before each step, and an erasure that it stands before is withdrawn; who
came back between the sweeps is left alone. The last act is the ledger's, whose chain stays whole. Afterwards who comes with
that ID number is nobody. Never here: erasing while there is a card in use, an application, an insurance, or a decision still
to be made; and a list of what is erased, which is beside the stores (service/mongo/holdings.py).

Sources: Personal Information Protection Law, art. 47 (erased on request; where the law has something kept, it is kept and
not used otherwise) and art. 50 (reasons are given for a refusal); Social Insurance Law, art. 74 (records of what somebody
paid and is entitled to are kept in full).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, Protocol

from service.announcements import Announcement, Topic
from service.applications import ApplicationStore
from service.cards import MOST_CARDS, CardStore, Status
from service.clock import Clock
from service.errands import Errand
from service.errors import Refusal
from service.holders import Access, AccessLogStore, HolderStore
from service.ids import ErasureId, HolderId, derived_id
from service.insurance import RelationStore
from service.locale import Locale
from service.notifications import Notifications

# What stands in the way: first what the holder can do something about.
Obstacle = Literal["cardInUse", "applicationRunning", "insuranceRunning", "approvalPending"]
# asked: decided, and nothing done. told: the holder is being told, and what was left to be done for them is done. swept: gone,
# but for what a request under way may still write. done: nothing is left to be done.
Step = Literal["asked", "told", "swept", "done"]

# Longer than a request lives, its retries under a claimed key included.
BETWEEN_SWEEPS: Final = timedelta(seconds=60)
# Messages to the holder are still on their way, or a change of a card is still to be carried.
_LOOK_AGAIN: Final = timedelta(seconds=5)
_MOST_APPLICATIONS: Final = 100


@dataclass(frozen=True, slots=True)
class Erasure:
    """One person's erasure; `due_at`: when its next step may be taken; `number`: which it is of theirs, for who came back.

    `request` marks the request that asked, so that its retry finds its own work.
    """

    erasure_id: ErasureId
    holder_id: HolderId
    number: int
    step: Step
    asked_at: datetime
    due_at: datetime
    locale: Locale
    request: bytes


class ErasureStore(Protocol):
    """Where it is kept who was erased, and everything is that goes."""

    async def erasure(self, erasure_id: ErasureId) -> Erasure | None:
        """One by id."""

    async def change(self, before: Erasure | None, after: Erasure) -> bool:
        """The one write, if there is still none, or this one at this step; whether it was done."""

    async def withdraw(self, erasure: Erasure) -> bool:
        """Forget one that is asked or told, and no earlier one that was done; False when it is at neither step."""

    async def due(self, now: datetime, limit: int) -> list[Erasure]:
        """Some that are not done and whose next step may be taken."""

    async def end_sessions(self, holder_id: HolderId, at: datetime) -> None:
        """End every session of a person."""

    async def end_links(self, erasure: Erasure, at: datetime) -> None:
        """End every link through which the person acts for somebody, so that both hear of it."""

    async def approval_pending(self, holder_id: HolderId, now: datetime) -> bool:
        """Whether a second person is still to decide about one of their cards, or a decision to be carried out."""

    async def at_rest(self, holder_id: HolderId) -> bool:
        """Whether nothing of theirs waits to be carried, and no message to them is under way."""

    async def sweep(self, erasure: Erasure) -> bool:
        """Erase everything but the log, which is the ledger's; False when the erasure is at this step no longer.

        Doing it again erases what came since.
        """


class Forgetting(Protocol):
    """The ledger, as erasure needs it."""

    async def forget(self, holder_id: HolderId, *, by: str, channel: str) -> None:
        """Have everything erased that the logs say of a person, so that the chain stays whole."""


class Erasures:
    """Asking for one's erasure, and carrying it out."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: ErasureStore,
        holders: HolderStore,
        cards: CardStore,
        applications: ApplicationStore,
        relations: RelationStore,
        log: AccessLogStore,
        ledger: Forgetting,
        notifications: Notifications,
        clock: Clock,
    ) -> None:
        self._store = store
        self._holders = holders
        self._cards = cards
        self._applications = applications
        self._relations = relations
        self._log = log
        self._ledger = ledger
        self._notifications = notifications
        self._clock = clock

    async def ask(self, holder_id: HolderId, *, request: bytes, locale: Locale, now: datetime) -> Erasure:
        """Decide that somebody is erased, and end their sessions; the rest follows by itself within minutes.

        Refuses with `erasure_not_allowed` and `reason`, an Obstacle; with `unavailable` who came back while an earlier one of
        theirs is not done; a session level 2 and fresh is the route's to ask.
        """
        if await self._holders.holder(holder_id) is None:
            raise Refusal("token_revoked")
        erasure_id = ErasureId(derived_id("ers", holder_id))
        before = await self._store.erasure(erasure_id)
        if before is not None and before.step == "swept":
            # That one leaves alone whoever came back.
            raise Refusal("unavailable", retry_after=round(BETWEEN_SWEEPS.total_seconds()))
        if before is not None and before.step != "done":
            return before
        await self._refuse_what_may_not_go(holder_id, now)
        number = before.number + 1 if before else 1
        entry = derived_id("acc", erasure_id, str(number))
        await self._log.record(holder_id, Access(entry, now, "askErasure", "self", "app", None))
        erasure = Erasure(erasure_id, holder_id, number, "asked", now, now, locale, request)
        if not await self._store.change(before, erasure):
            # Another request of theirs decided at the same instant.
            decided = await self._store.erasure(erasure_id)
            if decided is None:
                raise Refusal("unavailable", retry_after=1)
            return decided
        try:
            # What began meanwhile did not see the decision.
            await self._refuse_what_may_not_go(holder_id, now)
        except Refusal:
            if await self._store.withdraw(erasure) or not await self._goes_on(erasure):
                raise
        await self._store.end_sessions(holder_id, now)
        return erasure

    async def _goes_on(self, erasure: Erasure) -> bool:
        """Whether nobody withdrew it: then the relay found nothing in the way, and it has gone too far to be refused."""
        found = await self._store.erasure(erasure.erasure_id)
        return found is not None and (found.number, found.asked_at) == (erasure.number, erasure.asked_at)

    async def undone(self, limit: int) -> Sequence[Errand]:
        """Steps that may be taken now; taking one again changes nothing."""
        due = await self._store.due(self._clock.now(), limit)
        return [Errand(f"{one.erasure_id}:{one.number}:{one.step}", partial(self._take_step, one)) for one in due]

    async def _take_step(self, erasure: Erasure) -> None:
        now = self._clock.now()
        if erasure.step == "swept":
            await self._finish(erasure, now)
        elif await self._obstacle(erasure.holder_id, now) is not None:
            # Whoever decided may have been gone before they looked again; and a person may sign in anew until the first sweep.
            await self._store.withdraw(erasure)
        elif erasure.step == "asked":
            await self._tell(erasure, now)
            await self._store.change(erasure, replace(erasure, step="told"))
        elif await self._swept(erasure, now):
            await self._store.change(erasure, replace(erasure, step="swept", due_at=now + BETWEEN_SWEEPS))

    async def _finish(self, erasure: Erasure, now: datetime) -> None:
        # The first sweep took the person themselves: one who is there came back since, and so did all that is theirs.
        came_back = await self._holders.holder(erasure.holder_id) is not None
        if came_back or await self._swept(erasure, now):
            await self._ledger.forget(erasure.holder_id, by="self", channel="app")
            await self._store.change(erasure, replace(erasure, step="done"))

    async def _swept(self, erasure: Erasure, now: datetime) -> bool:
        """Sweep, unless something is still to be told; False also when another process was quicker, or a sandbox put back."""
        if not await self._store.at_rest(erasure.holder_id):
            await self._store.change(erasure, replace(erasure, due_at=now + _LOOK_AGAIN))
            return False
        return await self._store.sweep(erasure)

    async def _tell(self, erasure: Erasure, now: datetime) -> None:
        await self._store.end_sessions(erasure.holder_id, erasure.asked_at)
        await self._store.end_links(erasure, now)
        holder = await self._holders.holder(erasure.holder_id)
        if holder is not None:
            # One that was withdrawn leaves its number to the next, of which they are to hear as well.
            happening = f"{erasure.erasure_id}:{erasure.number}:{erasure.asked_at.isoformat()}"
            await self._notifications.tell(holder, Announcement(happening, Topic.ERASURE_ASKED, erasure.locale))

    async def _refuse_what_may_not_go(self, holder_id: HolderId, now: datetime) -> None:
        """Refuses with `erasure_not_allowed` while anything is in the way."""
        obstacle = await self._obstacle(holder_id, now)
        if obstacle is not None:
            raise Refusal("erasure_not_allowed", {"reason": obstacle})

    async def _obstacle(self, holder_id: HolderId, now: datetime) -> Obstacle | None:
        cards = await self._cards.cards_of(holder_id, None, MOST_CARDS)
        if any(card.status(now) is not Status.CANCELLED for card in cards):
            return "cardInUse"
        applications = await self._applications.of_holder(holder_id, None, _MOST_APPLICATIONS)
        if any(application.running for application in applications):
            return "applicationRunning"
        if any(relation.runs for relation in await self._relations.of_holder(holder_id)):
            return "insuranceRunning"
        return "approvalPending" if await self._store.approval_pending(holder_id, now) else None
