"""What people are told, as it arrives: by text message and by email, in their language, when and as often as it should."""

from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from api.client import Api, Reply
from api.counters import look_up
from api.test_dependants import end, link, linked
from api.test_dependants import household as household_of
from api.test_insurance import ago, known, registered
from pymongo import MongoClient

from service.config import Config
from service.ids import derived_id

ALIPAY = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/120 Mobile Safari/537.36 AlipayClient/10.5"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:128.0) Gecko/20100101 Firefox/128.0"
DAY = 86_400
Sent = dict[str, Any]


async def sent(api: Api, to: str) -> list[Sent]:
    """What came, oldest first, but for codes."""
    return [message for message in reversed(await api.messages(to)) if message["code"] is None]


async def by_both(api: Api, key: str = "with-email") -> tuple[list[Sent], list[Sent]]:
    """What came to somebody's mobile, and to their address."""
    person = await api.persona(key)
    mobile, address = await sent(api, person["mobile"]), await sent(api, person["email"])
    assert {message["channel"] for message in mobile} <= {"sms"}
    assert {message["channel"] for message in address} <= {"email"}
    return mobile, address


def templates(messages: list[Sent]) -> list[str]:
    return [message["template"] for message in messages if message["template"] != "new_device"]


async def signed_in_on(api: Api, key: str, user_agent: str, method: str = "face", language: str = "en") -> Api:
    person = await api.persona(key)
    body = {"method": method, "name": person["name"], "idNumber": person["idNumber"]}
    if method == "sms":
        body["mobile"] = person["mobile"]
    started = await api.post("/v1/identity/verifications", body, headers={"Accept-Language": language})
    assert started.status == 201, started.raw
    proof: dict[str, str] = {}
    if method == "sms":
        proof = {"code": await api.code_sent_to(person["mobile"])}
    if method == "password":
        proof = {"password": person["queryPassword"]}
    path = f"/v1/identity/verifications/{started.json['verificationId']}/confirm"
    reply = await api.post(path, proof, headers={"User-Agent": user_agent})
    assert reply.status == 200, reply.raw
    return api.as_(reply.json["accessToken"])


async def report_loss(client: Api, key: str, language: str = "zh-CN", **body: str) -> None:
    card_id = (await client.persona(key))["cards"][0]["cardId"]
    asked = {"kind": "temporary"} | body
    reply = await client.post(f"/v1/cards/{card_id}/loss", asked, key="new", headers={"Accept-Language": language})
    assert reply.status == 200, reply.raw


# --- by which ways, and in which language ---


@pytest.mark.parametrize(
    ("language", "said", "frame", "signature"),
    [
        ("zh-CN", "您的社会保障卡已临时挂失。如非本人操作，请拨打 12333。", "请勿回复", "【棠汀人社】"),
        ("en", "Your social security card is reported temporarily lost.", "do not answer", "[Tangting HRSS] "),
    ],
)
async def test_somebody_with_an_address_hears_of_it_once_on_each_way(
    api: Api, language: str, said: str, frame: str, signature: str
) -> None:
    client = await api.sign_in("with-email")
    await report_loss(client, "with-email", language)
    mobile, address = await by_both(api)
    assert templates(mobile) == templates(address) == ["temporary_loss_reported"]
    assert mobile[-1]["text"].startswith(f"{signature}{said}")
    assert said in address[-1]["text"]
    assert frame in address[-1]["text"]
    assert signature.strip("【】[] ") in address[-1]["text"]
    assert "://" not in address[-1]["text"]
    person = await api.persona("with-email")
    for secret in (person["name"], person["idNumber"], person["mobile"], person["cards"][0]["cardNumber"]):
        assert secret not in mobile[-1]["text"] + address[-1]["text"]


async def test_somebody_without_an_address_hears_by_text_message_alone(api: Api) -> None:
    client = await api.sign_in("active")
    await report_loss(client, "active")
    person = await api.persona("active")
    assert person["email"] is None
    assert templates(await sent(api, person["mobile"])) == ["temporary_loss_reported"]


