"""Codes of an authenticator (RFC 6238): six digits, HMAC-SHA-1, a new one every 30 seconds.

True here: every code that counts at a moment is computed and compared, whatever was given, so a wrong one takes as long as a
right one. Never here: whether a code was used before; that is kept with the operator.
"""

import hmac
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import pyotp

STEP_SECONDS: Final = 30
# Steps before and after a moment whose codes still count: clocks differ, and people type slowly (RFC 6238, 5.2).
WINDOW: Final = 1


def new_secret() -> str:
    """160 random bits in base32 (RFC 4226, 4: at least 128, better 160)."""
    return pyotp.random_base32()


def enrolment_uri(secret: str, username: str, issuer: str) -> str:
    """The otpauth:// address that an authenticator takes, as text or as a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=issuer)


def step_at(moment: datetime) -> int:
    """Which step a moment lies in."""
    return int(moment.timestamp()) // STEP_SECONDS


def code_of(secret: str, step: int) -> str:
    """The code of a step."""
    return pyotp.HOTP(secret).at(step)


def matching_step(secret: str, code: str, moments: Iterable[datetime]) -> int | None:
    """The earliest step, within the window around any of these moments, that has this code; None when none has."""
    middles = {step_at(moment) for moment in moments}
    steps = sorted({middle + distance for middle in middles for distance in range(-WINDOW, WINDOW + 1)})
    matching = [step for step in steps if hmac.compare_digest(code_of(secret, step).encode(), code.encode())]
    return matching[0] if matching else None
