"""What may be done with a card: one table of actions and states, and beside it who may do what through which channel.

True here: what a screen offers (`offers`), what the server accepts (`judge`, `refusal`) and what it names as the way out
(`channels_for`) are read from the same rows; every refusal names the state and what is allowed. A role's bound is the widest
that any region has; the region's policy narrows it. Never here: a second list of who may do what.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from service.actors import COUNTERS, Actor, Role
from service.cards import BankStatus, Card, PinState, Stage, Status
from service.errors import Code, Refusal
from service.regions import ONLINE, Category, Channel, Region


class Action(StrEnum):
    """Verbs of the counter: those that change a status, and those that change something else on the card."""

    ACTIVATE = "activate"
    REPORT_TEMPORARY_LOSS = "reportTemporaryLoss"
    REPORT_FORMAL_LOSS = "reportFormalLoss"
    CANCEL_LOSS = "cancelLoss"
    REPLACE = "replace"
    LOCK = "lock"
    UNLOCK = "unlock"
    CANCEL = "cancel"
    REVERSE_ACTIVATION = "reverseActivation"
    CHANGE_PIN = "changePin"
    RESET_PIN = "resetPin"
    CHECK_PIN = "checkPin"
    ACTIVATE_BANK = "activateBank"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row: from which states an action leads to which, and the happening it becomes in the card's history.

    `target`: None where the status stays. `already`: the reason of a card that is there by itself. `if_over`: the states from
    which it is possible with a card that is over by itself: expired, or of a retired generation. `in_production`: also before
    delivery, and with a card of a test batch. `second_person`: whether it takes an approval. A check of the PIN changes nothing
    and leaves no entry.
    """

    action: Action
    sources: frozenset[Status]
    target: Status | None
    happening: str
    already: str | None = None
    if_over: frozenset[Status] = frozenset()
    in_production: bool = False
    second_person: Literal["never", "afterFraud", "always"] = "never"


_A, _S = Action, Status
_IN_USE: Final = frozenset({_S.ACTIVE})
# A card that was handed out has its PIN, also before it is activated.
_HANDED_OUT: Final = frozenset({_S.SEALED, _S.ACTIVE})
_NOT_CANCELLED: Final = frozenset(_S) - {_S.CANCELLED}
# A locked card is unlocked first, whatever date is on it.
_REPLACEABLE_IF_OVER: Final = _NOT_CANCELLED - {_S.LOCKED}

# fmt: off
TRANSITIONS: Final[Mapping[Action, Transition]] = MappingProxyType({row.action: row for row in (
    Transition(_A.ACTIVATE, frozenset({_S.SEALED}), _S.ACTIVE, "activated", "alreadyActivated"),
    Transition(_A.REPORT_TEMPORARY_LOSS, _IN_USE, _S.TEMPORARILY_LOST, "temporaryLossReported", "temporarilyLost"),
    Transition(_A.REPORT_FORMAL_LOSS, frozenset({_S.ACTIVE, _S.TEMPORARILY_LOST}), _S.FORMALLY_LOST, "formalLossReported",
               "formallyLost"),
    Transition(_A.CANCEL_LOSS, frozenset({_S.TEMPORARILY_LOST, _S.FORMALLY_LOST}), _S.ACTIVE, "lossCancelled", "active"),
    # The application changes nothing on the card; "replaced" is what happens to it when the new one is handed out.
    Transition(_A.REPLACE, frozenset({_S.ACTIVE, _S.FORMALLY_LOST}), None, "replaced", if_over=_REPLACEABLE_IF_OVER),
    Transition(_A.LOCK, _IN_USE, _S.LOCKED, "locked", "locked"),
    Transition(_A.UNLOCK, frozenset({_S.LOCKED}), _S.ACTIVE, "unlocked", "active", if_over=frozenset({_S.LOCKED}),
               second_person="afterFraud"),
    Transition(_A.CANCEL, _NOT_CANCELLED, _S.CANCELLED, "cancelled", "cancelled", if_over=_NOT_CANCELLED,
               in_production=True, second_person="always"),
    Transition(_A.REVERSE_ACTIVATION, _IN_USE, _S.SEALED, "activationReversed", "sealed", second_person="always"),
    Transition(_A.CHANGE_PIN, _HANDED_OUT, None, "pinChanged"),
    Transition(_A.RESET_PIN, _HANDED_OUT, None, "pinReset"),
    Transition(_A.CHECK_PIN, _IN_USE, None, "pinChecked"),
    Transition(_A.ACTIVATE_BANK, _IN_USE, None, "bankActivated"),
)})

