"""Dependants: whom a holder may act for, in what, and until when.

True here: a link is made only for a minor of the guardian's own household register, and whatever does not fit is one refusal,
in the same steps, that never says what; a guess is counted in its place before it is judged. A link ends by itself on the day
the dependant grows up, read off the clock, with no job that could be missed. There is one link a pair, however many ask at
once, and at most MOST_GUARDIANS a dependant. Whoever acts for somebody is written down before anything is shown or done.
Never here: what becomes of a card.
"""

from asyncio import gather
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

from service.clock import CHINA
from service.errors import Refusal
from service.holders import Access, AccessLogStore, Holder, HolderStore
from service.ids import DependantId, HolderId, derived_id, is_id, new_id
from service.limits import HOUSEHOLD_DETAILS, Limits
from service.locale import DEFAULT_LOCALE, Locale
from service.numbers import ResidentId, parse_resident_id
from service.regions import Regions
from service.transitions import GUARDIANS_MAY, Action, Offer

# What the dependant is to the guardian: an own, adopted or step child, or another minor whose guardian one is by law, such as
# a grandchild or a younger sibling (Civil Code, art. 27). Both give the same authority.
Relationship = Literal["child", "ward"]

# Two parents, and two more who bring a child up in the same household. A child with more guardians than that is a mistake or
# something worse, and a counter can look into it.
MOST_GUARDIANS: Final = 4
# Who acts for others is of full age, in every region alike (Civil Code, art. 17 and 18).
OF_AGE: Final = 18
# A conflict means that somebody else took a seat or made this very link between our read and our write.
_ROUNDS: Final = MOST_GUARDIANS + 2


class Act(StrEnum):
    """What somebody may want to do for a dependant; those on a card are called as in the card's own table."""

    SEE_CARDS = "seeCards"
    ACTIVATE = "activate"
    REPORT_TEMPORARY_LOSS = "reportTemporaryLoss"
    REPORT_FORMAL_LOSS = "reportFormalLoss"
    CANCEL_LOSS = "cancelLoss"
    REPLACE = "replace"
    CHANGE_PIN = "changePin"
    SEE_CONTRIBUTIONS = "seeContributions"
    SEE_ECARD = "seeEcard"
    HOLD_ECARD = "applyEcard"
    SHOW_ECARD = "showEcard"
    PAY_WITH_ECARD = "payWithEcard"


# What a guardian may do online. What is not among it takes guardian and household register to a counter.
AUTHORITY: Final[Mapping[str, bool]] = {
    Act.SEE_CARDS: True,
    **{act: act.value in GUARDIANS_MAY for act in Act if act.value in {action.value for action in Action}},
    # The medical insurance of a child is paid by whoever brings it up.
    Act.SEE_CONTRIBUTIONS: True,
    Act.SEE_ECARD: True,
    Act.HOLD_ECARD: True,
    Act.SHOW_ECARD: True,
    # As the service PIN does, from the dependant's own account.
    Act.PAY_WITH_ECARD: False,
}
# A look is of interest to whom it was about; a change also to who made it.
_LOOKS: Final = frozenset({Act.SEE_CARDS, Act.SEE_CONTRIBUTIONS, Act.SEE_ECARD})
_LOOK_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Dependant:
    """A link: somebody for whom a holder may act, up to but not on the day `until`.

    `seat`: which of the dependant's MOST_GUARDIANS seats it takes, none once it was ended; `version`: how often it has been
    made; `linked_by` and `ended_by`: the marks of the requests that last did so, so that a retry finds its own work.
    """

    dependant_id: DependantId
    guardian_id: HolderId
    holder_id: HolderId
    relationship: Relationship
    until: date
    seat: int | None
    version: int
    linked_by: bytes
    ended_at: datetime | None
    ended_by: bytes | None

    def is_alive(self, now: datetime) -> bool:
        """Whether it counts at a moment: nobody ended it, and the dependant is not grown up at +08:00."""
        return self.ended_at is None and now.astimezone(CHINA).date() < self.until


@dataclass(frozen=True, slots=True)
class Household:
    """What the guardian typed about the dependant, normalised and well-formed."""

    name: str
    id_number: ResidentId
    relationship: Relationship
    household_register: str


@dataclass(frozen=True, slots=True)
class Linked:
    """A link with the dependant's name."""

    link: Dependant
    name: str


