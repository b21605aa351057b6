"""Deadlines of requests: a task that takes too long is cancelled, and learns that it was this that cancelled it.

True here: every request has its deadline, and having one costs it next to nothing: all of them last equally long, so they
end in the order in which they began, and one look now and then at the oldest finds every one that is over.
"""

import asyncio
from types import TracebackType
from typing import Any, Final

_LOOKS: Final = 20


class Deadlines:
    """Deadlines of `seconds`, for tasks of one loop; they end up to a twentieth of that late."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pause = seconds / _LOOKS
        self._due: dict[asyncio.Task[Any], float] = {}
        self._look: asyncio.TimerHandle | None = None

    def __call__(self, task: asyncio.Task[Any]) -> "_Deadline":
        """`with deadlines(task):` is a deadline for what this task does inside. Raises TimeoutError when it is over."""
        return _Deadline(self, task)

    def begin(self, task: asyncio.Task[Any]) -> None:
        """From now on the task's time runs."""
        loop = asyncio.get_running_loop()
        self._due[task] = loop.time() + self._seconds
        if self._look is None:
            self._look = loop.call_later(self._pause, self._cancel_overdue, loop)

    def end(self, task: asyncio.Task[Any]) -> bool:
        """The task's time runs no more; whether it was over."""
        return self._due.pop(task, None) is None

    def _cancel_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, due in list(self._due.items()):
            if due > now:
                break
            del self._due[task]
            task.cancel()
        # Nobody under way, nothing to look at: whoever comes next starts the looking again.
        self._look = loop.call_later(self._pause, self._cancel_overdue, loop) if self._due else None


class _Deadline:
    """One task's deadline."""

    __slots__ = ("_deadlines", "_task")

    def __init__(self, deadlines: Deadlines, task: asyncio.Task[Any]) -> None:
        self._deadlines = deadlines
        self._task = task

    def __enter__(self) -> None:
        self._deadlines.begin(self._task)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # Cancelled by somebody else too: then that counts.
        if self._deadlines.end(self._task) and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from None
