"""What may become of a message that was handed to somebody else's network.

True here: whoever sends says one of these or returns, and to return is to say that the provider has the message. Never here:
a provider's own words; they may repeat a number or a text.
"""

from typing import Final

# A gateway has its answer by then or says what is known without one: well before whoever called gives up.
ANSWER_SECONDS: Final = 15.0


class SendFailed(Exception):  # noqa: N818  it says what happened
    """The provider certainly did not take the message; it may be offered again."""


class SendRefused(Exception):  # noqa: N818  it says what happened
    """The provider did not take the message and never will, for a bad number, say; offering it again is no use."""


class SendUncertain(Exception):  # noqa: N818  it says what happened
    """Nobody knows whether the provider took the message."""
