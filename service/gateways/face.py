"""Face verification by somebody else. The client is sent to a page of theirs; afterwards we ask how it went."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certification under way: the provider's reference, and the page where the person shows their face."""

    reference: str
    url: str


class FaceGateway(Protocol):
    """A way to verify a face."""

    async def initialize(self, verification_id: str) -> Certificate:
        """Begin one. Refuses with `unavailable` when the provider does not answer."""

    async def passed(self, reference: str) -> bool:
        """Whether the person passed. Refuses with `unavailable` when the provider does not answer."""
