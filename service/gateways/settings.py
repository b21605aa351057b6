"""The settings of gateways: which systems of others are connected, and how.

True here: a gateway that is chosen has all it needs, or the start stops and names the variable; nothing travels without
encryption but to this machine, or where somebody said so. Never here: a secret in a repr or a message.
"""

import base64
from email.errors import HeaderParseError
from email.headerregistry import Address
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

Tls = Literal["starttls", "tls", "none"]

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  what every secret of Standard Webhooks begins with
# As Standard Webhooks has it.
_SECRET_BYTES: Final = range(24, 65)
_PORTS: Final[dict[Tls, int]] = {"starttls": 587, "tls": 465, "none": 25}


class GatewaySettings(BaseSettings):
    """Part of Config."""

    sms_gateway: Literal["absent", "aliyun", "webhook"] = Field(
        "absent", description="Who sends text messages; `absent`: nobody, and in a sandbox the sandbox."
    )
    sms_templates: Path | None = Field(None, description="Our templates as the provider of text messages knows them (TOML).")
    aliyun_endpoint: str = Field("https://dysmsapi.aliyuncs.com", description="Where Aliyun's message service is.")
    aliyun_access_key_id: SecretStr = Field(SecretStr(""), description="Access key of a RAM user who may send messages.")
    aliyun_access_key_secret: SecretStr = Field(SecretStr(""), description="Its secret.")
    sms_webhook_url: str = Field("", description="Where a platform of one's own takes text messages.")
    sms_webhook_secret: SecretStr = Field(SecretStr(""), description="Signs what goes there: whsec_ and base64.")
    email_gateway: Literal["absent", "smtp"] = Field(
        "absent", description="Who sends email; `absent`: nobody, and in a sandbox the sandbox."
    )
    smtp_host: str = Field("", description="Mail server that takes what we send.")
    smtp_port: int | None = Field(None, ge=1, le=65535, description="Its port; by default that of YIKA_SMTP_TLS.")
    smtp_tls: Tls = Field("starttls", description="How it is encrypted: `starttls`, `tls` from the first byte, or `none`.")
    smtp_plain_allowed: bool = Field(default=False, description="Let `none` be to a server that is not on this machine.")
    smtp_ca_file: Path | None = Field(None, description="Authorities that its certificate is checked with; else the system's.")
    smtp_username: str = Field("", description="Who signs in there; empty: nobody does.")
    smtp_password: SecretStr = Field(SecretStr(""), description="The password for it.")
    smtp_from: str = Field("", description="Address that email comes from.")
    smtp_from_name: str = Field("", max_length=64, description="Name beside that address.")

    upstream_url: str = Field("", description="Where the city's bridge answers look-ups; empty: none is connected.")
    upstream_secret: SecretStr = Field(SecretStr(""), description="Signs questions and answers: whsec_ and base64.")

    @model_validator(mode="after")
    def _upstream(self) -> Self:
        if self.upstream_url:
            if not _encrypted_or_here(self.upstream_url):
                raise ValueError("YIKA_UPSTREAM_URL: must be an https:// address; http:// only to this machine")
            if not _is_webhook_secret(self.upstream_secret.get_secret_value()):
                raise ValueError("YIKA_UPSTREAM_SECRET: must be whsec_ and 24 to 64 bytes in base64")
        return self

    @model_validator(mode="after")
    def _aliyun(self) -> Self:
        if self.sms_gateway == "aliyun":
            if not self.aliyun_access_key_id.get_secret_value() or not self.aliyun_access_key_secret.get_secret_value():
                raise ValueError("YIKA_SMS_GATEWAY=aliyun needs YIKA_ALIYUN_ACCESS_KEY_ID and YIKA_ALIYUN_ACCESS_KEY_SECRET")
            if self.sms_templates is None:
                raise ValueError("YIKA_SMS_GATEWAY=aliyun needs YIKA_SMS_TEMPLATES")
            if not _encrypted_or_here(self.aliyun_endpoint) or urlsplit(self.aliyun_endpoint).path not in {"", "/"}:
                raise ValueError("YIKA_ALIYUN_ENDPOINT: must be https:// and a host; http:// only to this machine")
        return self

    @model_validator(mode="after")
    def _webhook(self) -> Self:
        if self.sms_gateway == "webhook":
            if not _encrypted_or_here(self.sms_webhook_url):
                raise ValueError("YIKA_SMS_WEBHOOK_URL: must be an https:// address; http:// only to this machine")
            if not _is_webhook_secret(self.sms_webhook_secret.get_secret_value()):
                raise ValueError("YIKA_SMS_WEBHOOK_SECRET: must be whsec_ and 24 to 64 bytes in base64")
        return self

    @model_validator(mode="after")
    def _smtp(self) -> Self:
        if self.email_gateway == "smtp":
            if not self.smtp_host:
                raise ValueError("YIKA_EMAIL_GATEWAY=smtp needs YIKA_SMTP_HOST")
            if not _is_address(self.smtp_from):
                raise ValueError("YIKA_SMTP_FROM: must be an email address of visible ASCII characters")
            if any(ord(sign) < ord(" ") for sign in self.smtp_from_name):
                raise ValueError("YIKA_SMTP_FROM_NAME: must be one line")
            if bool(self.smtp_username) is not bool(self.smtp_password.get_secret_value()):
                raise ValueError("YIKA_SMTP_USERNAME and YIKA_SMTP_PASSWORD: one needs the other")
            if self.smtp_tls == "none" and not (self.smtp_plain_allowed or _is_here(self.smtp_host)):
                raise ValueError("YIKA_SMTP_TLS=none is for this machine only; elsewhere it needs YIKA_SMTP_PLAIN_ALLOWED")
        return self

    @property
    def smtp_port_or_usual(self) -> int:
        """The port as set, else the usual one of the way of encryption."""
        return self.smtp_port or _PORTS[self.smtp_tls]


def _encrypted_or_here(address: str) -> bool:
    """Whether an address is https, or http on this machine; none has credentials or a fragment in it."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment or not address.isascii():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_here(host))


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_webhook_secret(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        return False
    return secret.startswith(SECRET_PREFIX) and len(key) in _SECRET_BYTES


def _is_address(address: str) -> bool:
    try:
        read = Address(addr_spec=address)
    except (HeaderParseError, ValueError, IndexError):
        return False
    return bool(read.username and read.domain) and address.isascii() and address.isprintable() and " " not in address
