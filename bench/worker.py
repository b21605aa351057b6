"""A worker's start: from the command to the first answer, with no database to be reached.

True here: the clock runs from before the process exists; nothing is imported, compiled or connected for it in advance but
Python's own bytecode files, which every start after the first has; whether they may be written is not inherited. Never here:
a worker that waits for its database.
"""

from collections.abc import Callable
from typing import Any

from bench.ground import Ground
from bench.programs import await_answer, free_port, program
from bench.servers import YIKA, yika_environment


def measure(where: Ground, rounds: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Seconds until /livez answered, round by round; the first start, which writes bytecode files, is not counted."""
    _start(where)
    seconds: list[float] = []
    for number in range(rounds):
        step(f"start {number + 1} without a database")
        seconds.append(_start(where))
    return {"start_seconds": seconds}


def _start(where: Ground) -> float:
    port = free_port()
    # Nobody listens there: every connection is refused.
    nowhere = f"mongodb://127.0.0.1:{free_port()}/?directConnection=true"
    environment = yika_environment(where, port) | {"YIKA_MONGODB_URI": nowhere}
    with program(YIKA.command(port), {where.cores.server}, where.log("start"), environment) as running:
        return await_answer(running, port, "/livez", status=200, pause=0.005)
