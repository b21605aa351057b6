"""Which gateways a process has, and what it does not start with."""

import base64
from pathlib import Path
from typing import Any

import pytest

from service.config import Config, ConfigError, read_config
from service.deliveries import LEASE, SEND_SECONDS
from service.gateways.absent import AbsentEmail, AbsentSms, AbsentUpstream
from service.gateways.aliyun import AliyunSms
from service.gateways.chosen import Gateways, chosen, templates_by_sms
from service.gateways.sending import ANSWER_SECONDS
from service.gateways.smtp import SmtpEmail
from service.gateways.webhook import WebhookSms
from service.locale import LOCALES
from service.strict_toml import FaultyFileError

SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()
ALIYUN = {"sms_gateway": "aliyun", "aliyun_access_key_id": "LTAI-1", "aliyun_access_key_secret": "key-secret-1"}
WEBHOOK = {"sms_gateway": "webhook", "sms_webhook_url": "https://sms.city.example/in", "sms_webhook_secret": SECRET}
SMTP = {"email_gateway": "smtp", "smtp_host": "mail.city.example", "smtp_from": "no-reply@city.example"}


def _config(**settings: Any) -> Config:
    return read_config(environment="sandbox", **settings)


def _chosen(config: Config) -> Gateways:
    return chosen(config, AbsentSms(), AbsentEmail(), AbsentUpstream())


def _file(folder: Path, text: str) -> Path:
    path = folder / "sms.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _whole(sign_name: str = 'sign_name = "智慧人社"\n') -> str:
    rows = [
        f'[templates.{template}.{locale}]\ntemplate_code = "SMS_{number}"\n'
        for number, template in enumerate(sorted(templates_by_sms()))
        for locale in LOCALES
    ]
    return sign_name + "\n".join(rows)


def test_nothing_is_connected_unless_it_is_asked_for() -> None:
    gateways = _chosen(_config())
    assert isinstance(gateways.sms, AbsentSms)
    assert isinstance(gateways.email, AbsentEmail)
    assert gateways.connected == {}


def test_what_is_asked_for_is_connected(tmp_path: Path) -> None:
    with_aliyun = _chosen(_config(**ALIYUN, **SMTP, sms_templates=_file(tmp_path, _whole())))
    assert isinstance(with_aliyun.sms, AliyunSms)
    assert isinstance(with_aliyun.email, SmtpEmail)
    assert set(with_aliyun.connected) == {"aliyun", "smtp"}
    with_webhook = _chosen(_config(**WEBHOOK))
    assert isinstance(with_webhook.sms, WebhookSms)
    assert isinstance(with_webhook.email, AbsentEmail)


