"""Text messages by somebody else's network.

True here: a send carries the message's own id, so that a provider who knows it can tell a repeat; `deduplicates` says
whether this one does. Never here: a send whose outcome is guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from service.locale import Locale


@dataclass(frozen=True, slots=True)
class Sms:
    """One text message. `message_id` stays the same over all tries; `code` is the one-time code in the text, if any.

    values: what stands in the places of the template, for providers who keep the templates themselves and put it there.
    """

    message_id: str
    to: str
    template: str
    text: str
    code: str | None
    values: Mapping[str, str]
    locale: Locale


class SmsGateway(Protocol):
    """A way to send text messages."""

    deduplicates: bool

    async def send(self, sms: Sms) -> None:
        """Hand the message over. Raises SendFailed, SendRefused or SendUncertain."""
