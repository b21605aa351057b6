"""Time.

True here: everything that asks for the time asks a Clock, so that a sandbox can move it; nothing that leaves a process
or is compared with storage carries more than milliseconds, because that is what the database keeps.
"""

from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

CHINA: Final = timezone(timedelta(hours=8))


# replace() would do, in three times the time, and every request asks for the time more than once.
_BELOW_A_MILLISECOND: Final = tuple(timedelta(microseconds=microseconds) for microseconds in range(1000))


class Clock:
    """The service's time. In production the offset is zero and stays so; a sandbox moves it forward."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def now(self) -> datetime:
        """This moment in UTC, cut to milliseconds."""
        moment = datetime.now(UTC) + self.offset if self.offset else datetime.now(UTC)
        return moment - _BELOW_A_MILLISECOND[moment.microsecond % 1000]

    @staticmethod
    def outside() -> datetime:
        """This moment in UTC by the machine, wherever a sandbox moved its own: what people's devices go by."""
        return datetime.now(UTC)


# isoformat would do, in four times the time, and every answer shows several times.
_TWO: Final = tuple(f"{number:02d}" for number in range(60))
_THREE: Final = tuple(f"{number:03d}" for number in range(1000))


@lru_cache(maxsize=4096)
def _day(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


@lru_cache(maxsize=4096)
def show(moment: datetime) -> str:
    """`2026-11-22T16:00:00.000+08:00`: the one form in which a time leaves the service."""
    here = moment.astimezone(CHINA)
    day, milliseconds = _day(here.toordinal()), _THREE[here.microsecond // 1000]
    return f"{day}T{_TWO[here.hour]}:{_TWO[here.minute]}:{_TWO[here.second]}.{milliseconds}+08:00"
