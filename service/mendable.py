"""What stops a command and can be mended by the person who runs it.

True here: this is only what such faults have in common, so whoever catches them loads nothing of the parts that raise them.
Never here: a fault of one part; it is defined where it is raised.
"""


class MendableError(Exception):
    """It cannot go on. The text says why in one line, for the person at the terminal, without a secret or a value."""