def test_a_gateway_gives_up_before_whoever_asked_it_does() -> None:
    assert 0 < ANSWER_SECONDS < SEND_SECONDS < LEASE.total_seconds()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sms_gateway": "pigeon"}, "YIKA_SMS_GATEWAY"),
        ({"sms_gateway": "aliyun"}, "YIKA_ALIYUN_ACCESS_KEY_ID"),
        (ALIYUN | {"aliyun_access_key_secret": ""}, "YIKA_ALIYUN_ACCESS_KEY_SECRET"),
        (ALIYUN, "YIKA_SMS_TEMPLATES"),
        (ALIYUN | {"sms_templates": "x.toml", "aliyun_endpoint": "http://dysmsapi.aliyuncs.com"}, "YIKA_ALIYUN_ENDPOINT"),
        (ALIYUN | {"sms_templates": "x.toml", "aliyun_endpoint": "https://a.example/path"}, "YIKA_ALIYUN_ENDPOINT"),
        ({"sms_gateway": "webhook"}, "YIKA_SMS_WEBHOOK_URL"),
        (WEBHOOK | {"sms_webhook_url": "http://sms.city.example/in"}, "YIKA_SMS_WEBHOOK_URL"),
        (WEBHOOK | {"sms_webhook_url": "https://user:pw@sms.city.example/"}, "YIKA_SMS_WEBHOOK_URL"),
        (WEBHOOK | {"sms_webhook_url": "https://sms.city.example:99999/"}, "YIKA_SMS_WEBHOOK_URL"),
        (WEBHOOK | {"sms_webhook_url": "sms.city.example"}, "YIKA_SMS_WEBHOOK_URL"),
        (WEBHOOK | {"sms_webhook_secret": "whsec_c2hvcnQ="}, "YIKA_SMS_WEBHOOK_SECRET"),
        (WEBHOOK | {"sms_webhook_secret": SECRET.removeprefix("whsec_")}, "YIKA_SMS_WEBHOOK_SECRET"),
        (WEBHOOK | {"sms_webhook_secret": "whsec_*not base64*"}, "YIKA_SMS_WEBHOOK_SECRET"),
        ({"email_gateway": "smtp"}, "YIKA_SMTP_HOST"),
        (SMTP | {"smtp_from": "nobody"}, "YIKA_SMTP_FROM"),
        (SMTP | {"smtp_from": "a@b.example\r\nBcc: c@d.example"}, "YIKA_SMTP_FROM"),
        (SMTP | {"smtp_from": "张@b.example"}, "YIKA_SMTP_FROM"),
        (SMTP | {"smtp_from": ""}, "YIKA_SMTP_FROM"),
        (SMTP | {"smtp_from_name": "a\nb"}, "YIKA_SMTP_FROM_NAME"),
        (SMTP | {"smtp_username": "u"}, "YIKA_SMTP_PASSWORD"),
        (SMTP | {"smtp_password": "p-of-a-test"}, "YIKA_SMTP_USERNAME"),
        (SMTP | {"smtp_tls": "none"}, "YIKA_SMTP_PLAIN_ALLOWED"),
        (SMTP | {"smtp_tls": "ssl"}, "YIKA_SMTP_TLS"),
        (SMTP | {"smtp_port": 0}, "YIKA_SMTP_PORT"),
    ],
)
def test_what_cannot_work_or_is_unsafe_stops_the_start_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as told:
        _config(**settings)
    # Names and reasons, never what was set.
    assert not any(secret in str(told.value) for secret in (SECRET, "key-secret-1", "p-of-a-test", "user:pw", "pigeon"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_may_be_spoken_to_in_plain(host: str) -> None:
    shown = f"[{host}]" if ":" in host else host
    assert _config(**SMTP | {"smtp_tls": "none", "smtp_host": host}).smtp_port_or_usual == 25
    assert isinstance(_chosen(_config(**WEBHOOK | {"sms_webhook_url": f"http://{shown}:9/sms"})).sms, WebhookSms)


def test_another_machine_only_where_somebody_said_so() -> None:
    assert isinstance(_chosen(_config(**SMTP, smtp_tls="none", smtp_plain_allowed=True)).email, SmtpEmail)


@pytest.mark.parametrize(("tls", "port"), [("starttls", 587), ("tls", 465)])
def test_the_port_is_the_usual_one_unless_it_is_set(tls: str, port: int) -> None:
    assert _config(**SMTP, smtp_tls=tls).smtp_port_or_usual == port
    assert _config(**SMTP, smtp_tls=tls, smtp_port=2525).smtp_port_or_usual == 2525


def test_no_secret_is_in_what_a_configuration_shows(tmp_path: Path) -> None:
    config = _config(
        **ALIYUN, **SMTP, sms_webhook_secret=SECRET, smtp_username="u", smtp_password="p-of-a-test", sms_templates=tmp_path
    )
    shown = f"{config!r} {config} {config.model_dump()}"
    assert not any(secret in shown for secret in (SECRET, "key-secret-1", "LTAI-1", "p-of-a-test"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("[templates.card_activated.en]", "[templates.card_activate.en]"), "card_activated.en"),
        (lambda text: text.replace("[templates.card_activated.en]", "[templates.card_activate.en]"), "card_activate:"),
        (lambda text: text.replace('"SMS_0"', '"0"', 1), "template_code"),
        (lambda text: text.replace("template_code", "template", 1), "template_code"),
        (lambda text: text.removeprefix('sign_name = "智慧人社"\n'), "sign_name"),
        (lambda text: text + '\n[templates.verification_code.fr]\ntemplate_code = "SMS_1"\n', "fr"),
        (lambda text: text + '\n[templates.verification_code.en.parameters]\npin = "pin"\n', "parameters.pin"),
        (lambda text: text + "\n[templates", "TOML"),
    ],
)
def test_a_templates_file_that_is_not_whole_stops_the_start_with_field_and_reason(
    change: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(FaultyFileError) as told:
        _chosen(_config(**ALIYUN, sms_templates=_file(tmp_path, change(_whole()))))
    assert any(line.startswith("sms.toml") and said in line for line in str(told.value).splitlines()), str(told.value)


def test_a_templates_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(FaultyFileError, match=r"nowhere\.toml"):
        _chosen(_config(**ALIYUN, sms_templates=tmp_path / "nowhere.toml"))


def test_authorities_that_are_none_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(FaultyFileError, match="YIKA_SMTP_CA_FILE"):
        _chosen(_config(**SMTP, smtp_ca_file=_file(tmp_path, "no certificate")))
