"""Which gateways a process has, by its settings: the one place where adapters are put together.

True here: putting together reads files and touches no network; what is chosen is closed with the process. Never here: another
gateway in the place of one that is chosen but does not work.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from typing import Final, Protocol

from service.gateways.aliyun import AliyunSms, Credentials
from service.gateways.city_bridge import CityBridge
from service.gateways.email import EmailGateway
from service.gateways.settings import GatewaySettings
from service.gateways.sms import SmsGateway
from service.gateways.sms_templates import SmsTemplates
from service.gateways.smtp import SmtpEmail, SmtpServer
from service.gateways.upstream import UpstreamGateway
from service.gateways.webhook import WebhookSms
from service.locale import DEFAULT_LOCALE, catalogue, placeholders
from service.strict_toml import FaultyFileError, Objection

_MESSAGES: Final = "messages."
# A code that confirms an email address goes to that address.
_BY_EMAIL_ALONE: Final = frozenset({"email_code"})


class Connected(Protocol):
    """A gateway to a real system."""

    async def reachable(self) -> None:
        """Whether somebody answers there; nothing is sent. Raises SendFailed."""

    async def close(self) -> None:
        """End all connections."""


@dataclass(frozen=True, slots=True)
class Gateways:
    """Who sends, and who is asked. `connected` are those among them that are real, by the name of their setting."""

    sms: SmsGateway
    email: EmailGateway
    upstream: UpstreamGateway
    connected: Mapping[str, Connected]

    async def close(self) -> None:
        """End all connections of all."""
        await asyncio.gather(*(gateway.close() for gateway in self.connected.values()))


def chosen(settings: GatewaySettings, sms: SmsGateway, email: EmailGateway, upstream: UpstreamGateway) -> Gateways:
    """The gateways of these settings; those that are given stand where none is connected. Raises FaultyFileError."""
    connected: dict[str, Connected] = {}
    if settings.sms_gateway == "aliyun":
        sms = connected["aliyun"] = _aliyun(settings)
    elif settings.sms_gateway == "webhook":
        sms = connected["webhook"] = WebhookSms(settings.sms_webhook_url, settings.sms_webhook_secret.get_secret_value)
    if settings.email_gateway == "smtp":
        email = connected["smtp"] = _smtp(settings)
    if settings.upstream_url:
        upstream = connected["upstream"] = CityBridge(settings.upstream_url, settings.upstream_secret.get_secret_value)
    return Gateways(sms, email, upstream, connected)


def templates_by_sms() -> dict[str, frozenset[str]]:
    """Every template of ours that goes out by SMS, with the places of its text."""
    texts = catalogue().texts[DEFAULT_LOCALE]
    return {
        key.removeprefix(_MESSAGES): placeholders(text)
        for key, text in texts.items()
        if key.startswith(_MESSAGES) and key.removeprefix(_MESSAGES) not in _BY_EMAIL_ALONE
    }


def _aliyun(settings: GatewaySettings) -> AliyunSms:
    if settings.sms_templates is None:
        raise AssertionError("the settings were checked")
    return AliyunSms(
        settings.aliyun_endpoint,
        Credentials(settings.aliyun_access_key_id.get_secret_value(), settings.aliyun_access_key_secret.get_secret_value),
        SmsTemplates.load(settings.sms_templates, templates_by_sms()),
    )


def _smtp(settings: GatewaySettings) -> SmtpEmail:
    server = SmtpServer(
        host=settings.smtp_host,
        port=settings.smtp_port_or_usual,
        tls=settings.smtp_tls,
        username=settings.smtp_username,
        password=settings.smtp_password.get_secret_value(),
        context=_context(settings),
    )
    return SmtpEmail(server, Address(settings.smtp_from_name, addr_spec=settings.smtp_from))


def _context(settings: GatewaySettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.smtp_ca_file)
    except OSError:
        where = "YIKA_SMTP_CA_FILE"
        raise FaultyFileError([Objection(where, "", "cannot be read, or holds no certificate")]) from None
