"""The desk: what every counter begins with, finding a person by ID number and writing down that it was done.

True here: whoever asks for somebody who is not there takes the same steps as for anybody else, down to the entry in a log
that nobody owns, where an auditor finds who asks for people who do not exist. Never here: who may do what; that is the table
beside the card's transitions.
"""

from dataclasses import dataclass

from service.actors import Actor
from service.cards import MOST_CARDS, Card, CardStore
from service.clock import Clock
from service.holders import Access, AccessLogStore, Holder, HolderStore
from service.ids import HolderId, derived_id, new_id
from service.operators import Operator
from service.vault import Vault


@dataclass(frozen=True, slots=True)
class PersonalFile:
    """A person and all their cards; for somebody who is not there an id that is nobody's, and no cards."""

    holder_id: HolderId
    holder: Holder | None
    cards: tuple[Card, ...]

    def seen_by(self, actor: Actor) -> tuple[Card, ...]:
        """The cards that an operator may see: of their institution's regions, and for a teller of their own bank."""
        return tuple(card for card in self.cards if sees(actor, card))


def sees(actor: Actor, card: Card) -> bool:
    """Whether a card is one that an operator may see."""
    own_bank = actor.role != "bankTeller" or actor.bank_code == card.bank.code
    return own_bank and card.region_code in actor.region_codes


class Desk:
    """Finding people, and writing down that somebody looked."""

    def __init__(self, *, holders: HolderStore, cards: CardStore, log: AccessLogStore, vault: Vault, clock: Clock) -> None:
        self._holders = holders
        self._cards = cards
        self._log = log
        self._vault = vault
        self._clock = clock

    async def file_of(self, id_number: str) -> PersonalFile:
        """The file of whoever has an ID number."""
        holder = await self._holders.holder_by_number(id_number)
        nobody = HolderId(derived_id("hld", self._vault.mac("nobody", id_number).hex()))
        holder_id = holder.holder_id if holder else nobody
        cards = await self._cards.cards_of(holder_id, None, MOST_CARDS)
        return PersonalFile(holder_id, holder, tuple(cards))

    async def write_down(  # noqa: PLR0913  whose log, who, what, why, in which call and in which request
        self, holder_id: HolderId, operator: Operator, *, action: str, reason: str | None, ticket: str | None, request: bytes
    ) -> None:
        """Write an operator's look or change into a person's log, once for a keyed request; returns when it is safe."""
        access_id = derived_id("acc", request.hex(), holder_id, action) if request else new_id("acc")
        access = Access(
            access_id=access_id,
            at=self._clock.now(),
            action=action,
            by=operator.role,
            channel=operator.actor().channel or "bureau",
            reason=reason,
            operator_id=operator.operator_id,
            ticket=ticket,
        )
        await self._log.record(holder_id, access)
