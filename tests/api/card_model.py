"""A small model of what becomes of cards, written from the paper on the domain and not from the service.

True here: a plain object for each card, and for each thing that can be done a function that changes it or says why not. Of the
service it takes the policy packs, because they are facts about regions. Never here: the service's table, its words for rules,
or anything that asks the service what is right.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Any, Final

from service.policies import RegionPolicy
from service.regions import SHIPPED, Regions

CHINA: Final = timezone(timedelta(hours=8))
REGIONS: Final = Regions.load_directory(SHIPPED)
STAGES: Final = (
    *("accepted", "bankPreOpened", "inProduction", "shippedByProvince", "receivedByCity", "receivedByBank", "delivered"),
)
APPROVAL_LASTS: Final = timedelta(hours=24)

ANY: Final = frozenset({"sealed", "active", "formallyLost", "locked", "temporarilyLost"})
# From which states an action leads to which; None: the state stays.
MOVES: Final[dict[str, tuple[frozenset[str], str | None]]] = {
    "activate": (frozenset({"sealed"}), "active"),
    "reportTemporaryLoss": (frozenset({"active"}), "temporarilyLost"),
    "reportFormalLoss": (frozenset({"active", "temporarilyLost"}), "formallyLost"),
    "cancelLoss": (frozenset({"temporarilyLost", "formallyLost"}), "active"),
    "replace": (frozenset({"active", "formallyLost"}), None),
    "lock": (frozenset({"active"}), "locked"),
    "unlock": (frozenset({"locked"}), "active"),
    "cancel": (ANY, "cancelled"),
    "reverseActivation": (frozenset({"active"}), "sealed"),
    "changePin": (frozenset({"sealed", "active"}), None),
    "resetPin": (frozenset({"sealed", "active"}), None),
    "checkPin": (frozenset({"active"}), None),
    "activateBank": (frozenset({"active"}), None),
}
# What is still possible with a card that has expired or is of a retired generation.
IF_OVER: Final = {"replace": ANY - {"locked"}, "unlock": frozenset({"locked"}), "cancel": ANY}
_LOSS: Final = frozenset({"reportTemporaryLoss", "reportFormalLoss", "cancelLoss"})
_BUREAU: Final = _LOSS | {"activate", "replace", "lock", "unlock", "cancel", "reverseActivation", "changePin", "resetPin"}
MAY: Final = {
    "holder": _LOSS | {"activate", "replace", "changePin"},
    "bankTeller": _LOSS | {"activate", "activateBank", "replace", "changePin", "resetPin"},
    "hospitalClerk": frozenset({"activate", "changePin", "resetPin", "checkPin"}),
    "bureauClerk": _BUREAU,
    "bureauSupervisor": _BUREAU,
    "hotlineAgent": frozenset({"activate", "reportTemporaryLoss"}),
    "production": frozenset(),
}
WEAK_PINS: Final = ("111111", "123456", "543210")


@dataclass(frozen=True)
class Who:
    """Somebody who acts: `regions` and `bank` of the institution."""

    role: str
    channel: str | None
    regions: frozenset[str] = frozenset()
    bank: str | None = None


HOLDER: Final = Who("holder", "app")
_HOME: Final = frozenset({"990100"})
STAFF: Final = {
    "bank-own": Who("bankTeller", "bank", _HOME, "B901"),
    "bank-other": Who("bankTeller", "bank", _HOME, "B902"),
    "hospital": Who("hospitalClerk", "hospital", _HOME),
    "bureau": Who("bureauClerk", "bureau", _HOME),
    "bureau-supervisor": Who("bureauSupervisor", "bureau", _HOME),
    "bureau2": Who("bureauClerk", "bureau", frozenset({"990200"})),
    "hotline": Who("hotlineAgent", "hotline", _HOME),
    "production": Who("production", None, _HOME),
}


class No(Exception):  # noqa: N818  an answer and no error
    """What the service is to say instead of doing it: the code, the reason where it has one, and other facts."""

    def __init__(self, code: str, reason: str | None = None, **facts: Any) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.facts = facts


@dataclass
class Person:
    """Somebody with cards. `household`: the number of their register."""

    key: str
    name: str
    id_number: str
    household: str

    @property
    def born(self) -> date:
        digits = self.id_number[6:14]
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))

    def age(self, now: datetime) -> int:
        today = _day(now)
        return today.year - self.born.year - ((today.month, today.day) < (self.born.month, self.born.day))


@dataclass
class CardModel:
    """A card as it should be. `pin`: its value; `history`: newest last, as event, from, to and channel."""

    card_id: str
    owner: Person
    region: str
    bank: str
    number: str
    code: str
    generation: int
    stage: str
    test: bool
    status: str
    account: str
    medical: str
    pin: str
    pin_state: str
    expires: date
    lost_until: datetime | None = None
    lock_reason: str | None = None
    activated_through: str | None = None
    wrong_tries: int = 0
    history: list[tuple[str, str, str, str]] = field(default_factory=list)

    @property
    def policy(self) -> RegionPolicy:
        return REGIONS.get(self.region).policy

    def supersedes(self, other: "CardModel") -> bool:
        """Whether this is the newer card of the two that its owner has in hand, and is not at its end."""
        newer = self.region == other.region and self.generation > other.generation
        return newer and self.stage == "delivered" and self.status != "cancelled"

    def settle(self, now: datetime) -> None:
        """A temporary loss ends by itself."""
        if self.lost_until is not None and now >= self.lost_until:
            self.status, self.lost_until = "active", None

    def over(self, now: datetime) -> str | None:
        """Why the card is over by itself."""
        cut_off = self.policy.cut_off_of(self.generation)
        if cut_off is not None and _day(now) >= cut_off:
            return "retired"
        return "expired" if _day(now) > self.expires else None

    def is_minor(self, now: datetime) -> bool:
        return self.owner.age(now) < self.policy.guardian_age

    def medical_at(self, now: datetime, cards: Iterable["CardModel"]) -> str:
        """Frozen from the cut-off on for who has activated no newer card; `cards`: all of them."""
        if self.medical != "normal" or self.status == "cancelled":
            return self.medical
        late = {g for g in (self.generation, self.generation - 1) if (day := self.policy.cut_off_of(g)) and _day(now) >= day}
        hit = self.generation in late or (self.status == "sealed" and late)
        thawed = any(
            one.owner is self.owner
            and one.region == self.region
            and one.status not in {"sealed", "cancelled"}
            and one.over(now) != "retired"
            for one in cards
        )
        return "frozen" if hit and not thawed else self.medical

    def pin_locked(self) -> bool:
        return self.pin_state == "locked" or self.wrong_tries >= self.policy.service_pin.max_tries

    def first_pin(self) -> str:
        match self.policy.service_pin.initial_value:
            case "idNumberLastSix":
                return self.owner.id_number.rstrip("X")[-6:]
            case "birthDate":
                return self.owner.id_number[8:14]
            case _:
                return "123456"

    def become(self, event: str, status: str, channel: str) -> None:
        """Another status, and what it means for the rest."""
        self.history.append((event, self.status, status, channel))
        self.status, self.lost_until, self.lock_reason = status, None, None

    def note(self, event: str, channel: str) -> None:
        """Something that changed no status."""
        self.history.append((event, self.status, self.status, channel))

    def end(self, event: str, channel: str) -> None:
        """The end: the account on it closes with it."""
        self.become(event, "cancelled", channel)
        self.account = self.account if self.account == "none" else "closed"


@dataclass
class ApprovalModel:
    """Something that waits for a second person."""

    approval_id: str
    action: str
    card: CardModel
    asker: str
    reason: str
    asked_at: datetime
    state: str = "pending"

    def state_at(self, now: datetime) -> str:
        return "expired" if self.state == "pending" and now >= self.asked_at + APPROVAL_LASTS else self.state


@dataclass
class ApplicationModel:
    """A new card on its way. `old`: the card that it replaces, or the last one of somebody who has none; `batch`: its id.

    `tested`: whether the batch is no test batch any more.
    """

    application_id: str
    old: CardModel
    replaces: bool
    stage: str = "accepted"
    batch: str | None = None
    tested: bool = False
    new: CardModel | None = None

    @property
    def running(self) -> bool:
        return self.stage not in {"delivered", "rejected"}

    def next_stage(self) -> str:
        return STAGES[STAGES.index(self.stage) + 1]


def _day(now: datetime) -> date:
    return now.astimezone(CHINA).date()


def may(action: str, card: CardModel, who: Who, now: datetime) -> None:
    """Raises No for who may not do something with a card now: first who, then where, then the card."""
    if action not in MAY[who.role] or (who.role == "bankTeller" and who.bank != card.bank):
        raise No("channel_not_allowed")
    if who.role != "holder" and card.region not in who.regions:
        raise No("channel_not_allowed")
    card.settle(now)
    line = {"temporarilyLost": "cancelTemporaryLoss", "formallyLost": "cancelFormalLoss"}.get(card.status)
    line = action if action != "cancelLoss" else line
    channels = card.policy.channels.get(line or "")
    if channels == ():
        raise No("transition_not_allowed", "notInThisRegion")
    if channels is not None and who.channel not in channels:
        raise No("channel_not_allowed")
    if reason := state_reason(action, card, now):
        raise No("card_not_activatable" if action == "activate" else "transition_not_allowed", reason)
    if action in {"changePin", "checkPin"} and card.pin_locked():
        raise No("pin_locked")
    if action == "activateBank" and card.account not in {"pending", "dormant"}:
        raise No("transition_not_allowed", f"bank{card.account.capitalize()}")


def state_reason(action: str, card: CardModel, now: datetime) -> str | None:
    """Why the card itself does not allow something."""
    card.settle(now)
    over, late = card.over(now), IF_OVER.get(action, frozenset())
    if card.status not in MOVES[action][0] and not (over and card.status in late):
        return "alreadyActivated" if action == "activate" and card.status == "active" else card.status
    if action != "cancel" and card.test:
        return "testCard"
    if action != "cancel" and card.stage != "delivered":
        return "notDelivered"
    return over if over and card.status not in late else None


def offered(card: CardModel, who: Who, now: datetime) -> dict[str, bool]:
    """What somebody's screen is to show, each as allowed or not. An operator sees a minor with a guardian."""
    return {action: is_possible(action, card, who, now) for action in MOVES if action in MAY[who.role]}


