"""A span for every call of the database that a request waits for by itself.

True here: it is named after the command and the collection, and nothing else of a command is looked at. Trips that several
share belong to none of them (service/mongo/batches.py), so they have none. Never here: a document, a filter, or what the
server says of a failure but its code.
"""

from typing import Final

from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from service.tracing import Span, Tracing

_COMMANDS: Final = frozenset({"find", "aggregate", "count", "insert", "update", "delete", "findAndModify", "getMore"})
_SAID_ELSEWHERE: Final = {"getMore": "collection"}


class CommandSpans(CommandListener):
    """Listens to the driver, on its threads."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._spans: dict[int, Span] = {}

    def started(self, event: CommandStartedEvent) -> None:
        command = event.command_name
        if command not in _COMMANDS:
            return
        span = self._tracing.beneath(command, "client")
        if span is None:
            return
        collection = event.command[_SAID_ELSEWHERE.get(command, command)]
        span.name(f"{command} {collection}")
        span.say({"db.system.name": "mongodb", "db.operation.name": command, "db.collection.name": collection})
        self._spans[event.request_id] = span

    def succeeded(self, event: CommandSucceededEvent) -> None:
        if span := self._spans.pop(event.request_id, None):
            span.end()

    def failed(self, event: CommandFailedEvent) -> None:
        if span := self._spans.pop(event.request_id, None):
            span.fail(str(event.failure.get("code", "away")))
            span.end()
