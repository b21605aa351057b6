"""Look-ups: an operator asks who has an ID number.

True here: it is counted, then found, then written into the person's log, and only then shown, masked and no more of it than
the operator may see; one who finds nobody learns no more than that, in the same steps. Who has come with a matter of their
own is looked up for it; a look outside any case needs the consent of whom it is about, and who has not given it is nobody
there. Where the policy of their region says so, people hear of it before anything is shown. Never here: a reason in free
words; people write names into those.
"""

from dataclasses import dataclass
from typing import Final, Literal

from service.actors import Actor
from service.announcements import Announcement, Topic
from service.cards import Card, MedicalStatus, medical_among
from service.clock import CHINA, Clock
from service.consents import Consents, Purpose
from service.desks import Desk, PersonalFile
from service.errors import Refusal, invalid
from service.holders import Holder
from service.ids import derived_id
from service.limits import LOOK_UPS, Limits
from service.locale import DEFAULT_LOCALE
from service.notifications import Notifications
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


# A question about somebody who brought no matter. On the phone it is the caller's own, and the ticket names the call.
_OUTSIDE_A_CASE: Final[frozenset[LookUpReason]] = frozenset({"enquiry"})


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

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        desk: Desk,
        consents: Consents,
        limits: Limits,
        regions: Regions,
        notifications: Notifications,
        clock: Clock,
    ) -> None:
        self._desk = desk
        self._consents = consents
        self._limits = limits
        self._regions = regions
        self._notifications = notifications
        self._clock = clock

    async def look_up(self, operator: Operator, id_number: ResidentId, reason: LookUpReason, ticket: str | None) -> Found:
        """Who has this ID number, as far as this operator may know.

        Refuses with `invalid_request` on the phone without a ticket; with `rate_limited` after LOOK_UPS different people, found
        or not; with `not_found` when there is no such person, none with a card that this operator may see, or, outside a case
        and off the phone, none who agreed to that.
        """
        on_the_phone = operator.actor().channel == "hotline"
        if on_the_phone and ticket is None:
            raise invalid("ticket", "missing")
        await self._limits.count_distinct(LOOK_UPS, operator.operator_id, id_number.number)
        file = await self._desk.file_of(id_number.number)
        await self._desk.write_down(file.holder_id, operator, action="lookUp", reason=reason, ticket=ticket, request=b"")
        cards = file.seen_by(operator.actor())
        if reason in _OUTSIDE_A_CASE and not on_the_phone:
            # Asked also about nobody, so that three answers are one in words and in steps.
            agreed = await self._consents.has(file.holder_id, Purpose.COUNTER_LOOK_UP, self._clock.now())
            if file.holder is None or not cards or not agreed:
                raise Refusal("not_found", {"reason": "nobodyOrNoConsent"})
        if file.holder is None or not cards:
            raise Refusal("not_found")
        await self._tell(file.holder, operator)
        return Found(file.holder, tuple(self._offered(card, file, id_number, operator.actor()) for card in cards))

    async def _tell(self, holder: Holder, operator: Operator) -> None:
        """Where the region of their insurance wants it, people hear who looked them up: once a day and operator."""
        region = self._regions.by_code.get(holder.region_code)
        if region is None or not region.policy.messages.tell_counter_look_ups:
            return
        today = self._clock.now().astimezone(CHINA).date().isoformat()
        look = derived_id("lku", holder.holder_id, operator.operator_id, today)
        place = operator.institution.names
        told = Announcement(look, Topic.LOOKED_UP, DEFAULT_LOCALE, lambda locale: {"place": place.read_in(locale)})
        await self._notifications.tell(holder, told)

    def _offered(self, card: Card, file: PersonalFile, id_number: ResidentId, actor: Actor) -> Offered:
        region, now = self._regions.get(card.region_code), self._clock.now()
        minor = id_number.age_on(now.astimezone(CHINA).date()) < region.policy.guardian_age
        about = Circumstances("minor" if minor else "adult", minor, guardian=minor, served=True)
        return Offered(card, region, medical_among(card, file.cards, region, now), offers(card, actor, region, about, now))