_LOSS: Final = frozenset({_A.REPORT_TEMPORARY_LOSS, _A.REPORT_FORMAL_LOSS, _A.CANCEL_LOSS})
_BUREAU: Final = _LOSS | {_A.ACTIVATE, _A.REPLACE, _A.LOCK, _A.UNLOCK, _A.CANCEL, _A.REVERSE_ACTIVATION, _A.CHANGE_PIN,
                          _A.RESET_PIN}
# The widest that any region may allow. Who has no row here touches no card's status.
PERMITTED: Final[Mapping[Role, frozenset[Action]]] = MappingProxyType({
    "holder": _LOSS | {_A.ACTIVATE, _A.REPLACE, _A.CHANGE_PIN},
    "bankTeller": _LOSS | {_A.ACTIVATE, _A.ACTIVATE_BANK, _A.REPLACE, _A.CHANGE_PIN, _A.RESET_PIN},
    "hospitalClerk": frozenset({_A.ACTIVATE, _A.CHANGE_PIN, _A.RESET_PIN, _A.CHECK_PIN}),
    "bureauClerk": _BUREAU,
    "bureauSupervisor": _BUREAU,
    "hotlineAgent": frozenset({_A.ACTIVATE, _A.REPORT_TEMPORARY_LOSS}),
    "employer": frozenset(),
    "production": frozenset(),
})

# What a guardian may do online for a dependant. A new card is handed to somebody who is looked at, and the PIN pays at
# pharmacies and hospitals from the dependant's own account: for those they go to a counter.
GUARDIANS_MAY: Final = _LOSS | {_A.ACTIVATE}

# By which line of a region's `policy.channels` an action is narrowed; those without one are narrowed by role alone, and
# activation by the region's activation channels.
POLICY_KEYS: Final[Mapping[Action, str]] = MappingProxyType({action: str(action) for action in (
    _A.REPORT_TEMPORARY_LOSS, _A.REPORT_FORMAL_LOSS, _A.REPLACE, _A.LOCK, _A.UNLOCK, _A.CANCEL, _A.CHANGE_PIN, _A.RESET_PIN,
)})
_CANCELLING: Final[Mapping[Status, str]] = MappingProxyType({
    _S.TEMPORARILY_LOST: "cancelTemporaryLoss",
    _S.FORMALLY_LOST: "cancelFormalLoss",
})
# fmt: on

# What is wrong with the account on the card, for who wants to activate it. An outlet also wakes one that sleeps.
_NO_ACCOUNT: Final[Mapping[BankStatus, str]] = {
    BankStatus.ACTIVE: "bankActive",
    BankStatus.NONE: "bankNone",
    BankStatus.CLOSED: "bankClosed",
}


def refusal_of(action: Action, card: Card, region: Region, now: datetime) -> str | None:
    """Why the card's own state does not allow an action, as a reason code; None when it does.

    Production comes before status (Measures for the Administration of Social Security Cards, art. 12: a card of a batch
    under test can be neither delivered nor activated). `region` is the card's: from the cut-off of a generation on, its cards
    can be replaced, unlocked for that, or cancelled, and nothing else.
    """
    status, row = card.status(now), TRANSITIONS[action]
    over = "retired" if region.is_retired(card.generation, now) else "expired" if card.is_expired(now) else None
    if status not in (row.sources | row.if_over if over else row.sources):
        return refused_by_state(row, status)
    if not row.in_production:
        if card.test_batch:
            return "testCard"
        if card.stage is not Stage.DELIVERED:
            return "notDelivered"
    return None if status in row.if_over else over


def refused_by_state(row: Transition, status: Status) -> str:
    """The reason why a row is none for a card of a status."""
    return row.already if row.already and status is row.target else str(status)


