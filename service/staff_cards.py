"""Cards at a counter: what has to be so before an operator may change one.

True here: whatever the channel, the order is the same. The card is found; who asks, where, and the card's state are judged by
the table; the person is known by what they laid on the counter, or by the code they read back on the phone; it is written
down; and only then something is done. A retry of a request that has done its work is let through to be told so. Never here: a
second list of who may do what, or a change of a card.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from service.actors import STAFF_ROLES, Actor, StaffRole
from service.cards import Card, Cards, CardStore, Status
from service.changes import Order
from service.clock import CHINA, Clock
from service.counters import needed
from service.desks import Desk
from service.errors import Refusal, invalid
from service.holders import Holder, HolderStore
from service.hotline import Hotline
from service.locale import Locale
from service.materials import category_shown
from service.numbers import parse_resident_id
from service.operators import Operator
from service.policies import Material
from service.regions import Region, Regions
from service.transitions import PERMITTED, Action, Circumstances, refusal

_LOSS_REPORTS: Final = frozenset({Action.REPORT_TEMPORARY_LOSS, Action.REPORT_FORMAL_LOSS})
_LOST: Final = frozenset({Status.TEMPORARILY_LOST, Status.FORMALLY_LOST})


def who_may(*actions: Action) -> tuple[StaffRole, ...]:
    """The operators who may do any of these somewhere: the outer bound, as the table has it."""
    return tuple(role for role in STAFF_ROLES if PERMITTED[role].intersection(actions))


@dataclass(frozen=True, slots=True)
class Shown:
    """What the person at the counter, or on the phone, is known by.

    `materials`: what an operator has seen; `ticket`, `code`: the call, and the code that was read back from the registered
    mobile. `in_person` is false for what a bureau does of its own accord, and where the PIN says who it is.
    """

    materials: Collection[Material] = ()
    ticket: str | None = None
    code: str | None = None
    in_person: bool = True


NOBODY_THERE: Final = Shown(in_person=False)


@dataclass(frozen=True, slots=True)
class Task:
    """Something to be done with a card. `reason`: why, for its holder's log; `request`: the mark, empty without a key."""

    action: Action
    shown: Shown
    reason: str | None
    request: bytes
    locale: Locale


@dataclass(frozen=True, slots=True)
class Admitted:
    """A card with which an operator may do something now, and the order to do it by; `done`: this very request did it."""

    card: Card
    region: Region
    order: Order
    about: Circumstances
    done: bool


class StaffCards:
    """What every counter asks before it changes a card."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        cards: Cards,
        store: CardStore,
        holders: HolderStore,
        desk: Desk,
        hotline: Hotline,
        regions: Regions,
        clock: Clock,
    ) -> None:
        self._cards = cards
        self._store = store
        self._holders = holders
        self._desk = desk
        self._hotline = hotline
        self._regions = regions
        self._clock = clock

    @asynccontextmanager
    async def admit(self, operator: Operator, card_id: str, task: Task) -> AsyncIterator[Admitted]:
        """Around what is done: the card, when this operator may do this with it now, after writing down that they do.

        When what is done is refused, the code of a call is free again. Refuses with `not_found`, `channel_not_allowed`,
        `transition_not_allowed`, `pin_locked`; with `invalid_request` for materials, ticket or code that are missing; and like
        `Hotline.require`.
        """
        card = await self._cards.one(card_id)
        holder = await self._holders.holder(card.holder_id)
        if holder is None:
            raise Refusal("not_found")
        region, actor = self._regions.get(card.region_code), operator.actor()
        about = self._about(holder, region, actor, task.shown)
        done = bool(task.request) and await self._store.did(card, task.request)
        admitted = Admitted(card, region, Order(actor, task.request, task.locale, about=about), about, done)
        if done:
            yield admitted
            return
        if no := refusal(task.action, card, actor, region, self._clock.now(), about=about):
            raise no
        async with AsyncExitStack() as stack:
            if task.shown.in_person and actor.channel == "hotline":
                ticket, code = needed("ticket", task.shown.ticket), needed("code", task.shown.code)
                said = self._hotline.read_back(operator, ticket, holder.id_number, code, task.request)
                await stack.enter_async_context(said)
            elif task.shown.in_person:
                self._look_through(admitted, task)
            await self._desk.write_down(
                card.holder_id,
                operator,
                action=task.action,
                reason=task.reason,
                ticket=task.shown.ticket,
                request=task.request,
            )
            yield admitted

    def _look_through(self, admitted: Admitted, task: Task) -> None:
        """Whether what was laid on the counter is enough."""
        shown = task.shown
        if shown.code is not None:
            raise invalid("code", "unknown_field")
        lost = task.action in _LOSS_REPORTS or admitted.card.status(self._clock.now()) in _LOST
        # Who stands behind no counter has been refused by the table.
        channel = admitted.order.actor.channel or "bureau"
        category_shown(admitted.region, channel, shown.materials, minor=admitted.about.minor, card_lost=lost)

    def _about(self, holder: Holder, region: Region, actor: Actor, shown: Shown) -> Circumstances:
        """What is known of the holder. Whoever shows a minor's materials is a guardian."""
        today = self._clock.now().astimezone(CHINA).date()
        minor = parse_resident_id(holder.id_number, today=today).age_on(today) < region.policy.guardian_age
        served = any(self._regions.get(code).serves_cards_of(region) for code in actor.region_codes)
        return Circumstances("minor" if minor else "adult", minor, guardian=minor and shown.in_person, served=served)
