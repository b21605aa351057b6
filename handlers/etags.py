"""Entity tags: what a client has is not sent to it again."""

import hashlib


def etag_of(content: bytes) -> str:
    """A strong tag for these bytes."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def is_known(etag: str, if_none_match: str) -> bool:
    """Whether the client has it. Weak comparison, as RFC 9110 (13.1.2) asks for it here."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags
