"""Email by somebody else's server.

True here: a letter carries the message's own id over all tries. Never here: a letter whose outcome is guessed.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Email:
    """One letter in plain text. `message_id` stays the same over all tries; `code` is the one-time code in it, if any."""

    message_id: str
    to: str
    template: str
    subject: str
    text: str
    code: str | None


class EmailGateway(Protocol):
    """A way to send email; `deduplicates` says whether this one sends a letter once that it is given twice."""

    deduplicates: bool

    async def send(self, email: Email) -> None:
        """Hand the letter over. Raises SendFailed, SendRefused or SendUncertain."""
