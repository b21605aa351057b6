"""Time.

True here: everything that asks for the time asks a Clock, so that a sandbox can move it; nothing that leaves a process
or is compared with storage carries more than milliseconds, because that is what the database keeps.
"""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

CHINA: Final = timezone(timedelta(hours=8))


class Clock:
    """The service's time. In production the offset is zero and stays so; a sandbox moves it forward."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        """This moment in UTC, cut to milliseconds."""
        moment = datetime.now(UTC) + self.offset
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def show(moment: datetime) -> str:
    """`2026-11-22T16:00:00.000+08:00`: the one form in which a time leaves the service."""
    return moment.astimezone(CHINA).isoformat(timespec="milliseconds")