class DependantStore(Protocol):
    """Where links are kept."""

    async def dependant(self, dependant_id: DependantId) -> Dependant | None:
        """A link, alive or not."""

    async def seated(self, holder_id: HolderId) -> Sequence[Dependant]:
        """The links of a dependant that nobody has ended."""

    async def links_of(self, guardian_id: HolderId, after: DependantId | None, limit: int) -> list[Dependant]:
        """The links of a guardian that nobody has ended, in order of id, after one of them."""

    async def link(self, before: Dependant | None, link: Dependant, locale: Locale = DEFAULT_LOCALE) -> bool:
        """The one write, if there is still no such link, or still this one, and the seat is free; whether it was done.

        What both are to hear of it, and in which language, is part of it; so it is with `end`.
        """

    async def end(self, link: Dependant, at: datetime, request: bytes, locale: Locale = DEFAULT_LOCALE) -> bool:
        """End a link that is as it was read and give its seat back; whether that was done."""


def dependant_id_of(guardian_id: HolderId, holder_id: HolderId) -> DependantId:
    """The id of the one link that two people can have; whoever makes it, and however often."""
    return DependantId(derived_id("dep", guardian_id, holder_id))


def grown_up_on(birth_date: date, age: int) -> date:
    """The first day on which somebody has completed `age` years, as `ResidentId.age_on` counts them.

    Somebody born on 29 February completes a common year on 1 March.
    """
    try:
        return birth_date.replace(year=birth_date.year + age)
    except ValueError:
        return date(birth_date.year + age, 3, 1)


def offered_to_guardians(offered: Iterable[Offer]) -> tuple[Offer, ...]:
    """What the holder of a card is offered, as a guardian of theirs is: what is outside the authority says so."""
    return tuple(offer if AUTHORITY.get(offer.action) else replace(offer, reason="notForGuardians") for offer in offered)