async def test_a_region_says_it_in_its_own_words(api: Api) -> None:
    client = await api.sign_in("two-generations")
    reply = await client.activate(await api.details("two-generations", 1))
    assert reply.json["result"] == "activated"
    (message,) = [
        one for one in await sent(api, (await api.persona("two-generations"))["mobile"]) if one["template"] == "card_activated"
    ]
    assert message["text"] == "【智慧人社】您的社会保障卡已激活，过渡期内旧卡照常可用。如非本人操作，请立即拨打 12333。"


async def test_a_chosen_language_is_that_of_every_message(api: Api) -> None:
    client = await api.sign_in("with-email")
    chosen = {"smsOptOut": [], "emailOptOut": [], "locale": "en"}
    assert (await client.post("/v1/me/contacts/preferences", chosen, key="new")).json["locale"] == "en"
    await report_loss(client, "with-email", "zh-CN")
    mobile, address = await by_both(api)
    assert "reported temporarily lost" in mobile[-1]["text"]
    assert "reported temporarily lost" in address[-1]["text"]


# --- sign-ins ---


async def test_a_sign_in_on_something_not_seen_before_is_told_and_the_next_one_there_is_not(api: Api) -> None:
    await signed_in_on(api, "with-email", ALIPAY)
    mobile, address = await by_both(api)
    assert [message["template"] for message in mobile + address] == ["new_device"] * 2
    assert "by face verification, on a device or in an app not used before" in mobile[0]["text"]
    await signed_in_on(api, "with-email", ALIPAY.replace("14", "15").replace("10.5", "10.6"))
    assert len((await by_both(api))[0]) == 1
    await signed_in_on(api, "with-email", FIREFOX)
    assert len((await by_both(api))[0]) == 2
    await signed_in_on(api, "with-email", ALIPAY, "sms", "zh-CN")
    newest = (await by_both(api))[0][-1]
    assert newest["template"] == "new_device"
    assert "短信验证码" in newest["text"]


async def test_what_is_used_stays_known_and_what_is_not_is_new_again_after_ninety_days(api: Api) -> None:
    await signed_in_on(api, "active", ALIPAY)
    await signed_in_on(api, "active", FIREFOX)
    for _ in range(2):
        await api.advance(60 * DAY)
        await signed_in_on(api, "active", ALIPAY)
    mobile = (await api.persona("active"))["mobile"]
    assert [message["template"] for message in await sent(api, mobile)] == ["new_device"] * 2
    await signed_in_on(api, "active", FIREFOX)
    assert [message["template"] for message in await sent(api, mobile)] == ["new_device"] * 3


async def test_one_persons_device_is_new_for_another(api: Api) -> None:
    await signed_in_on(api, "active", ALIPAY)
    await signed_in_on(api, "guardian", ALIPAY)
    assert [message["template"] for message in await sent(api, (await api.persona("guardian"))["mobile"])] == ["new_device"]


async def test_every_sign_in_by_password_is_told(api: Api) -> None:
    for _ in range(3):
        await signed_in_on(api, "active", ALIPAY, "password", "zh-CN")
    told = await sent(api, (await api.persona("active"))["mobile"])
    assert [message["template"] for message in told] == ["new_device", "signed_in_by_password", "signed_in_by_password"]
    assert "查询密码" in told[0]["text"]
    assert "查询密码刚刚被用于登录" in told[1]["text"]


async def test_nobody_hears_of_a_sign_in_that_failed(api: Api) -> None:
    started = await api.start("active", "password")
    path = f"/v1/identity/verifications/{started['verificationId']}/confirm"
    assert (await api.post(path, {"password": "wrong-password"})).code == "verification_failed"
    assert await sent(api, (await api.persona("active"))["mobile"]) == []


async def test_who_had_a_refresh_token_stolen_hears_of_it_once(api: Api) -> None:
    tokens = await api.tokens("with-email")
    body = {"refreshToken": tokens["refreshToken"]}
    assert (await api.post("/v1/sessions/refresh", body)).status == 200
    for _ in range(2):
        assert (await api.post("/v1/sessions/refresh", body)).code == "token_revoked"
    mobile, address = await by_both(api)
    assert templates(mobile) == templates(address) == ["session_ended"]
    assert "一个登录凭证被重复使用" in mobile[-1]["text"]


