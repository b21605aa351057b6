"""Stand-ins for systems that no deployment has connected yet: they fail at once and say so, and pretend nothing."""

from service.errors import Refusal
from service.gateways.face import Certificate
from service.gateways.sms import SendFailed, Sms


class AbsentSms:
    """No text messages go out; each ends as failed, where an operator sees it."""

    deduplicates = True

    async def send(self, sms: Sms) -> None:  # noqa: ARG002  the interface's
        raise SendFailed


class AbsentFace:
    """No face can be verified."""

    async def initialize(self, verification_id: str) -> Certificate:  # noqa: ARG002  the interface's
        raise Refusal("unavailable", retry_after=60)

    async def passed(self, reference: str) -> bool:  # noqa: ARG002  the interface's
        raise Refusal("unavailable", retry_after=60)
