"""Whether the rules of one policy pack fit together, and with what is the same in every region.

True here: each part of a pack is judged by itself, so that a fault in one does not hide the faults of another. Never here: an
opinion about a city's choice. A pack is refused only when it would leave people without a way (a loss that nobody can end),
break a rule of the country (six months' notice), or open a channel to something that it cannot do.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from service.message_policies import MessagePolicy, about_messages
from service.policies import (
    ACTS,
    CATEGORIES,
    ONLINE,
    Act,
    ActivationChannel,
    Category,
    Channel,
    Confirmer,
    Generation,
    Material,
    Publications,
    months_after,
)
from service.publications import PLACEHOLDERS, faults_of

Faults = Iterator[tuple[str, str]]

# A cut-off takes effect no sooner than this after its announcement, so that holders have time to change
# cards.
ANNOUNCED_MONTHS_AHEAD: Final = 6

THREE_NUMBERS: Final[frozenset[Material]] = frozenset({"idNumber", "cardNumber", "identificationCode"})
_CERTIFICATES: Final[Mapping[Category, Material]] = {
    "disability": "disabilityCertificate",
    "workInjury": "workInjuryCertificate",
    "lowIncome": "lowIncomeCertificate",
}

_WINDOWS: Final[frozenset[Channel]] = frozenset({"bank", "hospital", "bureau"})
_ONLINE_BANK_BUREAU: Final[frozenset[Channel]] = ONLINE | {"bank", "bureau"}

# Through which channels an act can be done at all, whatever a region would like. The hotline sees no card and no face: it
# may only stop a card for a time. Locking and cancelling take an official; a PIN is reset by somebody who saw the ID card.
POSSIBLE: Final[Mapping[Act, frozenset[Channel]]] = {
    "reportTemporaryLoss": _ONLINE_BANK_BUREAU | {"hotline"},
    "reportFormalLoss": _ONLINE_BANK_BUREAU,
    "cancelTemporaryLoss": _ONLINE_BANK_BUREAU,
    "cancelFormalLoss": _ONLINE_BANK_BUREAU,
    "replace": _ONLINE_BANK_BUREAU,
    "lock": frozenset({"bureau"}),
    "unlock": frozenset({"bureau"}),
    "cancel": frozenset({"bureau"}),
    "changePin": ONLINE | _WINDOWS,
    "resetPin": _WINDOWS,
    "confirmInformation": _ONLINE_BANK_BUREAU,
}
# Acts without which somebody would be stuck for good, and how.
_NEEDED: Final[Mapping[Act, str]] = {
    "reportFormalLoss": "a lost card could not be stopped for good",
    "replace": "a lost or broken card could not be replaced",
    "cancel": "a card could not be ended",
    "changePin": "the first PIN could not be changed, and it opens nothing",
    "resetPin": "a locked PIN would stay locked",
    "confirmInformation": "nobody could apply",
}
# What has been done must have a way back: the first only where the second is done too.
_WAY_BACK: Final[tuple[tuple[Act, Act], ...]] = (("reportTemporaryLoss", "cancelTemporaryLoss"), ("lock", "unlock"))


def about_channels(channels: Mapping[str, tuple[Channel, ...]]) -> Faults:
    """What is wrong with the channels of the acts: each fault's field below `channels`, and the reason."""
    for act in channels:
        if act not in ACTS:
            yield act, "is nothing that a region decides"
    for known in ACTS:
        if known in channels:
            yield from _about_act(known, channels[known])
        else:
            yield known, "is missing; an empty list says that it is never done here"
    for act, back in _WAY_BACK:
        if channels.get(act) and channels.get(back) == ():
            yield back, f"needs a channel, because {act} has one"


def _about_act(act: Act, through: tuple[Channel, ...]) -> Faults:
    for index, channel in enumerate(through):
        if channel not in POSSIBLE[act]:
            yield f"{act}.{index}", f"cannot be done through {channel}"
        if channel in through[:index]:
            yield f"{act}.{index}", "is listed twice"
    if not through and act in _NEEDED:
        yield act, f"needs a channel: without any, {_NEEDED[act]}"


