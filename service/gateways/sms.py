"""Text messages by somebody else's network.

True here: a send carries the message's own id, so that a provider who knows it can tell a repeat; `deduplicates` says
whether this one does. Never here: a send whose outcome is guessed.
"""

from dataclasses import dataclass
from typing import Protocol


class SendFailed(Exception):  # noqa: N818  it says what happened
    """The provider certainly did not take the message; it may be offered again."""


class SendUncertain(Exception):  # noqa: N818  it says what happened
    """Nobody knows whether the provider took the message."""


@dataclass(frozen=True, slots=True)
class Sms:
    """One text message. `message_id` stays the same over all tries; `code` is the one-time code in the text, if any."""

    message_id: str
    to: str
    template: str
    text: str
    code: str | None


class SmsGateway(Protocol):
    """A way to send text messages."""

    deduplicates: bool

    async def send(self, sms: Sms) -> None:
        """Hand the message over. Raises SendFailed or SendUncertain."""
