"""Text messages by Aliyun, against a twin of it that checks signatures by an implementation of its own."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.typing import EventDict
from twins.sms_provider import CUT_AFTER, CUT_BEFORE, KEY_ID, KEY_SECRET, SILENT, SmsProvider, sms_provider
from yarl import URL

from service.gateways import aliyun, calls
from service.gateways.aliyun import REFUSED, AliyunSms, Credentials, authorization, canonical_query
from service.gateways.sending import SendFailed, SendRefused, SendUncertain
from service.gateways.sms import Sms
from service.gateways.sms_templates import Row, SmsTemplates

MESSAGE = Sms(
    "msg_abc", "13800138000", "verification_code", "您的验证码是 314159", "314159", {"code": "314159", "minutes": "5"}, "zh-CN"
)
TEMPLATES = SmsTemplates(
    {
        ("verification_code", "zh-CN"): Row("SMS_1", "智慧人社", {"code": "code"}),
        ("verification_code", "en"): Row("SMS_2", "HRSS", {"no": "code", "min": "minutes"}),
        ("card_activated", "zh-CN"): Row("SMS_3", "智慧人社", {}),
    }
)


@pytest.fixture
async def provider() -> AsyncIterator[SmsProvider]:
    async with sms_provider() as running:
        yield running


def _gateway(provider: SmsProvider, *, key_id: str = KEY_ID, secret: str = KEY_SECRET) -> AliyunSms:
    return AliyunSms(f"http://127.0.0.1:{provider.port}", Credentials(key_id, lambda: secret), TEMPLATES)


@pytest.fixture
async def gateway(provider: SmsProvider) -> AsyncIterator[AliyunSms]:
    made = _gateway(provider)
    yield made
    await made.close()


def test_the_signature_is_that_of_the_example_in_their_paper() -> None:
    """The example with fixed values: https://help.aliyun.com/document_detail/2593177.html."""
    query = canonical_query(
        {"RegionId": "cn-shanghai", "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"},
    )
    headers = {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-version": "2014-05-26",
    }
    made = authorization(key_id="YourAccessKeyId", secret="YourAccessKeySecret", method="POST", query=query, headers=headers)
    assert made == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,"
        "SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


def test_a_query_is_encoded_as_they_want_it() -> None:
    assert canonical_query({"b": "a b*c~d/e+f", "a": "张", "C": ""}) == "C=&a=%E5%BC%A0&b=a%20b%2Ac~d%2Fe%2Bf"


async def test_a_message_arrives_with_sign_name_template_and_values(gateway: AliyunSms, provider: SmsProvider) -> None:
    await gateway.send(MESSAGE)
    await gateway.send(replace(MESSAGE, message_id="msg_en", locale="en"))
    await gateway.send(replace(MESSAGE, message_id="msg_none", template="card_activated", values={}))
    first, second, third = provider.delivered
    assert (first.message_id, first.to, first.template) == ("msg_abc", "13800138000", "SMS_1")
    assert (first.sign_name, first.values) == ("智慧人社", {"code": "314159"})
    assert (second.template, second.sign_name, second.values) == ("SMS_2", "HRSS", {"no": "314159", "min": "5"})
    assert (third.template, third.values) == ("SMS_3", {})


@pytest.mark.parametrize("value", ["a b+c&d=e%20*~'\"\\\n/?#", "张伟 😀", "{}", "1" * 200])
async def test_any_value_is_signed_and_arrives_as_it_is(value: str, gateway: AliyunSms, provider: SmsProvider) -> None:
    await gateway.send(replace(MESSAGE, values={"code": value, "minutes": "5"}))
    assert provider.delivered[0].values == {"code": value}


async def test_each_message_goes_over_a_connection_of_its_own(gateway: AliyunSms, provider: SmsProvider) -> None:
    for number in range(3):
        await gateway.send(replace(MESSAGE, message_id=f"msg_{number}"))
    assert len(provider.connections) == 3


async def test_many_at_once_have_each_a_nonce_of_their_own(gateway: AliyunSms, provider: SmsProvider) -> None:
    await asyncio.gather(*(gateway.send(replace(MESSAGE, message_id=f"msg_{n}")) for n in range(40)))
    assert sorted(one.message_id for one in provider.delivered) == sorted(f"msg_{n}" for n in range(40))


@pytest.mark.parametrize(("key_id", "secret"), [("LTAI-of-nobody", KEY_SECRET), (KEY_ID, "another secret")])
async def test_a_wrong_key_is_a_failure_that_can_be_mended(key_id: str, secret: str, provider: SmsProvider) -> None:
    gateway = _gateway(provider, key_id=key_id, secret=secret)
    with pytest.raises(SendFailed):
        await gateway.send(MESSAGE)
    await gateway.close()
    assert provider.delivered == []


