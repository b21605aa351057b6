"""Receipts: signed statements of what was done to a card, for whom it was done to and whoever did it for them.

True here: a receipt follows from the card's history and nothing else, so it can be had at any time, and its claims are the
same each time; only the signature differs. It says ids and times, nothing about a person. It has no end and opens nothing; a
key that signed receipts proves them for as long as it is published. Never here: a receipt for something that is not written
down.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from service.cards import Activation, Card, CardStore
from service.clock import show
from service.errors import Refusal
from service.ids import ActivationId, CardId, HolderId, derived_id, is_id
from service.regions import Channel
from service.tokens import Tokens

ACTIVATED: Final = "activated"
# Which happenings of a card have a receipt, and what it calls them.
EVENTS: Final[Mapping[str, str]] = {
    ACTIVATED: "card.activated",
    "temporaryLossReported": "card.temporaryLossReported",
    "formalLossReported": "card.formalLossReported",
    "replaced": "card.replaced",
}
# A signature takes the processor some eighty microseconds, and nobody else is answered meanwhile.
_SIGNED_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done to a card that has a receipt.

    `receipt_id` names it for good; `proof_id` is the receipt's `jti`: of an activation its id, else the same.
    """

    receipt_id: str
    proof_id: str
    happening: str
    card_id: CardId
    region_code: str
    channel: Channel
    at: datetime
    holder_id: HolderId
    guardian: HolderId | None

    @property
    def event(self) -> str:
        return EVENTS[self.happening]

    def is_for(self, holder_id: HolderId) -> bool:
        """Whose receipt it is: the card's holder's, and that of a guardian who acted for them."""
        return holder_id in {self.holder_id, self.guardian}

    def claims(self) -> dict[str, object]:
        """What the receipt says."""
        return {
            "iat": int(self.at.timestamp()),
            "jti": self.proof_id,
            "event": self.event,
            "cardId": self.card_id,
            "regionCode": self.region_code,
            "channel": self.channel,
            "at": show(self.at),
        }


@dataclass(frozen=True, slots=True)
class Receipt:
    """A deed with its receipt, a compact JWS (RFC 7515) signed just now."""

    deed: Deed
    text: str


class DeedStore(Protocol):
    """What was done to cards, as they keep it."""

    async def of_card(self, card_id: CardId) -> list[Deed]:
        """The deeds on a card, whoever's it is, in no order."""

    async def of_person(self, holder_id: HolderId) -> list[Deed]:
        """The deeds on somebody's cards, and on others' cards where they acted as guardian, in no order."""


def receipt_id_of(happening: str) -> str:
    """The id of the receipt for something that happened, which names itself for good."""
    return derived_id("rcp", happening)


def activation_deed(card: Card, activation: Activation) -> Deed:
    """The activation of a card as a deed."""
    return Deed(
        receipt_id=receipt_id_of(activation.activation_id),
        proof_id=activation.activation_id,
        happening=ACTIVATED,
        card_id=card.card_id,
        region_code=card.region_code,
        channel=activation.channel,
        at=activation.at,
        holder_id=card.holder_id,
        guardian=activation.guardian,
    )


def activation_id_of(card_id: CardId, version: int) -> ActivationId:
    """The id of the activation that changed the card of this version."""
    return ActivationId(derived_id("act", card_id, str(version)))


class Receipts:
    """Giving out receipts, and telling ours from others."""

    def __init__(self, store: DeedStore, cards: CardStore, tokens: Tokens) -> None:
        self._store = store
        self._cards = cards
        self._tokens = tokens

    async def mine(
        self, holder_id: HolderId, card_id: str | None, after: tuple[datetime, str] | None, limit: int
    ) -> tuple[list[Receipt], tuple[datetime, str] | None]:
        """A page of the holder's receipts, newest first, and where the next begins; of one card where one is named.

        They are those for the holder's own cards, and for what the holder did as guardian. Refuses with `not_found` for a
        card that is not theirs and on which they did nothing.
        """
        deeds = await self._of(holder_id, card_id)
        deeds.sort(key=_place, reverse=True)
        rest = [deed for deed in deeds if after is None or _place(deed) < after]
        page = rest[:limit]
        receipts: list[Receipt] = []
        for number, deed in enumerate(page, start=1):
            receipts.append(self._sign(deed))
            if number % _SIGNED_AT_ONCE == 0:
                await asyncio.sleep(0)
        return receipts, _place(page[-1]) if len(rest) > limit else None

    async def one(self, holder_id: HolderId, receipt_id: str) -> Receipt:
        """One of the holder's receipts. Refuses with `not_found`, also for somebody else's."""
        if is_id("rcp", receipt_id):
            for deed in await self._of(holder_id, None):
                if deed.receipt_id == receipt_id:
                    return self._sign(deed)
        raise Refusal("not_found")

    def verify(self, receipt: str) -> dict[str, Any] | None:
        """The facts of a receipt of ours, or None."""
        return self._tokens.read_receipt(receipt)

    async def _of(self, holder_id: HolderId, card_id: str | None) -> list[Deed]:
        if card_id is None:
            return [deed for deed in await self._store.of_person(holder_id) if deed.is_for(holder_id)]
        found = await self._store.of_card(CardId(card_id)) if is_id("card", card_id) else []
        theirs = [deed for deed in found if deed.is_for(holder_id)]
        if not theirs and (not is_id("card", card_id) or await self._cards.card(CardId(card_id), holder_id) is None):
            raise Refusal("not_found")
        return theirs

    def _sign(self, deed: Deed) -> Receipt:
        return Receipt(deed, self._tokens.sign_receipt(deed.claims()))


def _place(deed: Deed) -> tuple[datetime, str]:
    return deed.at, deed.receipt_id
