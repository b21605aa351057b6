"""What follows from what happened to an insurance relation: for a person's own registration, for their cards, and who is told.

True here: everything is read off the person's relations as they are, so drawing the consequences again changes nothing; they
are drawn right after the write that brought them about, and by the relay if the process died in between. When somebody's
insurance has ended, the medical account on each of their cards closes, by one conditional write that says in the card's
history that it is paid out. Never here: money; the payment is made by those who keep the account.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from service.announcements import Announcement, Topic
from service.cards import Card, CardStore, Happened, MedicalStatus
from service.clock import Clock
from service.errands import Errand
from service.errors import Refusal
from service.holders import HolderStore
from service.ids import HolderId
from service.insurance import FINAL, Ending, News, NewsName, Relation, RelationStore, has_ended, is_about
from service.locale import Locale
from service.notifications import Notifications
from service.regions import Channel

PAID_OUT: Final = "medicalPaidOut"
# A conflict means somebody changed the card or the relation between our read and our write.
_ROUNDS: Final = 5
_PAGE: Final = 100
# Accounts are closed by the bureau that keeps the register, whoever reported what it follows from.
_BUREAU: Final[Channel] = "bureau"

# What people hear: of a registration by their employer, and of one of their own.
_BY_EMPLOYER: Final[Mapping[NewsName, Topic]] = {
    "registered": Topic.INSURANCE_REGISTERED,
    "ended": Topic.INSURANCE_SUSPENDED,
}
_BY_ONESELF: Final[Mapping[NewsName, Topic]] = {
    "registered": Topic.INSURANCE_SELF_REGISTERED,
    "widened": Topic.INSURANCE_SELF_REGISTERED,
}


class InsuranceErrands:
    """Drawing consequences."""

    def __init__(
        self, *, store: RelationStore, cards: CardStore, holders: HolderStore, notifications: Notifications, clock: Clock
    ) -> None:
        self._store = store
        self._cards = cards
        self._holders = holders
        self._notifications = notifications
        self._clock = clock

    async def undone(self, limit: int) -> Sequence[Errand]:
        """News that nobody has carried yet; each may be carried as often as need be."""
        return [Errand(news.news_id, partial(self._carry, news)) for news in await self._store.news(limit)]

    async def _carry(self, news: News) -> None:
        relations = await self.settle(news.relation.holder_id, news.locale)
        topic = _topic(news, relations)
        holder = await self._holders.holder(news.relation.holder_id) if topic else None
        if topic and holder:
            await self._notifications.tell(holder, Announcement(news.news_id, topic, news.locale))
        await self._store.carried(news)

    async def settle(self, holder_id: HolderId, locale: Locale) -> Sequence[Relation]:
        """Bring a person's own registration and cards to what their relations say; the relations as they are then.

        Refuses with `unavailable` when they do not hold still.
        """
        for _ in range(_ROUNDS):
            relations = await self._store.of_holder(holder_id)
            if (over := self._own_is_over(relations)) is None:
                break
            await self._store.change(*over, locale)
        else:
            raise Refusal("unavailable", retry_after=1)
        if has_ended(relations):
            async for card in self._all_cards(holder_id):
                await self._pay_out(card, _last_for_good(relations), locale)
        return relations

    def _own_is_over(self, relations: Sequence[Relation]) -> tuple[Relation, Relation] | None:
        """A person's own registration that something else has ended, as it is and as it shall be."""
        own = next((one for one in relations if one.runs and one.employer_id is None), None)
        if own is None:
            return None
        now = self._clock.now()
        for one in relations:
            if one.employer_id is not None and one.runs and is_about(one, own.insurances):
                return own, replace(own, ending=Ending(max(one.since, own.since), now, one.by, "employed"))
            if one.ending is not None and one.ending.reason in FINAL and one.ending.on >= own.since:
                return own, replace(own, ending=replace(one.ending, at=now))
        return None

    async def _all_cards(self, holder_id: HolderId) -> AsyncIterator[Card]:
        page = await self._cards.cards_of(holder_id, None, _PAGE)
        while page:
            for card in page:
                yield card
            page = await self._cards.cards_of(holder_id, page[-1].card_id, _PAGE) if len(page) == _PAGE else []

    async def _pay_out(self, card: Card, ending: Ending, locale: Locale) -> None:
        """Close the medical account on a card, once, whatever else happens to the card."""
        for _ in range(_ROUNDS):
            # What was never opened has nothing to pay out, and what an insurer froze is between them.
            if card.stored_medical is not MedicalStatus.NORMAL:
                return
            now = self._clock.now()
            what = Happened(
                name=PAID_OUT,
                at=now,
                channel=_BUREAU,
                by=ending.by,
                reason=ending.reason,
                request=None,
                tell=card.holder_id,
                locale=locale,
            )
            if await self._cards.change(card, replace(card.as_of(now), stored_medical=MedicalStatus.CLOSED), what) is not None:
                return
            found = await self._cards.card(card.card_id, card.holder_id)
            if found is None:
                return
            card = found
        raise Refusal("unavailable", retry_after=1)


def _last_for_good(relations: Sequence[Relation]) -> Ending:
    """The ending for good that came last; there is one where the insurance has ended."""
    endings = [one.ending for one in relations if one.ending is not None and one.ending.reason in FINAL]
    return max(endings, key=lambda ending: (ending.on, ending.at))


def _topic(news: News, relations: Sequence[Relation]) -> Topic | None:
    """As what the person hears of it; of what ended their own registration they hear by itself."""
    if news.relation.employer_id is None:
        return _BY_ONESELF.get(news.name)
    return Topic.INSURANCE_ENDED if news.name == "ended" and has_ended(relations) else _BY_EMPLOYER.get(news.name)
