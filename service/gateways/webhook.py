"""Text messages by a city's own platform: one POST of JSON a message, signed, with an Idempotency-Key.

`docs/messages-gateways.md` says what the other side must do. The signature is that of Standard Webhooks 1.0.0
(https://www.standardwebhooks.com), for which there are libraries in every language.

True here: the key is the message's id, the same over all tries, and the other side sends a message once however often it is
offered; so one whose fate is unknown is offered again. Never here: the secret, a number or a text in a log.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Final

import structlog
from yarl import URL

from service.gateways.calls import Calls
from service.gateways.sending import SendFailed, SendRefused, SendUncertain
from service.gateways.settings import SECRET_PREFIX
from service.gateways.sms import Sms

_TAKEN: Final = range(200, 300)
_NEVER: Final = 422
_SERVER_FAULT: Final = 500

_log = structlog.get_logger("webhook")


class WebhookSms:
    """SmsGateway."""

    deduplicates = True

    def __init__(self, url: str, secret: Callable[[], str]) -> None:
        """secret: gives `whsec_` and 24 to 64 bytes in base64."""
        self._url = URL(url)
        self._secret = secret
        self._calls = Calls(keep_alive=True)

    async def send(self, sms: Sms) -> None:
        """Hand a message over: any 2xx has taken it, 422 never will, 5xx may have, everything else has not.

        Raises SendRefused, SendUncertain or SendFailed accordingly.
        """
        content = {
            "messageId": sms.message_id,
            "channel": "sms",
            "to": sms.to,
            "template": sms.template,
            "locale": sms.locale,
            "text": sms.text,
            "values": dict(sms.values),
        }
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
        moment = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": sms.message_id,
            "webhook-id": sms.message_id,
            "webhook-timestamp": str(moment),
            "webhook-signature": signature(self._secret(), sms.message_id, moment, body),
        }
        answer = await self._calls.post(self._url, headers, body)
        if answer.status in _TAKEN:
            return
        _log.warning("sms_not_taken", status=answer.status)
        if answer.status == _NEVER:
            raise SendRefused
        if answer.status >= _SERVER_FAULT:
            raise SendUncertain
        raise SendFailed

    async def reachable(self) -> None:
        """Whether somebody answers there. Raises SendFailed."""
        await self._calls.reachable(self._url)

    async def close(self) -> None:
        """End all connections."""
        await self._calls.close()


def signature(secret: str, message_id: str, moment: int, body: bytes) -> str:
    """`v1,` and the keyed hash of id, Unix time in seconds and body. Raises ValueError for a secret that is no base64."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    signed = b".".join((message_id.encode(), str(moment).encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"