def is_possible(action: str, card: CardModel, who: Who, now: datetime) -> bool:
    """Whether somebody may do something with a card now."""
    try:
        if action == "activate":
            may_activate(card, who, now, guardian=who.role != "holder")
            return state_reason("activate", card, now) is None
        may(action, card, who, now)
    except No:
        return False
    return True


def may_activate(card: CardModel, who: Who, now: datetime, *, guardian: bool) -> None:
    """Raises No for who may not activate this card here, whatever its state."""
    if who.role == "bankTeller" and who.bank != card.bank:
        raise No("channel_not_allowed")
    if who.role != "holder" and card.region not in who.regions:
        raise No("channel_not_allowed")
    minor = card.is_minor(now)
    if minor and not guardian:
        raise No("guardian_required")
    category = "minor" if minor else "adult"
    if not any(way.channel == who.channel and category in way.materials for way in card.policy.activation):
        raise No("channel_not_allowed")


def activate(card: CardModel, who: Who, now: datetime, *, guardian: bool = False, bank: bool = False) -> str:
    """Activate a card, the account on it too where that is asked for. What the answer is to say."""
    may_activate(card, who, now, guardian=guardian)
    if bank and who.role != "bankTeller":
        raise No("channel_not_allowed")
    reason = state_reason("activate", card, now)
    if reason == "alreadyActivated":
        if bank and card.account != "active":
            activate_bank(card, who, now)
        return "alreadyActivated"
    if reason is not None:
        raise No("card_not_activatable", reason)
    assert who.channel is not None
    card.become("activated", "active", who.channel)
    card.activated_through = who.channel
    if bank and card.account == "pending":
        card.account = "active"
    return "activated"


