"""Text messages by a city's own platform, against a twin that checks signatures and can deduplicate."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.typing import EventDict
from twins.sms_provider import CUT_AFTER, CUT_BEFORE, SILENT, WEBHOOK_SECRET, SmsProvider, sms_provider

from service.gateways import calls
from service.gateways.sending import SendFailed, SendRefused, SendUncertain
from service.gateways.sms import Sms
from service.gateways.webhook import WebhookSms, signature

MESSAGE = Sms("msg_abc", "13800138000", "card_activated", "您的社会保障卡已激活", None, {"place": "窗口"}, "zh-CN")


@pytest.fixture
async def provider() -> AsyncIterator[SmsProvider]:
    async with sms_provider() as running:
        yield running


@pytest.fixture
async def gateway(provider: SmsProvider) -> AsyncIterator[WebhookSms]:
    made = WebhookSms(f"http://127.0.0.1:{provider.port}/sms", lambda: WEBHOOK_SECRET)
    yield made
    await made.close()


def test_the_signature_is_that_of_the_example_of_standard_webhooks() -> None:
    """From the tests of its reference libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_message_arrives_with_its_text_and_values(gateway: WebhookSms, provider: SmsProvider) -> None:
    await gateway.send(MESSAGE)
    (one,) = provider.delivered
    assert (one.message_id, one.to, one.template) == ("msg_abc", "13800138000", "card_activated")
    assert one.values == {"place": "窗口", "text": "您的社会保障卡已激活"}


async def test_a_message_that_is_offered_again_goes_out_once(gateway: WebhookSms, provider: SmsProvider) -> None:
    provider.next(CUT_AFTER, CUT_BEFORE, "503 later")
    for outcome in (SendUncertain, SendUncertain, SendUncertain):
        with pytest.raises(outcome):
            await gateway.send(MESSAGE)
    await gateway.send(MESSAGE)
    assert gateway.deduplicates is True
    assert provider.offers["msg_abc"] == 4
    assert [one.message_id for one in provider.delivered] == ["msg_abc"]


async def test_a_connection_is_used_again_where_repeats_are_told(gateway: WebhookSms, provider: SmsProvider) -> None:
    for _ in range(3):
        await gateway.send(MESSAGE)
    assert len(provider.connections) == 1


async def test_the_twin_counts_twice_where_the_platform_does_not_deduplicate() -> None:
    async with sms_provider(deduplicates=False) as provider:
        gateway = WebhookSms(f"http://127.0.0.1:{provider.port}/sms", lambda: WEBHOOK_SECRET)
        await gateway.send(MESSAGE)
        await gateway.send(MESSAGE)
        await gateway.close()
        assert len(provider.delivered) == 2


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("422 no", SendRefused),
        ("400 no", SendFailed),
        ("401 no", SendFailed),
        ("404 no", SendFailed),
        ("409 no", SendFailed),
        ("429 no", SendFailed),
        ("301 no", SendFailed),
        ("500 no", SendUncertain),
        ("503 no", SendUncertain),
    ],
)
async def test_what_a_status_says(answer: str, outcome: type[Exception], gateway: WebhookSms, provider: SmsProvider) -> None:
    provider.next(answer)
    with pytest.raises(outcome):
        await gateway.send(MESSAGE)
    assert provider.delivered == []


async def test_a_number_that_is_none_is_refused(gateway: WebhookSms) -> None:
    with pytest.raises(SendRefused):
        await gateway.send(replace(MESSAGE, to="12345678901"))


async def test_a_wrong_secret_is_found_out(provider: SmsProvider) -> None:
    gateway = WebhookSms(f"http://127.0.0.1:{provider.port}/sms", lambda: "whsec_" + "QUJD" * 8)
    with pytest.raises(SendFailed):
        await gateway.send(MESSAGE)
    await gateway.close()
    assert provider.delivered == []


async def test_an_old_request_is_found_out(gateway: WebhookSms, provider: SmsProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_600_000_000.0)
    with pytest.raises(SendFailed):
        await gateway.send(MESSAGE)
    assert provider.delivered == []


async def test_silence_ends_within_the_deadline(
    gateway: WebhookSms, provider: SmsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ANSWER_SECONDS", 0.5)
    provider.next(SILENT)
    async with asyncio.timeout(5):
        with pytest.raises(SendUncertain):
            await gateway.send(MESSAGE)


async def test_nobody_there_has_taken_nothing() -> None:
    gateway = WebhookSms("http://127.0.0.1:1/sms", lambda: WEBHOOK_SECRET)
    with pytest.raises(SendFailed):
        await gateway.send(MESSAGE)
    await gateway.close()


async def test_no_number_and_no_text_is_logged(gateway: WebhookSms, provider: SmsProvider, lines: list[EventDict]) -> None:
    provider.next("500 no", "422 no", CUT_BEFORE)
    for _ in range(3):
        with pytest.raises((SendUncertain, SendRefused)):
            await gateway.send(MESSAGE)
    assert len(lines) == 3
    written = repr(lines)
    assert not any(word in written for word in (MESSAGE.to, MESSAGE.text, "窗口", "whsec"))