async def test_a_stolen_token_of_an_operator_is_told_to_nobody(api: Api) -> None:
    tokens = await api.staff_tokens("bureau")
    body = {"refreshToken": tokens["refreshToken"]}
    assert (await api.post("/v1/sessions/refresh", body)).status == 200
    assert (await api.post("/v1/sessions/refresh", body)).code == "token_revoked"
    # The relay would stumble over a session that is no resident's, and carry nothing after it.
    assert (await api.sign_in("active")).token is not None
    await report_loss(await api.sign_in("active", "face"), "active")
    assert templates(await sent(api, (await api.persona("active"))["mobile"])) == ["temporary_loss_reported"]


# --- counters ---


async def test_who_is_looked_up_hears_of_it_once_a_day_where_their_region_says_so(api: Api) -> None:
    await api.at_hour(10)
    bureau = await api.sign_in_staff("bureau")
    for _ in range(3):
        assert (await look_up(bureau, "with-email", reason="loss")).status == 200
    mobile, address = await by_both(api)
    assert templates(mobile) == templates(address) == ["looked_up"]
    assert mobile[-1]["text"].startswith("【棠汀人社】云栖市虚构人社局刚刚查询了您的信息")
    teller = await api.sign_in_staff("bank-own")
    assert (await look_up(teller, "with-email", reason="loss")).status == 200
    assert len((await by_both(api))[0]) == 2
    await api.advance(DAY)
    again = await api.sign_in_staff("bureau")
    assert (await look_up(again, "with-email", reason="loss")).status == 200
    assert len((await by_both(api))[0]) == 3


async def test_where_the_region_does_not_say_so_and_where_nothing_was_shown_nobody_hears(api: Api) -> None:
    await api.at_hour(10)
    bureau = await api.sign_in_staff("bureau")
    assert (await look_up(bureau, "active", reason="loss")).status == 200
    assert await sent(api, (await api.persona("active"))["mobile"]) == []
    elsewhere = await api.sign_in_staff("bureau2")
    assert (await look_up(elsewhere, "with-email", reason="loss")).status == 404
    assert await by_both(api) == ([], [])


# --- quiet hours and opting out ---


async def test_at_night_what_can_wait_waits_for_the_morning_and_security_does_not(api: Api) -> None:
    night = await api.at_hour(23)
    bureau, client = await api.sign_in_staff("bureau"), await api.sign_in("with-email")
    assert (await look_up(bureau, "with-email", reason="loss")).status == 200
    await report_loss(client, "with-email")
    mobile, address = await by_both(api)
    assert templates(mobile) == templates(address) == ["temporary_loss_reported"]
    await api.at_hour(7)
    assert templates((await by_both(api))[0]) == ["temporary_loss_reported"]
    morning = await api.at_hour(8)
    mobile, address = await by_both(api)
    assert templates(mobile) == templates(address) == ["temporary_loss_reported", "looked_up"]
    went = datetime.fromisoformat(mobile[-1]["sentAt"])
    assert night < went
    assert (went.hour, went.utcoffset()) == (8, morning.utcoffset())


async def test_a_decision_about_somebody_waits_at_night_and_cannot_be_declined(api: Api) -> None:
    await api.at_hour(22)
    client = await api.sign_in("with-email")
    both = {"smsOptOut": ["service", "information"], "emailOptOut": ["information", "service"]}
    assert (await client.post("/v1/me/contacts/preferences", both, key="new")).status == 200
    employer = await api.sign_in_staff("employer")
    (item,) = await registered(employer, await known(api, "with-email") | {"hiredOn": await ago(api, 3)})
    assert item["result"] == "registered"
    assert templates((await by_both(api))[0]) == []
    await api.at_hour(9)
    mobile, address = await by_both(api)
    assert templates(mobile) == templates(address) == ["insurance_registered"]


async def test_what_is_declined_on_one_way_comes_on_the_other(api: Api) -> None:
    await api.at_hour(10)
    client = await api.sign_in("with-email")
    changed = await client.post("/v1/me/contacts/preferences", {"smsOptOut": ["service"], "emailOptOut": []}, key="new")
    assert (changed.json["smsOptOut"], changed.json["emailOptOut"], changed.json["locale"]) == (["service"], [], None)
    bureau = await api.sign_in_staff("bureau")
    assert (await look_up(bureau, "with-email", reason="loss")).status == 200
    await report_loss(client, "with-email")
    mobile, address = await by_both(api)
    assert templates(mobile) == ["temporary_loss_reported"]
    assert Counter(templates(address)) == {"looked_up": 1, "temporary_loss_reported": 1}