def change_status(action: str, event: str, card: CardModel, who: Who, now: datetime) -> None:
    """One of the plain changes of status."""
    may(action, card, who, now)
    target = MOVES[action][1]
    assert target is not None
    assert who.channel is not None
    card.become(event, target, who.channel)
    if action == "reportTemporaryLoss":
        card.lost_until = now + timedelta(days=card.policy.temporary_loss_days)
    if action == "reverseActivation":
        card.activated_through = None


def activate_bank(card: CardModel, who: Who, now: datetime) -> None:
    may("activateBank", card, who, now)
    card.account = "active"
    card.note("bankActivated", "bank")


def guess(action: str, card: CardModel, pin: str, who: Who, now: datetime) -> None:
    """A guess at the PIN: counted, and judged."""
    may(action, card, who, now)
    if action == "checkPin" and card.pin_state == "initial":
        raise No("pin_change_required")
    if pin == card.pin:
        card.wrong_tries = 0
        return
    card.wrong_tries += 1
    left = card.policy.service_pin.max_tries - card.wrong_tries
    if left == 0:
        card.pin_state = "locked"
        assert who.channel is not None
        card.note("pinLocked", who.channel)
    raise No("pin_incorrect", None, triesLeft=left)


def change_pin(card: CardModel, pin: str, new: str, now: datetime) -> None:
    guess("changePin", card, pin, HOLDER, now)
    if new in WEAK_PINS or new == card.pin or new in card.owner.id_number:
        raise No("invalid_request")
    card.pin, card.pin_state = new, "set"
    card.note("pinChanged", "app")


def reset_pin(card: CardModel, who: Who, now: datetime) -> None:
    may("resetPin", card, who, now)
    assert who.channel is not None
    card.pin, card.pin_state, card.wrong_tries = card.first_pin(), "initial", 0
    card.note("pinReset", who.channel)


def carry_out(approval: ApprovalModel, now: datetime) -> None:
    """A second person has said yes."""
    card, event = approval.card, {"cancel": "cancelled", "unlock": "unlocked"}.get(approval.action, "activationReversed")
    try:
        may(approval.action, card, STAFF[approval.asker], now)
    except No:
        approval.state = "failed"
        return
    approval.state = "approved"
    if approval.action != "cancel":
        change_status(approval.action, event, card, STAFF[approval.asker], now)
        return
    card.end(event, "bureau")
    if approval.reason in {"death", "emigration"}:
        card.medical = "closed"


def facts(card: CardModel, cards: Iterable[CardModel], now: datetime) -> Iterator[tuple[str, object]]:
    """What the holder's screen is to say of a card."""
    card.settle(now)
    most = card.policy.service_pin.max_tries
    yield "status", card.status
    yield "productionStage", card.stage
    yield "generation", card.generation
    yield "medicalAccount", card.medical_at(now, cards)
    yield "functions.social.active", card.status == "active"
    yield "functions.social.channel", card.activated_through
    yield "functions.bank.status", card.account
    yield "servicePin.state", "locked" if card.pin_locked() else card.pin_state
    yield "servicePin.triesLeft", 0 if card.pin_locked() else most - card.wrong_tries
