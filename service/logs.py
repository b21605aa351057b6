"""Logs: one JSON object a line, made of names and codes.

True here: our own lines carry no personal data because nothing that a person sent is ever given to them; other people's
loggers are cut down to who said it and how bad it is, because their texts hold requests and values.
"""

import logging
import sys
from typing import Final

import orjson
import structlog
from structlog.typing import EventDict

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Foreign(logging.Handler):
    """A line about somebody else's line: logger, level, kind of exception."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0] if record.exc_info else None
        structlog.get_logger(record.name).log(
            record.levelno, "library", error=error.__name__ if error else None, place=f"{record.module}:{record.lineno}"
        )


def _line(_: object, __: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str)


def set_up_logs(level: str) -> None:
    """Send every log line of this process to standard error, from `level` up."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_Foreign()]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