@pytest.mark.parametrize("declined", [["security"], ["marketing"], "service", [1]])
async def test_only_what_can_be_declined_is_declined(api: Api, declined: object) -> None:
    client = await api.sign_in("active")
    reply = await client.post("/v1/me/contacts/preferences", {"smsOptOut": declined, "emailOptOut": []}, key="new")
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert (await client.get("/v1/me/contacts")).json["smsOptOut"] == []


# --- guardians ---


async def test_guardian_and_dependant_both_hear_of_a_link_and_of_its_end(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    made = await linked(guardian, "unlinked-minor")
    child, adult = [(await api.persona(key))["mobile"] for key in ("unlinked-minor", "guardian")]
    (told,) = await sent(api, child)
    assert (told["template"], "已绑定为您的监护人" in told["text"]) == ("guardian_linked", True)
    assert templates(await sent(api, adult)) == ["dependant_linked"]
    # The same once more is the same link, and nothing to tell.
    assert (await link(guardian, await household_of(guardian, "unlinked-minor"))).status == 201
    assert (await end(guardian, made["dependantId"])).status == 200
    assert (await end(guardian, made["dependantId"])).status == 200
    assert templates(await sent(api, child)) == ["guardian_linked", "guardian_ended"]
    assert templates(await sent(api, adult)) == ["dependant_linked", "dependant_ended"]
    assert (await linked(guardian, "unlinked-minor"))["dependantId"] == made["dependantId"]
    assert templates(await sent(api, child)) == ["guardian_linked", "guardian_ended", "guardian_linked"]


async def test_both_hear_of_a_link_in_the_language_of_who_made_it(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    body = await household_of(guardian, "unlinked-minor")
    reply: Reply = await guardian.post("/v1/dependants", body, key="new", headers={"Accept-Language": "en"})
    assert reply.status == 201
    for key, said in (("unlinked-minor", "linked as your guardian"), ("guardian", "linked as guardian of a minor")):
        texts = [message["text"] for message in await sent(api, (await api.persona(key))["mobile"])]
        assert any(said in text for text in texts)


# --- what a process left to be told when it died ---


@pytest.mark.parametrize(
    ("where", "left", "template"),
    [
        (("sessions", "_id"), {"topic": "newDevice", "device": b"\x01" * 32}, "new_device"),
        (("sessions", "_id"), {"topic": "refreshTokenReused", "device": None}, "session_ended"),
        (("contacts", "_id"), {"id": "c:9", "topic": "emailRemoved", "locale": "en", "instead": None}, "email_removed"),
        (("dependants", "guardianId"), {"id": "dep:9:ended", "turn": "ended", "locale": "en"}, "dependant_ended"),
    ],
)
async def test_what_was_left_to_be_told_is_told_once_by_the_relay(
    api: Api, config: Config, where: tuple[str, str], left: dict[str, Any], template: str
) -> None:
    client = await api.sign_in("guardian")
    preferences: dict[str, Any] = {"smsOptOut": [], "emailOptOut": [], "locale": "en"}
    assert (await client.post("/v1/me/contacts/preferences", preferences, key="new")).status == 200
    mobile = (await api.persona("guardian"))["mobile"]
    before = Counter(message["template"] for message in await sent(api, mobile))
    collection, whose = where
    session_id = (await client.get("/v1/me")).json["sessionId"]
    query = {whose: session_id if collection == "sessions" else derived_id("hld", "guardian")}
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value()) as raw:
        documents = raw[config.mongodb_database][collection]
        assert documents.update_one(query, {"$push": {"news": left}}).modified_count == 1
        after = Counter(message["template"] for message in await sent(api, mobile))
        found = documents.find_one(query)
    # A session is told of as new once: here it was when it began.
    assert after - before == (Counter() if template == "new_device" else Counter({template: 1}))
    assert found is not None
    assert found["news"] == []
