"""Diagnosis: what stands in the way of using a card, on which axis, and what to do about it, where and with what.

True here: whether a card can be used, and whether a step is named, is asked of the same rows by which the server judges
(service/transitions.py), so that nobody is sent where they would be turned away. A step waits at most for another blocker of
the same diagnosis. Never here: a second rule about who may do what, or a way that the region's policy does not have.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from service.cards import BankStatus, Card, MedicalStatus, PinState, Stage, Status, medical_among
from service.dependants import AUTHORITY
from service.materials import asked_for
from service.policies import CollectionPlace
from service.regions import ONLINE, Channel, Material, Region
from service.transitions import Action, Circumstances, channels_for, refusal_of

Axis = Literal["production", "status", "expiry", "generation", "bank", "medical", "pin"]
# A blocker on one of these keeps the card from working; one on another keeps an account or the PIN from it.
DECISIVE: Final[frozenset[Axis]] = frozenset({"production", "status", "expiry", "generation"})
Place = Channel | CollectionPlace


class Beside(StrEnum):
    """What is done about a card and is no act on it."""

    COLLECT = "collect"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do, the places that all ask for the same, and what they ask for; nothing for who is signed in."""

    action: Action | Beside
    places: tuple[Place, ...]
    materials: tuple[Material, ...]


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing in the way. `code`: a word of the catalogue's reasons; `steps`: none where one can only wait or ask."""

    code: str
    axis: Axis
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`usable`: the card opens what it is for; `can_activate`: it can be activated, if not here then elsewhere."""

    usable: bool
    can_activate: bool
    blockers: tuple[Blocker, ...]


@dataclass(frozen=True, slots=True)
class Prospects:
    """What the holder has beside this card: other cards, and whether they can be given a new one, as only the insured can."""

    others: Collection[Card]
    insured: bool


# What leads out of a state, best first.
_WAYS_OUT: Final[Mapping[Status, tuple[Action, ...]]] = {
    Status.SEALED: (Action.ACTIVATE,),
    Status.TEMPORARILY_LOST: (Action.CANCEL_LOSS, Action.REPORT_FORMAL_LOSS),
    Status.FORMALLY_LOST: (Action.REPLACE, Action.CANCEL_LOSS),
    Status.LOCKED: (Action.UNLOCK,),
}
# At a bank's outlet an account is activated, or woken; a missing or closed one is between the holder and the bank.
_BANK: Final[Mapping[BankStatus, tuple[str, tuple[Action, ...]]]] = {
    BankStatus.PENDING: ("bankPending", (Action.ACTIVATE_BANK,)),
    BankStatus.DORMANT: ("bankDormant", (Action.ACTIVATE_BANK,)),
    BankStatus.NONE: ("bankNone", ()),
    BankStatus.CLOSED: ("bankClosed", ()),
}
_MEDICAL: Final[Mapping[MedicalStatus, str]] = {
    MedicalStatus.FROZEN: "medicalFrozen",
    MedicalStatus.UNOPENED: "medicalUnopened",
    MedicalStatus.CLOSED: "medicalClosed",
}
_PIN: Final[Mapping[PinState, tuple[str, tuple[Action, ...]]]] = {
    PinState.INITIAL: ("pinInitial", (Action.CHANGE_PIN,)),
    PinState.LOCKED: ("pinLocked", (Action.RESET_PIN,)),
}
# These never pass: what they stand against is done with another card.
_FINAL: Final = frozenset({"expired", "retired", "cancelled"})
_LOST: Final = frozenset({Status.TEMPORARILY_LOST, Status.FORMALLY_LOST})
# What the hotline asks for where the activation guide has no word on it.
_BY_PHONE: Final[tuple[Material, ...]] = ("idNumber", "registeredMobile")


def diagnose(card: Card, region: Region, about: Circumstances, beside: Prospects, now: datetime) -> Diagnosis:
    """What stands in the way of using a card at a moment.

    `region`: the card's; `about`: whom it is for. Who has another card goes on with that, and asks for none.
    """
    return Diagnosis(
        # A card is in use where its PIN may be asked for.
        usable=refusal_of(Action.CHECK_PIN, card, region, now) is None,
        can_activate=refusal_of(Action.ACTIVATE, card, region, now) is None,
        blockers=tuple(_blockers(_Ways(card, region, about, beside, now))),
    )


@dataclass(frozen=True, slots=True)
class _Ways:
    """How the card's holder does something about it at a moment."""

    card: Card
    region: Region
    about: Circumstances
    beside: Prospects
    now: datetime

    @property
    def status(self) -> Status:
        return self.card.status(self.now)

    @property
    def another(self) -> bool:
        """Whether the holder has another card that is not over."""
        return any(
            other.stored_status is not Status.CANCELLED and not self.region.is_retired(other.generation, self.now)
            for other in self.beside.others
            if other.region_code == self.card.region_code and not other.is_expired(self.now)
        )

    def blocker(self, code: str, axis: Axis, actions: tuple[Action, ...] = ()) -> Blocker:
        return Blocker(code, axis, tuple(step for action in actions for step in self.steps(action)))

    def steps(self, action: Action) -> Iterator[Step]:
        """Every way to do something: one step for all places that ask for the same."""
        no_new_card = action is Action.REPLACE and not self.beside.insured
        if no_new_card or refusal_of(action, self.card, self.region, self.now) in _FINAL:
            return
        channels = channels_for(action, self.status, self.region, self.about.category)
        if action is Action.ACTIVATE and not self.about.served:
            channels = tuple(channel for channel in channels if channel not in ONLINE)
        yield from self.grouped(action, channels)

    def grouped(self, action: Action | Beside, places: tuple[Place, ...]) -> Iterator[Step]:
        asked: dict[tuple[Material, ...], list[Place]] = {}
        for place in places:
            asked.setdefault(self.materials(action, place), []).append(place)
        for materials, alike in asked.items():
            yield Step(action, tuple(alike), materials)

    def materials(self, action: Action | Beside, place: Place) -> tuple[Material, ...]:
        """What is asked for in one place: as for activating there, without a card that its holder does not have."""
        if place in ONLINE and action is not Action.ACTIVATE:
            return ("guardianLink",) if self.about.minor and AUTHORITY.get(action, False) else ()
        category = self.about.category
        if place == "hotline":
            guide = self.region.activation_guide(category).ways
            return next((way.materials for way in guide if way.channel == place), _BY_PHONE)
        # At a sub-district they ask what a bureau window asks.
        window: Channel = "bureau" if place == "subDistrict" else place
        asked = dict(asked_for(self.region, window, minor=self.about.minor))[category]
        absent = self.status in _LOST or isinstance(action, Beside)
        return tuple(material for material in asked if not (absent and material == "card"))