def about_confirmers(confirmers: tuple[Confirmer, ...]) -> Faults:
    """What is wrong with who confirms information."""
    for index, confirmer in enumerate(confirmers):
        if confirmer in confirmers[:index]:
            yield str(index), "is listed twice"
    if "subDistrict" not in confirmers:
        yield "", "must have subDistrict, for those who have neither employer nor school"


def about_generations(generations: tuple[Generation, ...]) -> Faults:
    """What is wrong with the generations and their cut-offs."""
    numbers = [generation.number for generation in generations]
    if numbers != [*range(numbers[0], numbers[0] + len(numbers))]:
        # Which card follows which is told by the numbers alone.
        yield "", "must go from the oldest to the newest, each once and none left out"
    if generations[-1].cut_off_on is not None:
        yield f"{len(generations) - 1}.cut_off_on", "would leave no generation to issue"
    for index, generation in enumerate(generations):
        announced, cut_off = generation.announced_on, generation.cut_off_on
        if (cut_off is None) != (announced is None):
            yield f"{index}.announced_on", "and cut_off_on go together"
        elif cut_off is not None and announced is not None and not is_announced_in_time(announced, cut_off):
            yield f"{index}.announced_on", f"must be at least {ANNOUNCED_MONTHS_AHEAD} months before the cut-off"


def is_announced_in_time(announced_on: date, cut_off_on: date) -> bool:
    """Whether six calendar months lie between an announcement and its cut-off.

    A day that the sixth month does not have counts as its last: 31 August is in time for the last of February.
    """
    return months_after(announced_on, ANNOUNCED_MONTHS_AHEAD) <= cut_off_on


def about_activation(ways: tuple[ActivationChannel, ...]) -> Faults:
    """What is wrong with the channels of activation and their materials."""
    channels = [way.channel for way in ways]
    for index, way in enumerate(ways):
        if way.channel in channels[:index]:
            yield f"{index}.channel", "is listed twice"
        for category, materials in way.materials.items():
            for reason in _about_materials(way.channel, category, frozenset(materials)):
                yield f"{index}.materials.{category}", reason
    for category in CATEGORIES:
        if not any(category in way.materials for way in ways):
            yield "", f"leaves the category {category} without any channel"


def _about_materials(channel: Channel, category: Category, materials: frozenset[Material]) -> Iterator[str]:
    if channel in ONLINE and not materials >= THREE_NUMBERS:
        yield "must ask online for ID number, card number and identification code"
    if category == "minor" and channel in ONLINE and "guardianLink" not in materials:
        yield "must ask online for a linked guardian"
    if category == "minor" and channel not in ONLINE and not materials >= {"guardianIdCard", "householdRegister"}:
        yield "must ask for the guardian's ID and the household register"
    if category == "noIdCard" and channel not in ONLINE and "householdRegister" not in materials:
        yield "must ask for the household register"
    if category in {"minor", "noIdCard"} and "idCard" in materials:
        yield "must not ask for an ID card that the holder may not have"
    if category in _CERTIFICATES and channel not in ONLINE and _CERTIFICATES[category] not in materials:
        yield "must ask for the certificate of the group"


def about_publications(publications: Publications) -> Faults:
    """What is wrong with the published texts, whatever the rules are."""
    return faults_of(publications, PLACEHOLDERS)


_PARTS: Final[Mapping[str, tuple[TypeAdapter[Any], Callable[[Any], Faults]]]] = {
    "channels": (TypeAdapter(dict[str, tuple[Channel, ...]]), about_channels),
    "information_confirmation": (TypeAdapter(tuple[Confirmer, ...]), about_confirmers),
    "generations": (TypeAdapter(tuple[Generation, ...]), about_generations),
    "activation": (TypeAdapter(tuple[ActivationChannel, ...]), about_activation),
    "messages": (TypeAdapter(MessagePolicy), about_messages),
    "publications": (TypeAdapter(Publications), about_publications),
}


def contradictions(policy: object) -> Faults:
    """What is wrong with the rules as they were read: each fault's field below `policy`, and the reason.

    A part of the wrong shape is passed over; whoever reads its shape says so.
    """
    for part, (adapter, judge) in _PARTS.items():
        if not isinstance(policy, dict) or not policy.get(part):
            continue
        try:
            value = adapter.validate_json(to_json(policy[part]), strict=True)
        except ValidationError:
            continue
        for below, reason in judge(value):
            yield f"{part}.{below}".rstrip("."), reason
