"""Python's collector of cycles, in a process that runs for long.

True here: it is told once, when everything is put together. Never here: a command that ends soon; it has nothing to spare.
"""

import gc
from typing import Final

# New objects before the young are looked through, and how often that happens before the older are.
_COLLECTING: Final = (20_000, 50, 100)


def spare_the_collector() -> None:
    """Look through what was made at the start never again, and through the rest less often.

    Python looks for cycles after every 700 new objects, which is a few requests' worth, and now and then through all there
    are; requests leave next to none, and rows of an import neither. It was a tenth of the processor's time and nearly all of
    the longest answers.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTING)
