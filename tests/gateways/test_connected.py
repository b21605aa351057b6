"""The whole service with real gateways: what people are told leaves it, and comes to who is meant."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from api.client import Api
from twins.mail_server import MailServer, mail_server
from twins.sms_provider import CUT_AFTER, KEY_ID, KEY_SECRET, WEBHOOK_SECRET, SmsProvider, sms_provider

from service.config import Config, read_config
from service.gateways.chosen import templates_by_sms
from service.gateways.email import Email
from service.keyring import new_keyring, save_keyring
from service.locale import LOCALES
from service.mongo.client import Database
from service.mongo.migrations import migrate
from service.server import Served, serving

ADDRESS = "zhang.wei@example.com"


@pytest.fixture
async def provider() -> AsyncIterator[SmsProvider]:
    async with sms_provider() as running:
        yield running


@pytest.fixture
async def mail(tmp_path: Path) -> AsyncIterator[MailServer]:
    async with mail_server("starttls", tmp_path) as running:
        yield running


@pytest.fixture
async def connected(
    mongodb_uri: str, tmp_path: Path, provider: SmsProvider, mail: MailServer, request: pytest.FixtureRequest
) -> AsyncIterator[Api]:
    """A sandbox of its own that is connected to the twins; the parameter says to which of them by SMS."""
    rows = "\n".join(
        f'[templates.{template}.{locale}]\ntemplate_code = "SMS_1"' for template in templates_by_sms() for locale in LOCALES
    )
    (tmp_path / "sms.toml").write_text(f'sign_name = "智慧人社"\n{rows}\n', encoding="utf-8")
    made: Config = read_config(
        environment="sandbox",
        port=0,
        admin_port=0,
        mongodb_uri=mongodb_uri,
        mongodb_database=f"yika_gateways_{os.getpid()}",
        data_dir=tmp_path,
        log_level="error",
        notice_seconds=0,
        sms_gateway=request.param,
        sms_templates=tmp_path / "sms.toml",
        aliyun_endpoint=f"http://127.0.0.1:{provider.port}",
        aliyun_access_key_id=KEY_ID,
        aliyun_access_key_secret=KEY_SECRET,
        sms_webhook_url=f"http://127.0.0.1:{provider.port}/sms",
        sms_webhook_secret=WEBHOOK_SECRET,
        email_gateway="smtp",
        smtp_host="127.0.0.1",
        smtp_port=mail.port,
        smtp_ca_file=tmp_path / "ca.pem",
        smtp_from="no-reply@hrss.example",
    )
    save_keyring(made.keyring_path, new_keyring("sandbox"))
    async with Database(mongodb_uri, made.mongodb_database, deadline_seconds=10, pool=4) as database:
        try:
            await migrate(database, print)
            async with serving(made, seed_first=True) as served, Api(served.url) as client:
                yield client
        finally:
            await database.drop()


async def _until(ready: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not ready():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("connected", ["webhook", "aliyun"], indirect=True)
async def test_codes_and_news_come_by_the_providers_that_are_connected(
    connected: Api, provider: SmsProvider, mail: MailServer
) -> None:
    person = await connected.persona("sealed")
    started = await connected.start("sealed")
    await _until(lambda: provider.delivered)
    (first,) = provider.delivered
    assert first.to == person["mobile"]
    confirmed = await connected.post(
        f"/v1/identity/verifications/{started['verificationId']}/confirm", {"code": first.values["code"]}
    )
    client = connected.as_(confirmed.json["accessToken"])
    assert (await client.post("/v1/me/contacts/email", {"email": ADDRESS}, key="new")).status == 200
    await _until(lambda: mail.taken)
    code = re.search(r"\d{6}", mail.taken[0].text)
    assert code is not None
    assert (await client.post("/v1/me/contacts/email/confirm", {"code": code[0]}, key="new")).status == 200
    assert (await client.activate(await connected.details("sealed"))).status == 200
    await _until(lambda: any("您的社会保障卡已激活" in taken.text for taken in mail.taken))
    assert {taken.to[0] for taken in mail.taken} == {ADDRESS}
    assert mail.encrypted == [True] * len(mail.taken)
    await _until(lambda: len(provider.delivered) > 1)
    assert {one.to for one in provider.delivered} == {person["mobile"]}
    # Each once, and nothing of it in the sandbox, which is not asked to play them.
    assert max(provider.offers.values()) == 1
    assert len({taken.letter["Message-ID"] for taken in mail.taken}) == len(mail.taken)
    assert await connected.messages(person["mobile"]) == []


@pytest.mark.parametrize("connected", ["webhook"], indirect=True)
async def test_a_platform_that_tells_repeats_is_asked_again_and_delivers_once(connected: Api, provider: SmsProvider) -> None:
    provider.next(CUT_AFTER, CUT_AFTER)
    await connected.start("active")
    await _until(lambda: provider.offers.total() == 1)
    await connected.advance(3)
    await _until(lambda: provider.offers.total() == 2)
    await connected.advance(11)
    await _until(lambda: provider.offers.total() == 3)
    assert len(provider.delivered) == 1
    await asyncio.sleep(0.3)
    assert provider.offers.total() == 3


@pytest.mark.parametrize("connected", ["aliyun"], indirect=True)
async def test_a_provider_that_tells_no_repeats_is_not_asked_again(connected: Api, provider: SmsProvider) -> None:
    provider.next(CUT_AFTER)
    await connected.start("active")
    await _until(lambda: provider.offers.total() == 1)
    for seconds in (3, 60, 120):
        await connected.advance(seconds)
        await asyncio.sleep(0.2)
    assert (provider.offers.total(), len(provider.delivered)) == (1, 1)


async def test_a_letter_is_kept_by_the_sandbox_and_found_however_its_address_is_written(api: Api, served: Served) -> None:
    letter = Email("msg_letter", ADDRESS, "email_code", "主题", "您的验证码是 314159", "314159")
    await served.process.gateways.email.send(letter)
    await served.process.gateways.email.send(letter)
    for written in (ADDRESS, "  Zhang.Wei@Example.COM "):
        (item,) = (await api.post("/sandbox/messages/search", {"to": written})).json["items"]
        assert (item["channel"], item["to"], item["template"]) == ("email", ADDRESS, "email_code")
        assert (item["text"], item["code"]) == (letter.text, "314159")
    assert (await api.post("/sandbox/messages/search", {"to": "wei@example.com"})).json["items"] == []


async def test_letters_fail_on_demand_and_text_messages_do_not(api: Api, served: Served) -> None:
    fault = {"gateway": "email", "fault": "unavailable", "times": 1}
    assert (await api.post("/sandbox/faults", fault)).json == fault
    client = await api.sign_in("active")
    assert (await client.post("/v1/me/contacts/email", {"email": ADDRESS}, key="new")).status == 200
    assert await api.messages(ADDRESS) == []
    await api.advance(3)
    (item,) = await api.messages(ADDRESS)
    assert (item["channel"], len(item["code"])) == ("email", 6)
    assert served.process.gateways.connected == {}