class Dependants:
    """Linking dependants, ending links, and acting for somebody."""

    def __init__(
        self, *, store: DependantStore, holders: HolderStore, log: AccessLogStore, regions: Regions, limits: Limits
    ) -> None:
        self._store = store
        self._holders = holders
        self._log = log
        self._regions = regions
        self._limits = limits

    async def link(
        self,
        guardian_id: HolderId,
        household: Household,
        *,
        request: bytes,
        now: datetime,
        locale: Locale = DEFAULT_LOCALE,
    ) -> Linked:
        """Make somebody of the household one's dependant; a link that is alive stays as it is and is the answer.

        `request` marks the request, so that its retry after an unknown outcome finds its own work.
        Refuses with `guardian_required` (a minor), `too_many_attempts`, `household_mismatch` (whatever does not fit), and
        `dependant_not_linkable` with `reason`: `grownUp` or `tooManyGuardians`.
        """
        guardian = await self._holders.holder(guardian_id)
        if guardian is None:
            raise Refusal("token_revoked")
        today = now.astimezone(CHINA).date()
        if parse_resident_id(guardian.id_number, today=today).age_on(today) < OF_AGE:
            raise Refusal("guardian_required")
        holder = await self._match(guardian, household)
        until = grown_up_on(household.id_number.birth_date, self._regions.get(holder.region_code).policy.guardian_age)
        # A guardian's own details end here as well: OF_AGE is no less than any region's guardian age.
        if until <= today:
            raise Refusal("dependant_not_linkable", {"reason": "grownUp"})
        wanted = Dependant(
            dependant_id=dependant_id_of(guardian_id, holder.holder_id),
            guardian_id=guardian_id,
            holder_id=holder.holder_id,
            relationship=household.relationship,
            until=until,
            seat=0,
            version=1,
            linked_by=request,
            ended_at=None,
            ended_by=None,
        )
        return Linked(await self._make(wanted, now, locale), holder.name)

    async def mine(
        self, guardian_id: HolderId, after: str | None, limit: int, now: datetime
    ) -> tuple[list[Linked], str | None]:
        """A page of those whom a holder may act for, and the place where the next begins, or None at the end.

        A page may hold fewer than `limit`, because a link that ran out is still found and left out.
        """
        links = await self._store.links_of(guardian_id, DependantId(after) if after else None, limit + 1)
        page = links[:limit]
        alive = [link for link in page if link.is_alive(now)]
        people = await gather(*(self._holders.holder(link.holder_id) for link in alive))
        named = [Linked(link, person.name) for link, person in zip(alive, people, strict=True) if person is not None]
        return named, page[-1].dependant_id if len(links) > limit else None

    async def end(
        self,
        guardian_id: HolderId,
        dependant_id: str,
        *,
        request: bytes,
        now: datetime,
        locale: Locale = DEFAULT_LOCALE,
    ) -> None:
        """End a link of one's own; one that has ended stays ended. Refuses with `not_found`, also for somebody else's."""
        for _ in range(_ROUNDS):
            link = await self._own(guardian_id, dependant_id)
            if link.ended_by == request or not link.is_alive(now):
                return
            await self._tell_both(link, "endGuardianship", now)
            if await self._store.end(link, now, request, locale):
                return
        raise Refusal("unavailable", retry_after=1)

    async def acting_for(self, guardian_id: HolderId, dependant_id: str, act: Act, now: datetime) -> HolderId:
        """Whose card it is that a guardian wants to do something with, written down before it is done.

        Refuses with `not_found` when there is no such link of theirs that is alive, and with `forbidden` and reason
        `notForGuardians` for what a guardian may not do.
        """
        link = await self._own(guardian_id, dependant_id)
        if not link.is_alive(now):
            raise Refusal("not_found")
        if not AUTHORITY[act]:
            raise Refusal("forbidden", {"reason": "notForGuardians"})
        if act in _LOOKS:
            # Once a minute says as much as every time that a screen is drawn anew.
            look = derived_id("acc", link.dependant_id, act, str(int(now.timestamp()) // _LOOK_SECONDS))
            await self._log.record(link.holder_id, Access(look, now, act, "guardian", "app", link.dependant_id))
        else:
            await gather(
                self._log.record(link.holder_id, Access(new_id("acc"), now, act, "guardian", "app", link.dependant_id)),
                self._log.record(guardian_id, Access(new_id("acc"), now, act, "self", "app", link.dependant_id)),
            )
        return link.holder_id

    async def _own(self, guardian_id: HolderId, dependant_id: str) -> Dependant:
        link = await self._store.dependant(DependantId(dependant_id)) if is_id("dep", dependant_id) else None
        if link is None or link.guardian_id != guardian_id:
            raise Refusal("not_found")
        return link

    async def _match(self, guardian: Holder, household: Household) -> Holder:
        """The person that the details are right for. One look-up and one refusal, whatever does not fit."""
        register = household.household_register
        guess = f"{household.name}\0{household.id_number.number}\0{register}"
        place = await self._limits.reserve(HOUSEHOLD_DETAILS, guardian.holder_id, guess)
        found = await self._holders.in_household(household.id_number.number, register)
        right = (
            found is not None
            and found.name == household.name
            and guardian.household_register == register
            and found.region_code in self._regions.by_code
        )
        if found is None or not right:
            await self._limits.miss(place)
            raise Refusal("household_mismatch")
        await self._limits.free(place)
        return found

    async def _make(self, wanted: Dependant, now: datetime, locale: Locale) -> Dependant:
        """The link as it is now: made here, or there already."""
        for _ in range(_ROUNDS):
            before = await self._store.dependant(wanted.dependant_id)
            if before is not None and (before.linked_by == wanted.linked_by or before.is_alive(now)):
                return before
            link = replace(wanted, seat=await self._free_seat(wanted, now))
            if before is not None:
                link = replace(link, version=before.version + 1, ended_by=before.ended_by)
            await self._tell_both(link, "linkGuardian", now)
            if await self._store.link(before, link, locale):
                return link
        raise Refusal("unavailable", retry_after=1)

    async def _free_seat(self, wanted: Dependant, now: datetime) -> int:
        """The first seat that nobody has. A link that ran out under an older policy gives its seat up only here."""
        taken: set[int | None] = set()
        for link in await self._store.seated(wanted.holder_id):
            if link.is_alive(now):
                taken.add(link.seat)
            elif link.dependant_id != wanted.dependant_id:
                await self._store.end(link, now, wanted.linked_by)
        free = [seat for seat in range(MOST_GUARDIANS) if seat not in taken]
        if not free:
            raise Refusal("dependant_not_linkable", {"reason": "tooManyGuardians"})
        return free[0]

    async def _tell_both(self, link: Dependant, action: str, now: datetime) -> None:
        """One entry in each log for each time that a link is made or ended, however many requests wanted that at once."""
        await gather(
            *(
                self._log.record(
                    whose,
                    Access(
                        derived_id("acc", link.dependant_id, str(link.version), action, by),
                        now,
                        action,
                        by,
                        "app",
                        link.dependant_id,
                    ),
                )
                for whose, by in ((link.holder_id, "guardian"), (link.guardian_id, "self"))
            )
        )
