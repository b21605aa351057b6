"""Bookkeeping: puts together what is written down about looks and changes, and what keeps it from being changed.

True here: stores and neighbours come from outside. Never here: a rule.
"""

from dataclasses import dataclass
from typing import Protocol

from service.card_accesses import CardAccesses, ChangeStore
from service.clock import Clock
from service.holders import AccessLogStore
from service.ledger import Ledger, LedgerStore
from service.looks import Looks
from service.sequencing import Sequencer, SequencerStore
from service.tokens import Tokens


class BookStore(LedgerStore, SequencerStore, Protocol):
    """The ledger's storage, as those who write it need it."""


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """`cards` hears what happened to cards; `sequencer` is a process's work besides answering."""

    looks: Looks
    ledger: Ledger
    cards: CardAccesses
    sequencer: Sequencer


def bookkeeping(
    *, store: BookStore, changes: ChangeStore, accesses: AccessLogStore, tokens: Tokens, clock: Clock
) -> Bookkeeping:
    """Put it together."""
    return Bookkeeping(
        looks=Looks(accesses),
        ledger=Ledger(store, accesses, clock),
        cards=CardAccesses(changes, accesses),
        sequencer=Sequencer(store, tokens.sign_checkpoint, clock),
    )
