"""Which happenings people hear of, and in which words."""

from collections.abc import Mapping
from typing import Final

TEMPLATES: Final[Mapping[str, str]] = {
    "activated": "card_activated",
    "activationReversed": "activation_reversed",
    "temporaryLossReported": "temporary_loss_reported",
    "formalLossReported": "formal_loss_reported",
    "lossCancelled": "loss_cancelled",
    "locked": "card_locked",
    "unlocked": "card_unlocked",
    "cancelled": "card_cancelled",
    "replaced": "card_replaced",
    "bankActivated": "bank_activated",
    "pinChanged": "pin_changed",
    "pinReset": "pin_reset",
    "pinLocked": "pin_locked",
}