def needs_second_person(action: Action, card: Card) -> bool:
    """Whether an action on this card takes an approval by somebody else."""
    rule = TRANSITIONS[action].second_person
    return rule == "always" or (rule == "afterFraud" and card.lock_reason == "fraud")


def policy_key(action: Action, status: Status) -> str | None:
    """The line of `policy.channels` that narrows an action on a card of a status; None when there is none."""
    return _CANCELLING.get(status) if action is Action.CANCEL_LOSS else POLICY_KEYS.get(action)


def channels_for(action: Action, status: Status, region: Region, category: Category = "adult") -> tuple[Channel, ...]:
    """Every channel through which an action is open in a region, in the policy's order; empty where it is never."""
    if action is Action.ACTIVATE:
        return tuple(way.channel for way in region.activation_guide(category).ways)
    key = policy_key(action, status)
    bound = _bound(action)
    return tuple(channel for channel in (region.policy.channels[key] if key else bound) if channel in bound)


def _bound(action: Action) -> tuple[Channel, ...]:
    """The channels of the roles that may do something, before any region has narrowed them."""
    online: tuple[Channel, ...] = ("app", "web") if action in PERMITTED["holder"] else ()
    return (*online, *dict.fromkeys(channel for role, channel in COUNTERS.items() if action in PERMITTED[role]))


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides about an activation beside the card: whose it is, and who is there for them.

    `category`: what they bring depends on it; `minor`: under the guardian age of the card's region; `guardian`: one acts for
    them; `served`: cards of its region are served where they are insured, or at the counter where they stand.
    """

    category: Category
    minor: bool
    guardian: bool
    served: bool


@dataclass(frozen=True, slots=True)
class Objection:
    """Why somebody may not do something now. `reason`: one word of it for a screen; `facts`: for the problem."""

    code: Code
    reason: str
    facts: Mapping[str, object]


def judge(action: Action, card: Card, actor: Actor, region: Region, now: datetime) -> Objection | None:
    """Whether somebody may do something with a card at a moment: None, or what stands against it.

    Who comes before where, and where before the card's state. `region` is the card's. For an activation that is about to be
    done, ask `judge_activation`, which also knows for whom.
    """
    return (
        _not_their_work(action, card, actor, region, now)
        or _out_of_reach(action, card, actor, region, now)
        or _not_here(action, card, actor, region, now)
        or _not_now(action, card, region, now)
    )


def refusal(  # noqa: PLR0913  as `judge`, and what else is known
    action: Action, card: Card, actor: Actor, region: Region, now: datetime, *, about: Circumstances | None = None
) -> Refusal | None:
    """The same as a refusal: `channel_not_allowed`, `pin_locked`, `transition_not_allowed` or `card_not_activatable`."""
    objection = judge(action, card, actor, region, now)
    return None if objection is None else refused(objection, card, actor, region, now, about=about)


def refused(  # noqa: PLR0913  the same
    objection: Objection, card: Card, actor: Actor, region: Region, now: datetime, *, about: Circumstances | None = None
) -> Refusal:
    """An objection as a refusal; that of a transition says what this actor could do instead."""
    facts = dict(objection.facts)
    if objection.code == "transition_not_allowed":
        could = allowed(card, actor, region, now, about)
        facts = {"from": card.status(now), "allowed": could, "reason": objection.reason}
    return Refusal(objection.code, facts)


def allowed(card: Card, actor: Actor, region: Region, now: datetime, about: Circumstances | None) -> list[Action]:
    """What somebody could do with the card now, in the order of the table.

    Without circumstances nobody can say whether the card may be activated, and so it is not promised.
    """
    could = {action for action in _seen_by(actor) if judge(action, card, actor, region, now) is None} - {Action.ACTIVATE}
    if about is not None and judge_activation(card, actor, region, about, now) is None:
        could.add(Action.ACTIVATE)
    if about is not None and about.guardian and actor.role == "holder":
        could &= GUARDIANS_MAY
    return [action for action in TRANSITIONS if action in could]


def _seen_by(actor: Actor) -> list[Action]:
    permitted = PERMITTED[actor.role]
    return [action for action in TRANSITIONS if action in permitted]


def _not_their_work(action: Action, card: Card, actor: Actor, region: Region, now: datetime) -> Objection | None:
    """The widest bound: the role, and that a bank touches its own cards only."""
    others_bank = actor.role == "bankTeller" and actor.bank_code != card.bank.code
    if others_bank or action not in PERMITTED[actor.role]:
        return _elsewhere(channels_for(action, card.status(now), region))
    return None


def _out_of_reach(action: Action, card: Card, actor: Actor, region: Region, now: datetime) -> Objection | None:
    """The regions of an operator's institution, and no others, however interconnected. A resident's own card is theirs."""
    if actor.role == "holder" or card.region_code in actor.region_codes:
        return None
    return _elsewhere(channels_for(action, card.status(now), region))


def _not_here(action: Action, card: Card, actor: Actor, region: Region, now: datetime) -> Objection | None:
    """The region's policy."""
    if action is Action.ACTIVATE:
        ways = tuple(way.channel for way in region.policy.activation)
        return None if actor.channel in ways else _elsewhere(ways)
    key = policy_key(action, card.status(now))
    if key is None or actor.channel in region.policy.channels[key]:
        return None
    open_at = channels_for(action, card.status(now), region)
    return _elsewhere(open_at) if open_at else Objection("transition_not_allowed", "notInThisRegion", {})


