"""Card making: the card follows its application, from coming into being to its holder's hand, or to nobody's.

True here: doing it again changes nothing, so that the relay may; whoever decided may have been overtaken, so what was made is
looked at once more. The figures and accounts are the person's and go on under the next card. Never here: a decision; that is
the application's (service/production.py).
"""

from dataclasses import replace
from typing import Literal, Protocol

from service.activations import ActivationStore
from service.applications import Application, ApplicationStage, ApplicationStore, Made
from service.balances import BalanceStore, Figure
from service.cards import MOST_CARDS, Bank, BankStatus, Card, MedicalStatus, Pin, PinState, Stage, Status
from service.changes import ROUNDS, Changes, Order, happened
from service.clock import CHINA, Clock
from service.errors import Refusal
from service.holders import Holder, HolderStore
from service.ids import CardId
from service.regions import Regions

_S = ApplicationStage

Why = Literal["replaced", "rejected", "batchFailed"]


class ProductionCards(ActivationStore, BalanceStore, Protocol):
    """The cards' storage as production needs it."""

    async def add(self, card: Card, id_number: str, figures: tuple[Figure, ...]) -> bool:
        """Keep a new card; False when there is one with its id, or with its number in its region."""


class CardMaking:
    """Bringing cards to where their applications are."""

    def __init__(  # noqa: PLR0913  everything it stands on, named
        self,
        *,
        store: ApplicationStore,
        cards: ProductionCards,
        changes: Changes,
        holders: HolderStore,
        regions: Regions,
        clock: Clock,
    ) -> None:
        self._store = store
        self._cards = cards
        self._changes = changes
        self._holders = holders
        self._regions = regions
        self._clock = clock

    async def bring(self, application: Application, made: Made) -> None:
        """Make the card unless it is there, bring it forward, and end the one that it replaces; or end it.

        Refuses with `card_number_taken` when somebody else's card has the number since: the application is then back before
        production.
        """
        card = await self._cards.card(made.card_id, application.holder_id)
        if card is None:
            if application.stage is _S.REJECTED:
                return
            card = await self._make(application, made)
            # While it was being made the application may have ended, or gone back; whoever did that found no card.
            anew = await self._store.application(application.application_id)
            if anew is None or anew.made != made:
                await self.discard(application, made.card_id, "batchFailed")
                return
            application = anew
        if application.stage is _S.REJECTED:
            await self.discard(application, made.card_id, "rejected")
            return
        await self._move_card(card, application)
        if application.stage is _S.DELIVERED and application.replaces is not None:
            old = await self._cards.card(application.replaces, application.holder_id)
            if old is not None:
                await self._changes.replaced(old, _order(application))

    async def _move_card(self, card: Card, application: Application) -> None:
        """Forward only: who comes late finds the card ahead. A card never becomes one under test."""
        reached = Stage(application.stage.value)
        for _ in range(ROUNDS):
            stage = max(card.stage, reached, key=list(Stage).index)
            after = replace(card, stage=stage, test_batch=card.test_batch and application.under_test)
            if after == card or card.stored_status is Status.CANCELLED:
                return
            name = "stageReached" if stage is not card.stage else "testPassed"
            what = happened(name, card, _order(application), self._clock.now(), str(stage))
            if await self._cards.change(card, after, what) is not None:
                return
            card = await self._changes.anew(card)
        raise Refusal("unavailable", retry_after=1)

    async def discard(self, application: Application, card_id: CardId, why: Why) -> None:
        """A card that was made for an application is to be nobody's."""
        card = await self._cards.card(card_id, application.holder_id)
        if card is not None:
            await self._changes.discarded(card, why, _order(application))

    async def _make(self, application: Application, made: Made) -> Card:
        """The new card, sealed, with the person's figures."""
        holder = await self._holders.holder(application.holder_id)
        if holder is None:
            raise Refusal("not_found")
        card, figures = await self._new_card(application, made, holder)
        if await self._cards.add(card, holder.id_number, figures):
            return card
        known = await self._cards.card(card.card_id, card.holder_id)
        if known is not None:
            return known
        # Somebody else's card got the number since it was looked for, as by an import.
        before = application.step(_S.BANK_PRE_OPENED, _order(application), self._clock.now())
        await self._store.change(application, replace(application, stages=before, due=application.owing(None), made=None))
        raise Refusal("card_number_taken")

    async def _new_card(self, application: Application, made: Made, holder: Holder) -> tuple[Card, tuple[Figure, ...]]:
        region = self._regions.get(application.region_code)
        began = max(reached.at for reached in application.stages if reached.stage is _S.IN_PRODUCTION)
        medical, figures = await self._accounts(application)
        card = Card(
            card_id=made.card_id,
            holder_id=holder.holder_id,
            region_code=region.code,
            number=made.number,
            identification_code=made.identification_code,
            holder_name=holder.name,
            generation=region.policy.current_generation,
            bank=Bank(application.bank_code, made.bank_account, BankStatus.PENDING),
            stage=Stage.IN_PRODUCTION,
            test_batch=application.under_test,
            stored_status=Status.SEALED,
            temporary_loss_until=None,
            activation=None,
            stored_medical=medical,
            pin=Pin(PinState.INITIAL, 0),
            expires_on=region.policy.expiry_of(began.astimezone(CHINA).date()),
            version=0,
        )
        return card, figures

    async def _accounts(self, application: Application) -> tuple[MedicalStatus, tuple[Figure, ...]]:
        """The accounts are the person's and go on under the next card; one that was closed does not."""
        cards = await self._cards.cards_of(application.holder_id, None, MOST_CARDS)
        alive = [card for card in cards if card.stored_medical is not MedicalStatus.CLOSED]
        alive.sort(key=lambda card: (card.card_id != application.replaces, card.region_code != application.region_code))
        balance = await self._cards.balance(alive[0].card_id, application.holder_id) if alive else None
        return (MedicalStatus.UNOPENED, ()) if balance is None else (balance.stored_medical, balance.figures)


def _order(application: Application) -> Order:
    """What follows from a stage, follows as whoever brought the application there."""
    last = application.stages[-1]
    return Order(last.actor(), last.request, application.locale)
