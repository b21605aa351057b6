"""Counters: activating a card where a person stands, or on the phone.

True here: whatever the counter, the order is the same. On the phone the caller is known by the code that was read back;
everywhere the card's number and its holder's ID number must match, which is counted before it is judged; it is written down;
the table judges who may, then the materials are looked through, and the card goes the one way of every activation. For a
minor a guardian of the same household stands there, and it is recorded who. Never here: which of two numbers did not match.
"""

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from service.activations import Activated, Activations, Function
from service.cards import Card, Status
from service.changes import Order
from service.clock import CHINA, Clock
from service.dependants import OF_AGE
from service.desks import Desk, PersonalFile
from service.errors import Kind, Refusal, invalid
from service.holders import Holder, HolderStore
from service.hotline import Hotline
from service.ids import HolderId
from service.limits import STAFF_CARD_DETAILS, Limits
from service.locale import Locale
from service.materials import category_shown
from service.numbers import ResidentId
from service.operators import Operator
from service.regions import Material, Region, Regions
from service.transitions import Action, Circumstances, Objection, judge, may_not_activate, refused

# On the phone nothing is laid on a table: two numbers are said, and the mobile is proved by the code.
_SAID: Final[frozenset[Material]] = frozenset({"idNumber", "cardNumber", "registeredMobile"})


@dataclass(frozen=True, slots=True)
class GuardianThere:
    """Who stands at the counter for a minor, and the number of the household register that they brought."""

    id_number: ResidentId
    household_register: str


@dataclass(frozen=True, slots=True)
class Given:
    """The numbers that an operator was given, normalised and well-formed."""

    card_number: str
    id_number: ResidentId
    guardian: GuardianThere | None

    def guess(self) -> str:
        """All of it in one text: the same numbers again are no further guess."""
        there = (self.guardian.id_number.number, self.guardian.household_register) if self.guardian else ()
        return "\0".join((self.id_number.number, self.card_number, *there))


@dataclass(frozen=True, slots=True)
class Wanted:
    """An activation at a counter. `materials`: what the operator has seen; `ticket` and `code`: of the call."""

    given: Given
    functions: frozenset[Function]
    materials: Collection[Material]
    ticket: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class Matched:
    """The card that the numbers are those of, and who is there for it. `minor`: under the guardian age of its region."""

    card: Card
    region: Region
    minor: bool
    guardian: HolderId | None


class Counters:
    """What is done at every counter alike."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        desk: Desk,
        holders: HolderStore,
        activations: Activations,
        hotline: Hotline,
        regions: Regions,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._holders = holders
        self._activations = activations
        self._hotline = hotline
        self._regions = regions
        self._limits = limits
        self._clock = clock

    async def activate(self, operator: Operator, wanted: Wanted, request: bytes, locale: Locale) -> Activated:
        """Activate a card's social function, the account on it, or both.

        Refuses like `match`, `Hotline.require` (on the phone) and `Activations.perform`; with `invalid_request` for materials,
        ticket or code that are missing; with `transition_not_allowed` for the account alone on a card that is not in use.
        """
        async with AsyncExitStack() as stack:
            if operator.actor().channel == "hotline":
                ticket, code = needed("ticket", wanted.ticket), needed("code", wanted.code)
                number = wanted.given.id_number.number
                await stack.enter_async_context(self._hotline.read_back(operator, ticket, number, code, request))
            elif wanted.code is not None:
                raise invalid("code", "not_needed")
            matched = await self.match(
                operator, wanted.given, action="activate", reason=None, ticket=wanted.ticket, request=request
            )
            order = Order(operator.actor(), request, locale, guardian=matched.guardian)
            return await self._activate(matched, wanted, order)

    async def match(  # noqa: PLR0913  who, with which numbers, for what, why, in which call and request
        self, operator: Operator, given: Given, *, action: str, reason: str | None, ticket: str | None, request: bytes
    ) -> Matched:
        """The card that these numbers are those of, after writing down what the operator is about to do.

        Refuses with `too_many_attempts`, `card_details_mismatch`, `household_mismatch` (a guardian who is of another
        household, or not of age), or `invalid_request` for a guardian where nobody needs one.
        """
        place = await self._limits.reserve(STAFF_CARD_DETAILS, operator.operator_id, given.guess())
        file = await self._desk.file_of(given.id_number.number)
        try:
            matched = await self._right(file, given)
        except Refusal as refusal:
            if refusal.kind is Kind.INVALID:
                await self._limits.miss(place)
            raise
        await self._limits.free(place)
        if given.guardian is not None and not matched.minor:
            raise invalid("guardian", "not_needed")
        written = {file.holder_id: reason} | ({matched.guardian: "guardian"} if matched.guardian else {})
        for holder_id, why in written.items():
            await self._desk.write_down(holder_id, operator, action=action, reason=why, ticket=ticket, request=request)
        return matched

    async def _right(self, file: PersonalFile, given: Given) -> Matched:
        card = next((card for card in file.cards if card.number == given.card_number), None)
        if file.holder is None or card is None:
            raise Refusal("card_details_mismatch")
        region, today = self._regions.get(card.region_code), self._clock.now().astimezone(CHINA).date()
        minor = given.id_number.age_on(today) < region.policy.guardian_age
        if not minor or given.guardian is None:
            return Matched(card, region, minor, None)
        return Matched(card, region, minor, await self._guardian(file.holder, given.guardian))

    async def _guardian(self, minor: Holder, there: GuardianThere) -> HolderId:
        """Who stands there for a minor: somebody of age in the same household register."""
        found = await self._holders.in_household(there.id_number.number, there.household_register)
        today = self._clock.now().astimezone(CHINA).date()
        same_household = minor.household_register == there.household_register
        if found is None or not same_household or there.id_number.age_on(today) < OF_AGE:
            raise Refusal("household_mismatch")
        return found.holder_id

    async def _activate(self, matched: Matched, wanted: Wanted, order: Order) -> Activated:
        now, card, region, minor = self._clock.now(), matched.card, matched.region, matched.minor
        about = Circumstances("minor" if minor else "adult", minor, matched.guardian is not None, served=True)
        order = replace(order, about=about)
        self._permit(may_not_activate(card, order.actor, region, about, now), matched, order, now)
        if "bank" in wanted.functions:
            self._permit_bank(matched, order, wanted.functions, now)
        seen = {*wanted.materials, *(_SAID if order.actor.channel == "hotline" else ())}
        category = category_shown(region, order.actor.channel or "bureau", seen, minor=minor, card_lost=False)
        return await self._activations.perform(
            card, wanted.given.id_number, order, category=category, functions=wanted.functions
        )

    def _permit_bank(self, matched: Matched, order: Order, functions: Collection[Function], now: datetime) -> None:
        """Whether the account may be activated by who asks; when nothing else is asked for, also whether it can be."""
        objection = judge(Action.ACTIVATE_BANK, matched.card, order.actor, matched.region, now)
        alone = "social" not in functions and matched.card.status(now) is not Status.ACTIVE
        if objection is not None and (alone or objection.code == "channel_not_allowed"):
            self._permit(objection, matched, order, now)

    def _permit(self, objection: Objection | None, matched: Matched, order: Order, now: datetime) -> None:
        if objection is not None:
            raise refused(objection, matched.card, order.actor, matched.region, now, about=order.about)


def needed(field: str, value: str | None) -> str:
    """What must be given. Refuses with `invalid_request`."""
    if value is None:
        raise invalid(field, "missing")
    return value
