"""Text messages by Aliyun's Short Message Service: SendSms of dysmsapi, version 2017-05-25, signed with V3.

From its documentation (read November 2026): the operation and its parameters at
https://help.aliyun.com/document_detail/55284.html, its error codes at https://help.aliyun.com/document_detail/101346.html, the
signature at https://help.aliyun.com/document_detail/2593177.html (ACS3-HMAC-SHA256).

True here: the provider keeps the texts; what goes out is the code of a template that they have approved and the values for its
places. They say that they tell no repeats, whatever `OutId` is, so a message whose fate is unknown is not offered again, and
each goes over a connection of its own: one that had stood idle may be closed at the moment in which it is used. The mobile and
the values stand in the address of the request, for that is where the operation wants them, and travel encrypted. Never here:
the secret, a number or a value in a log.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import structlog
from yarl import URL

from service.gateways.calls import Answer, Calls
from service.gateways.sending import SendFailed, SendRefused, SendUncertain
from service.gateways.sms import Sms
from service.gateways.sms_templates import SmsTemplates

ACTION: Final = "SendSms"
VERSION: Final = "2017-05-25"
ALGORITHM: Final = "ACS3-HMAC-SHA256"

# What is wrong with this message and stays wrong: its number, or what its places were filled with.
REFUSED: Final = frozenset(
    {
        "isv.MOBILE_NUMBER_ILLEGAL",
        "isv.MOBILE_COUNT_OVER_LIMIT",
        "isv.SMS_CONTENT_ILLEGAL",
        "isv.BLACK_KEY_CONTROL_LIMIT",
        "isv.PARAM_LENGTH_LIMIT",
        "isv.PARAM_NOT_SUPPORT_URL",
        "isv.CUSTOMER_REFUSED",
    }
)
# The fault of the provider (isp) that is certainly before anything was sent.
_NOT_TAKEN: Final = frozenset({"isp.RAM_PERMISSION_DENY"})
# A nonce is drawn anew for each try. One that was seen is a copy of this very request that somebody made on the way.
_A_COPY: Final = "SignatureNonceUsed"
_SERVER_FAULT: Final = 500
# It goes into a log, so it is only believed to be a code when it looks like one.
_CODE: Final = re.compile(r"[A-Za-z0-9_.]{1,64}")

_log = structlog.get_logger("aliyun")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key. Its secret is in no repr."""

    key_id: str
    secret: Callable[[], str]


class AliyunSms:
    """SmsGateway."""

    deduplicates = False

    def __init__(self, endpoint: str, credentials: Credentials, templates: SmsTemplates) -> None:
        """endpoint: scheme and host, such as https://dysmsapi.aliyuncs.com."""
        self._endpoint = URL(endpoint)
        self._credentials = credentials
        self._templates = templates
        self._calls = Calls(keep_alive=False)

    async def send(self, sms: Sms) -> None:
        """Hand a message over. Raises SendRefused for a number or a value that they never take.

        SendFailed: their limits (`isv.BUSINESS_LIMIT_CONTROL`, Throttling), and what an operator or they can mend, such as a
        template that is not approved yet, an empty account or a wrong key. SendUncertain: no answer, an answer that is none
        of theirs, and their own faults (`isp.…`, 5xx), of which they do not say when they happened.
        """
        query = canonical_query(self._parameters(sms))
        now, nonce = datetime.now(UTC), secrets.token_hex(16)
        headers = self._signed(query, now, nonce)
        url = URL(f"{self._endpoint.origin()}/?{query}", encoded=True)
        answer = await self._calls.post(url, headers, b"")
        _judge(answer)

    async def reachable(self) -> None:
        """Whether somebody answers there. Raises SendFailed."""
        await self._calls.reachable(self._endpoint)

    async def close(self) -> None:
        """End all connections."""
        await self._calls.close()

    def _parameters(self, sms: Sms) -> dict[str, str]:
        try:
            row = self._templates.row(sms.template, sms.locale)
            values = {theirs: sms.values[ours] for theirs, ours in row.parameters.items()}
        except KeyError:
            # It waited while the service was changed, and what it is made of is gone: templates and rows agree at the start.
            _log.error("sms_of_no_template", template=sms.template)
            raise SendRefused from None
        parameters = {
            "PhoneNumbers": sms.to,
            "SignName": row.sign_name,
            "TemplateCode": row.template_code,
            "OutId": sms.message_id,
        }
        if values:
            parameters["TemplateParam"] = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
        return parameters

    def _signed(self, query: str, now: datetime, nonce: str) -> dict[str, str]:
        headers = {
            # Without the port where it is the scheme's own, as it is sent.
            "host": self._endpoint.host_port_subcomponent or "",
            "x-acs-action": ACTION,
            "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
            "x-acs-date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": nonce,
            "x-acs-version": VERSION,
        }
        headers["Authorization"] = authorization(
            key_id=self._credentials.key_id, secret=self._credentials.secret(), method="POST", query=query, headers=headers
        )
        return headers


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Parameters by name, percent-encoded but for the unreserved characters of RFC 3986."""
    return "&".join(f"{_encoded(name)}={_encoded(parameters[name])}" for name in sorted(parameters))


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def authorization(*, key_id: str, secret: str, method: str, query: str, headers: Mapping[str, str]) -> str:
    """The Authorization header of a request to `/`; `headers` in lower case, all of them signed."""
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    request = "\n".join((method, "/", query, lines, names, headers["x-acs-content-sha256"]))
    signed = f"{ALGORITHM}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    return f"{ALGORITHM} Credential={key_id},SignedHeaders={names},Signature={signature}"


def _judge(answer: Answer) -> None:
    code = _code(answer)
    if code == "OK":
        return
    _log.warning("sms_not_taken", status=answer.status, code=code or "unreadable")
    if code in REFUSED:
        raise SendRefused
    theirs = code.startswith("isp.") and code not in _NOT_TAKEN
    throttled = code.startswith("Throttling")
    if not code or theirs or code == _A_COPY or (answer.status >= _SERVER_FAULT and not throttled):
        raise SendUncertain
    raise SendFailed


def _code(answer: Answer) -> str:
    """What the answer says in `Code`; empty when it is none of theirs."""
    try:
        content = json.loads(answer.body)
    except ValueError:
        return ""
    code = content.get("Code") if isinstance(content, dict) else None
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