def _elsewhere(channels: tuple[Channel, ...]) -> Objection:
    return Objection("channel_not_allowed", "channelNotAllowed", {"channels": channels})


def _not_now(action: Action, card: Card, region: Region, now: datetime) -> Objection | None:
    """The card: production, status and date, then the axis that the action is about."""
    reason = refusal_of(action, card, region, now)
    if reason is not None:
        code: Code = "card_not_activatable" if action is Action.ACTIVATE else "transition_not_allowed"
        return Objection(code, reason, {"reason": reason})
    if action in {Action.CHANGE_PIN, Action.CHECK_PIN}:
        locked = card.pin.state_under(region.policy.service_pin.max_tries) is PinState.LOCKED
        return Objection("pin_locked", "pinLocked", {}) if locked else None
    if action is Action.ACTIVATE_BANK and (reason := _NO_ACCOUNT.get(card.bank.status)):
        return Objection("transition_not_allowed", reason, {})
    return None


def judge_activation(card: Card, actor: Actor, region: Region, circumstances: Circumstances, now: datetime) -> Objection | None:
    """As `judge` for activating, with what is known of the person: `guardian_required` and `region_not_interconnected` too."""
    return may_not_activate(card, actor, region, circumstances, now) or _not_now(Action.ACTIVATE, card, region, now)


def may_not_activate(card: Card, actor: Actor, region: Region, circumstances: Circumstances, now: datetime) -> Objection | None:
    """The part of `judge_activation` that is not about the card's state: who, through this channel, in this region."""
    elsewhere = _not_their_work(Action.ACTIVATE, card, actor, region, now) or _out_of_reach(
        Action.ACTIVATE, card, actor, region, now
    )
    if elsewhere:
        return elsewhere
    if circumstances.minor and not circumstances.guardian:
        return Objection("guardian_required", "guardianRequired", {})
    ways = channels_for(Action.ACTIVATE, Status.SEALED, region, circumstances.category)
    if actor.channel not in ways:
        return _elsewhere(ways)
    if not circumstances.served:
        offline = tuple(way for way in ways if way not in ONLINE)
        return Objection(
            "region_not_interconnected", "regionNotInterconnected", {"regionCode": region.code, "channels": offline}
        )
    return None


@dataclass(frozen=True, slots=True)
class Offer:
    """An action as a screen shows it: allowed, or the reason why not."""

    action: Action
    reason: str | None


def offers(card: Card, actor: Actor, region: Region, circumstances: Circumstances, now: datetime) -> tuple[Offer, ...]:
    """What somebody sees of what may be done with the card: all that their role ever may, each allowed or with its reason.

    How surely it must be known who they are is not asked here: that is no fact of the card, and answered where they act.
    """
    return tuple(
        Offer(action, objection.reason if objection else None)
        for action in _seen_by(actor)
        for objection in [
            judge_activation(card, actor, region, circumstances, now)
            if action is Action.ACTIVATE
            else judge(action, card, actor, region, now)
        ]
    )
