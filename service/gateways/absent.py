"""Stand-ins for systems that no deployment has connected yet: they fail at once and say so, and pretend nothing."""

from typing import Final

from service.errors import Refusal
from service.gateways.email import Email
from service.gateways.face import Certificate
from service.gateways.sending import SendFailed
from service.gateways.sms import Sms
from service.gateways.upstream import UpstreamAway, Whose
from service.ids import HolderId

# Seconds after which somebody may look again whether that has changed.
_NOT_CONNECTED: Final = 60


class AbsentSms:
    """No text messages go out; each ends as failed, where an operator sees it."""

    deduplicates = True

    async def send(self, sms: Sms) -> None:  # noqa: ARG002  the interface's
        raise SendFailed


class AbsentEmail:
    """No email goes out; each ends as failed, where an operator sees it."""

    deduplicates = True

    async def send(self, email: Email) -> None:  # noqa: ARG002  the interface's
        raise SendFailed


class AbsentUpstream:
    """No city's system is connected: figures are those that an import brought, and nothing newer is asked for."""

    def refreshes(self, holder_id: HolderId) -> bool:  # noqa: ARG002  the interface's
        """Nobody's."""
        return False

    async def figures(self, whose: Whose) -> bytes:  # noqa: ARG002  the interface's
        raise UpstreamAway(_NOT_CONNECTED)

    async def contributions(self, whose: Whose) -> bytes:  # noqa: ARG002  the interface's
        raise UpstreamAway(_NOT_CONNECTED)

    async def housing_fund(self, whose: Whose) -> bytes:  # noqa: ARG002  the interface's
        raise UpstreamAway(_NOT_CONNECTED)


class AbsentFace:
    """No face can be verified."""

    async def initialize(self, verification_id: str) -> Certificate:  # noqa: ARG002  the interface's
        raise Refusal("unavailable", retry_after=60)

    async def passed(self, reference: str) -> bool:  # noqa: ARG002  the interface's
        raise Refusal("unavailable", retry_after=60)