def _blockers(ways: _Ways) -> Iterator[Blocker]:
    """One on each axis at most, and beside an activation those for whom it is not done online."""
    card, region, now = ways.card, ways.region, ways.now
    medical = medical_among(card, ways.beside.others, region, now)
    if ways.status is Status.CANCELLED:
        yield from _after_the_end(ways, medical)
        return
    if card.test_batch:
        yield ways.blocker("testCard", "production")
    elif card.stage is not Stage.DELIVERED:
        place = (region.policy.collection,)
        yield Blocker("notDelivered", "production", tuple(ways.grouped(Beside.COLLECT, place)))
    yield from _about_status(ways)
    instead = () if ways.another else (Action.REPLACE,)
    if card.is_expired(now):
        yield ways.blocker("expired", "expiry", instead)
    if region.is_retired(card.generation, now):
        yield ways.blocker("retired", "generation", instead)
    if card.bank.status in _BANK:
        code, actions = _BANK[card.bank.status]
        yield ways.blocker(code, "bank", actions)
    if medical is not MedicalStatus.NORMAL:
        # What a cut-off froze, the new card's activation thaws; what an insurer froze is between them.
        by_cut_off = medical is MedicalStatus.FROZEN and card.stored_medical is MedicalStatus.NORMAL
        thawing = instead if region.is_retired(card.generation, now) else (Action.ACTIVATE,)
        yield ways.blocker(_MEDICAL[medical], "medical", thawing if by_cut_off else ())
    pin = card.pin.state_under(region.policy.service_pin.max_tries)
    if pin in _PIN:
        code, actions = _PIN[pin]
        yield ways.blocker(code, "pin", actions)


def _about_status(ways: _Ways) -> Iterator[Blocker]:
    if ways.status not in _WAYS_OUT:
        return
    yield ways.blocker(ways.status, "status", _WAYS_OUT[ways.status])
    if ways.status is Status.SEALED and ways.about.minor:
        yield ways.blocker("guardianRequired", "status", (Action.ACTIVATE,))
    if ways.status is Status.SEALED and not ways.about.served:
        yield ways.blocker("regionNotInterconnected", "status", (Action.ACTIVATE,))


def _after_the_end(ways: _Ways, medical: MedicalStatus) -> Iterator[Blocker]:
    """A cancelled card: nothing is done with it any more, and a new one is applied for by who has none and a claim to one."""
    has_one = any(other.stored_status is not Status.CANCELLED for other in ways.beside.others)
    places = () if has_one or not ways.beside.insured else ways.region.policy.channels["confirmInformation"]
    yield Blocker(ways.status, "status", tuple(ways.grouped(Beside.APPLY, places)))
    if medical is MedicalStatus.CLOSED:
        yield ways.blocker(_MEDICAL[medical], "medical")
