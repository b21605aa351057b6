"""Email addresses: normalised and checked.

True here: one address has one form, in small letters, so that two spellings are never two addresses; it is one that any mail
server takes as it stands, so it needs no quoting anywhere. Never here: an address in an exception, or a guess whether anybody
reads what is sent there; that is what a code is for.
"""

import re
from typing import Final

from service.masking import STAR

# RFC 5321, 4.5.3.1: octets in all, and before the at sign.
LONGEST: Final = 254
_LONGEST_LOCAL: Final = 64
# The dot-atom of RFC 5322, 3.2.3, and a domain of at least two labels, the last of letters or in Punycode.
_ADDRESS: Final = re.compile(
    r"(?P<local>[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*)"
    r"@(?P<domain>(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+(?:[a-z]{2,63}|xn--[a-z0-9-]{1,58}[a-z0-9]))",
    re.ASCII,
)


class InvalidAddress(ValueError):  # noqa: N818  it is not an error of ours: somebody mistyped
    """A text is no email address that we could write to; it never says which text."""


def parse_email(text: str) -> str:
    """The address in small letters, without space around it. Raises InvalidAddress."""
    address = text.strip().lower()
    match = _ADDRESS.fullmatch(address)
    if match is None or len(address) > LONGEST or len(match["local"]) > _LONGEST_LOCAL:
        raise InvalidAddress
    return address


def mask_email(address: str) -> str:
    """`zhang.wei@example.com` becomes `z****@example.com`: the domain tells one's own addresses apart."""
    local, _, domain = address.partition("@")
    return f"{local[:1]}{STAR * 4}@{domain}"
