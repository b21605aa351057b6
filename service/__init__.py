"""Yika: what a social security card means, and what may be done with it."""

from typing import Final

# The same as in pyproject.toml, and a test holds the two together: a process that runs from a checkout cannot look it up.
VERSION: Final = "0.1.0"
