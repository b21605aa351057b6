"""One-time codes: six digits that go to a mobile or an address and come back from who holds it.

True here: a code is drawn by the system's own chance, lives for LIFE, is judged MOST_TRIES times at most and is sent no more
often than a mobile may be written to. Never here: a code in storage; who keeps one keeps a keyed code over it and over what
it is bound to.
"""

import secrets
from datetime import datetime, timedelta
from typing import Final

from service.limits import SMS_PER_MOBILE, Limits
from service.locale import Locale
from service.notifications import Channel, Notice

LIFE: Final = timedelta(minutes=5)
RESEND_AFTER: Final = timedelta(seconds=60)
MOST_TRIES: Final = 5


def new_code() -> str:
    """Six digits."""
    return f"{secrets.randbelow(1_000_000):06d}"


async def pace_sms(limits: Limits, mobile: str) -> None:
    """Count a text to a mobile. Refuses with `rate_limited`."""
    for limit in SMS_PER_MOBILE:
        await limits.hit(limit, mobile)


def code_notice(  # noqa: PLR0913  what is sent, where, and until when it is any use
    code: str,
    *,
    happening: str,
    template: str,
    to: str,
    locale: Locale,
    suppressed: bool,
    until: datetime,
    life: timedelta = LIFE,
    channel: Channel = "sms",
) -> Notice:
    """The message that brings a code, at any hour. One that is `suppressed` is stored and carried, and not sent."""
    values = {"code": code, "minutes": int(life.total_seconds() // 60)}
    return Notice(happening, template, to, locale, values, suppressed, until, channel)