async def test_the_twin_refuses_what_is_too_old(
    gateway: AliyunSms, provider: SmsProvider, lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Behind":
            return super().now(tz) - timedelta(minutes=16)

    monkeypatch.setattr(aliyun, "datetime", Behind)
    with pytest.raises(SendFailed):
        await gateway.send(MESSAGE)
    assert [line["code"] for line in lines] == ["InvalidTimeStamp.Expired"]
    assert provider.delivered == []


async def test_a_request_that_somebody_repeats_is_seen_to_be_one(
    gateway: AliyunSms, provider: SmsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "ab" * 16)
    await gateway.send(MESSAGE)
    # Somebody's copy of our request came before it, perhaps: whether that one was taken is not known.
    with pytest.raises(SendUncertain):
        await gateway.send(MESSAGE)
    assert len(provider.delivered) == 1


@pytest.mark.parametrize("code", sorted(REFUSED))
async def test_what_is_wrong_with_the_message_itself_is_never_offered_again(
    code: str, gateway: AliyunSms, provider: SmsProvider
) -> None:
    provider.next(f"200 {code}")
    with pytest.raises(SendRefused):
        await gateway.send(MESSAGE)


@pytest.mark.parametrize("change", [{"template": "gone"}, {"values": {}}])
async def test_a_message_from_before_a_change_that_has_no_template_any_more_is_refused(
    change: dict[str, Any], gateway: AliyunSms, provider: SmsProvider
) -> None:
    with pytest.raises(SendRefused):
        await gateway.send(replace(MESSAGE, **change))
    assert provider.offers == {}


async def test_a_number_that_is_none_is_refused(gateway: AliyunSms, provider: SmsProvider) -> None:
    with pytest.raises(SendRefused):
        await gateway.send(replace(MESSAGE, to="12345678901"))
    assert provider.delivered == []


@pytest.mark.parametrize(
    "answer",
    [
        "200 isv.BUSINESS_LIMIT_CONTROL",
        "200 isv.DAY_LIMIT_CONTROL",
        "200 isv.AMOUNT_NOT_ENOUGH",
        "200 isv.OUT_OF_SERVICE",
        "200 isv.SMS_TEMPLATE_ILLEGAL",
        "200 isv.SMS_SIGNATURE_ILLEGAL",
        "200 isv.TEMPLATE_MISSING_PARAMETERS",
        "200 isv.A_CODE_OF_NEXT_YEAR",
        "200 isp.RAM_PERMISSION_DENY",
        "400 Throttling.User",
        "503 Throttling",
        "403 Forbidden.RAM",
        "400 SignatureDoesNotMatch",
    ],
)
async def test_limits_and_what_can_be_mended_may_be_offered_again(
    answer: str, gateway: AliyunSms, provider: SmsProvider
) -> None:
    provider.next(answer)
    with pytest.raises(SendFailed):
        await gateway.send(MESSAGE)


@pytest.mark.parametrize(
    "answer",
    [
        "200 isp.SYSTEM_ERROR",
        "200 isp.GATEWAY_ERROR",
        "500 InternalError",
        "503 ServiceUnavailable",
        "502 garbage",
        "200 garbage",
        "302 garbage",
        CUT_BEFORE,
        CUT_AFTER,
    ],
)
async def test_where_the_provider_does_not_say_it_is_not_known(answer: str, gateway: AliyunSms, provider: SmsProvider) -> None:
    provider.next(answer)
    with pytest.raises(SendUncertain):
        await gateway.send(MESSAGE)
    assert len(provider.delivered) == (answer == CUT_AFTER)
    # One request, whatever came of it: nothing below repeats by itself.
    assert provider.offers["msg_abc"] == 1
    assert gateway.deduplicates is False


async def test_a_provider_who_says_nothing_leaves_it_unknown(
    gateway: AliyunSms, provider: SmsProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "ANSWER_SECONDS", 0.5)
    provider.next(SILENT)
    async with asyncio.timeout(5):
        with pytest.raises(SendUncertain):
            await gateway.send(MESSAGE)


async def test_a_provider_who_is_not_there_has_taken_nothing(provider: SmsProvider) -> None:
    nowhere = AliyunSms("http://127.0.0.1:1", Credentials(KEY_ID, lambda: KEY_SECRET), TEMPLATES)
    with pytest.raises(SendFailed):
        await nowhere.send(MESSAGE)
    with pytest.raises(SendFailed):
        await nowhere.reachable()
    await nowhere.close()
    assert provider.offers == {}


async def test_being_reachable_sends_nothing(gateway: AliyunSms, provider: SmsProvider) -> None:
    await gateway.reachable()
    assert provider.offers == {}


async def test_no_number_no_value_and_no_secret_is_logged(
    gateway: AliyunSms, provider: SmsProvider, lines: list[EventDict]
) -> None:
    provider.next("200 isv.OUT_OF_SERVICE", "200 isp.SYSTEM_ERROR", "502 garbage", CUT_BEFORE)
    for _ in range(4):
        with pytest.raises((SendFailed, SendUncertain)):
            await gateway.send(MESSAGE)
    assert [line.get("code", line["event"]) for line in lines] == [
        "isv.OUT_OF_SERVICE",
        "isp.SYSTEM_ERROR",
        "unreadable",
        "gateway_gave_no_answer",
    ]
    assert not re.search(r"13800138000|314159|secret of a test", repr(lines))
    assert KEY_SECRET not in repr(Credentials(KEY_ID, lambda: KEY_SECRET))


async def test_the_twin_itself_refuses_a_signature_over_something_else(provider: SmsProvider) -> None:
    """The twin is worth something only if it would notice."""
    made = _gateway(provider)
    query = canonical_query({"PhoneNumbers": "13800138000", "SignName": "s", "TemplateCode": "SMS_1", "OutId": "m"})
    headers = made._signed(query, datetime.now(UTC), "cd" * 16)  # noqa: SLF001  what it signed, to be changed afterwards
    url = URL(f"http://127.0.0.1:{provider.port}/?{query.replace('13800138000', '13900139000')}", encoded=True)
    answer = await made._calls.post(url, headers, b"")  # noqa: SLF001  sent as it is, without signing anew
    assert (answer.status, b"SignatureDoesNotMatch" in answer.body) == (400, True)
    await made.close()
    assert provider.delivered == []
