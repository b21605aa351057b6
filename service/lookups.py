"""Look-ups: an operator asks who has an ID number.

True here: it is counted, then found, then written into the person's log, and only then shown, masked and no more of it than
the operator may see; one who finds nobody learns no more than that, in the same steps. Never here: a reason in free words;
people write names into those.
"""

from dataclasses import dataclass
from typing import Literal

from service.actors import Actor
from service.cards import Card, MedicalStatus, medical_among
from service.clock import CHINA, Clock
from service.desks import Desk, PersonalFile
from service.errors import Refusal, invalid
from service.holders import Holder
from service.limits import LOOK_UPS, Limits
from service.numbers import ResidentId
from service.operators import Operator
from service.regions import Region, Regions
from service.transitions import Circumstances, Offer, offers

# Why somebody is looked up: what they came for.
LookUpReason = Literal[
    "activation",
    "bankActivation",
    "visit",
    "loss",
    "replacement",
    "pin",
    "lock",
    "cancellation",
    "application",
    "collection",
    "insurance",
    "enquiry",
    "complaint",
]


@dataclass(frozen=True, slots=True)
class Offered:
    """A card, and what the operator may do with it now. Whether a minor's guardian came along is seen when it is done."""

    card: Card
    region: Region
    medical: MedicalStatus
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A person, and those of their cards that the operator may see."""

    holder: Holder
    cards: tuple[Offered, ...]


class LookUps:
    """Looking people up."""

    def __init__(self, *, desk: Desk, limits: Limits, regions: Regions, clock: Clock) -> None:
        self._desk = desk
        self._limits = limits
        self._regions = regions
        self._clock = clock

    async def look_up(self, operator: Operator, id_number: ResidentId, reason: LookUpReason, ticket: str | None) -> Found:
        """Who has this ID number, as far as this operator may know.

        Refuses with `invalid_request` on the phone without a ticket; with `rate_limited` after LOOK_UPS different people, found
        or not; with `not_found` when there is no such person, or none with a card that this operator may see.
        """
        if operator.actor().channel == "hotline" and ticket is None:
            raise invalid("ticket", "missing")
        await self._limits.count_distinct(LOOK_UPS, operator.operator_id, id_number.number)
        file = await self._desk.file_of(id_number.number)
        await self._desk.write_down(file.holder_id, operator, action="lookUp", reason=reason, ticket=ticket, request=b"")
        cards = file.seen_by(operator.actor())
        if file.holder is None or not cards:
            raise Refusal("not_found")
        return Found(file.holder, tuple(self._offered(card, file, id_number, operator.actor()) for card in cards))

    def _offered(self, card: Card, file: PersonalFile, id_number: ResidentId, actor: Actor) -> Offered:
        region, now = self._regions.get(card.region_code), self._clock.now()
        minor = id_number.age_on(now.astimezone(CHINA).date()) < region.policy.guardian_age
        about = Circumstances("minor" if minor else "adult", minor, guardian=minor, served=True)
        return Offered(card, region, medical_among(card, file.cards, region, now), offers(card, actor, region, about, now))
