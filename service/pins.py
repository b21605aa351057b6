"""The service PIN: six digits that open a card at pharmacies and hospitals.

True here: the first PIN follows from the region's policy and the ID number and is never stored; one that the holder chose is
kept as argon2id; every guess is counted on the card before it is judged, in one conditional write, so that a burst of guesses
is no more guesses than one after another; too many wrong ones lock the PIN, never the card. Never here: a PIN in an answer, a
log or an exception, or a PIN of the first kind that opens anything.
"""

import hmac
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Final

from service.cards import Card, CardStore, Pin, PinState
from service.changes import ROUNDS, Changes, Order, happened
from service.clock import CHINA, Clock
from service.errors import FieldError, Refusal
from service.holders import HolderStore
from service.numbers import ResidentId, parse_resident_id
from service.passwords import Passwords
from service.regions import Region, Regions
from service.transitions import TRANSITIONS, Action, Objection, refusal, refused

LENGTH: Final = 6
PATTERN: Final = rf"^[0-9]{{{LENGTH}}}$"
# The ways to write a birthday in six digits that are no part of the ID number; those that are, are found there.
_BIRTHDAYS: Final = ("%d%m%y", "%m%d%y", "%m%Y", "%y%d%m")


def initial_pin(region: Region, id_number: ResidentId) -> str:
    """The service PIN of a new card, as its region sets it."""
    match region.policy.service_pin.initial_value:
        case "idNumberLastSix":
            return id_number.number.removesuffix("X")[-LENGTH:]
        case "birthDate":
            return f"{id_number.birth_date:%y%m%d}"
        case "oneToSix":
            return "123456"


def weaknesses(pin: str, region: Region, id_number: ResidentId, current: str | None) -> Iterator[str]:
    """Every reason why six digits are too easy to guess, as a field's code; `current`: the PIN that they shall replace."""
    steps = {(int(later) - int(earlier)) % 10 for earlier, later in pairwise(pin)}
    if steps == {0}:
        yield "pin_alike"
    # Past the end too: after 9 comes 0.
    if steps in ({1}, {9}):
        yield "pin_running"
    if pin in id_number.number:
        yield "pin_in_id_number"
    if pin in {id_number.birth_date.strftime(form) for form in _BIRTHDAYS}:
        yield "pin_birth_date"
    if pin == initial_pin(region, id_number):
        yield "pin_initial"
    if pin == current:
        yield "pin_unchanged"


class Pins:
    """Changing, checking and resetting the PIN of a card that the caller has a right to."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: CardStore,
        changes: Changes,
        holders: HolderStore,
        regions: Regions,
        passwords: Passwords,
        clock: Clock,
    ) -> None:
        self._store = store
        self._changes = changes
        self._holders = holders
        self._regions = regions
        self._passwords = passwords
        self._clock = clock

    async def change(self, card: Card, current: str, new: str, order: Order) -> Card:
        """Set a new PIN, for who knows the current one.

        The current one is judged first, so that nobody learns from what is called weak. Refuses with `pin_incorrect` and
        `triesLeft`, `pin_locked`, `invalid_request` with a code a weakness, `channel_not_allowed`, or `transition_not_allowed`,
        also with reason `pinChanged` when somebody changed it while this guess was on its way.
        """
        if await self._store.did(card, order.request):
            return await self._changes.anew(card)
        counted = await self._right(Action.CHANGE_PIN, card, current, order)
        region = self._regions.get(card.region_code)
        faults = [*weaknesses(new, region, await self._id_number(card), current)]
        if faults:
            await self._store.give_back_pin_tries(counted)
            raise Refusal("invalid_request", errors=[FieldError("newPin", code, {}) for code in faults])
        made = Pin(PinState.SET, 0, await self._passwords.hash(new))
        card = counted
        for _ in range(ROUNDS):
            now = self._clock.now()
            what = happened(TRANSITIONS[Action.CHANGE_PIN].happening, card, order, now)
            changed = await self._store.change(card, replace(card.as_of(now), pin=made), what)
            if changed is not None:
                return changed
            card = await self._still(Action.CHANGE_PIN, counted, order)
            self._permit(Action.CHANGE_PIN, _with_a_try(card), order)
        raise Refusal("unavailable", retry_after=1)

    async def check(self, card: Card, pin: str, order: Order) -> Card:
        """Whether this is the PIN, for a counter where it opens something.

        Refuses with `pin_change_required` for one that is still the first, whatever was typed; else like `change`.
        """
        self._permit(Action.CHECK_PIN, card, order)
        if card.pin.state is PinState.INITIAL:
            raise Refusal("pin_change_required")
        counted = await self._right(Action.CHECK_PIN, card, pin, order)
        await self._store.give_back_pin_tries(counted)
        return replace(counted, pin=replace(counted.pin, wrong_tries=0))

    async def reset(self, card: Card, order: Order) -> Card:
        """Back to the first PIN of the region, for who shows at a counter who they are."""

        def first(now_is: Card, _: Region, __: object) -> Card:
            return replace(now_is, pin=Pin(PinState.INITIAL, 0))

        return await self._changes.carry_out(Action.RESET_PIN, card, order, first)

    async def _right(self, action: Action, card: Card, pin: str, order: Order) -> Card:
        """The card with the guess counted, when it was right. Refuses when it was not, or may not be judged at all."""
        counted = await self._count(action, card, order)
        region = self._regions.get(card.region_code)
        if await self._is(counted, pin, region):
            return counted
        most = region.policy.service_pin.max_tries
        if counted.pin.wrong_tries >= most:
            await self._lock(counted, order)
        raise Refusal("pin_incorrect", {"triesLeft": counted.pin.tries_left(most)})

    async def _count(self, action: Action, card: Card, order: Order) -> Card:
        """Count a guess on the card as it is, once it may be judged."""
        most = self._regions.get(card.region_code).policy.service_pin.max_tries
        for _ in range(ROUNDS):
            self._permit(action, card, order)
            counted = await self._store.count_pin_try(card, most)
            if counted is not None:
                return counted
            card = await self._still(action, card, order)
        raise Refusal("unavailable", retry_after=1)

    async def _is(self, card: Card, pin: str, region: Region) -> bool:
        """Whether this is the card's PIN; one that was never chosen takes the same work."""
        first = hmac.compare_digest(initial_pin(region, await self._id_number(card)).encode(), pin.encode())
        chosen = await self._passwords.verify(card.pin.hash, pin)
        return first if card.pin.state is PinState.INITIAL else chosen

    async def _lock(self, card: Card, order: Order) -> None:
        """Write down that the last try was used up. The count alone locks it too; this tells its holder."""
        for _ in range(ROUNDS):
            now = self._clock.now()
            locked = replace(card.as_of(now), pin=replace(card.pin, state=PinState.LOCKED))
            if await self._store.change(card, locked, happened("pinLocked", card, order, now)) is not None:
                return
            now_is = await self._changes.anew(card)
            if not _same(now_is.pin, card.pin) or now_is.pin.wrong_tries < card.pin.wrong_tries:
                return
            card = now_is

    async def _still(self, action: Action, card: Card, order: Order) -> Card:
        """The card anew, for a guess at the PIN it had: when that is another by now, it is not judged at all."""
        now_is = await self._changes.anew(card)
        if _same(now_is.pin, card.pin):
            return now_is
        self._permit(action, now_is, order)
        now, region = self._clock.now(), self._regions.get(card.region_code)
        changed = Objection("transition_not_allowed", "pinChanged", {})
        raise refused(changed, now_is, order.actor, region, now, about=order.about)

    def _permit(self, action: Action, card: Card, order: Order) -> None:
        region, now = self._regions.get(card.region_code), self._clock.now()
        if no := refusal(action, card, order.actor, region, now, about=order.about):
            raise no

    async def _id_number(self, card: Card) -> ResidentId:
        holder = await self._holders.holder(card.holder_id)
        if holder is None:
            raise Refusal("not_found")
        return parse_resident_id(holder.id_number, today=self._clock.now().astimezone(CHINA).date())


def _same(one: Pin, other: Pin) -> bool:
    """Whether it is the same PIN, however often somebody has guessed."""
    return (one.state, one.hash) == (other.state, other.hash)


def _with_a_try(card: Card) -> Card:
    """The card for who has already been judged: the tries of others do not stand in their way."""
    return replace(card, pin=replace(card.pin, wrong_tries=0))
