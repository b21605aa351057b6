"""The address that a person confirms, and what they decline."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api.client import Api, Reply
from pymongo import MongoClient

from service.config import Config
from service.mongo.client import Database

ADDRESS = "zhang.wei@mail.example"
OTHER = "other@mail.example"
NOTHING: dict[str, Any] = {
    "emailMasked": None,
    "emailConfirmedAt": None,
    "pendingEmail": None,
    "smsOptOut": [],
    "emailOptOut": [],
    "locale": None,
    "quietHours": None,
}


async def ask(client: Api, address: str = ADDRESS, key: str = "new") -> Reply:
    return await client.post("/v1/me/contacts/email", {"email": address}, key=key)


async def confirm(client: Api, code: str, key: str = "new") -> Reply:
    return await client.post("/v1/me/contacts/email/confirm", {"code": code}, key=key)


async def remove(client: Api, key: str = "new") -> Reply:
    return await client.post("/v1/me/contacts/email/remove", {}, key=key)


async def confirmed(client: Api, address: str = ADDRESS) -> Reply:
    """Ask for a code, find it and confirm with it."""
    asked = await ask(client, address)
    assert asked.status == 200, asked.raw
    reply = await confirm(client, await client.code_sent_to(address))
    assert reply.status == 200, reply.raw
    return reply


async def prefer(client: Api, locale: str, key: str = "new") -> Reply:
    return await client.post("/v1/me/contacts/preferences", {"smsOptOut": [], "emailOptOut": [], "locale": locale}, key=key)


async def forget_answers(database: Database) -> None:
    """What a process leaves that died between what it did and the keeping of its answer."""
    over = {"$set": {"answer": None, "leaseUntil": datetime.now(UTC) - timedelta(days=1)}}
    await database.collection("idempotency").update_all({}, over)


def wrong(code: str, number: int = 1) -> str:
    return f"{(int(code) + number) % 1_000_000:06d}"


async def told(client: Api, to: str) -> list[str]:
    """What came there, oldest first, but for codes and of sign-ins."""
    templates = [message["template"] for message in reversed(await client.messages(to))]
    return [template for template in templates if template not in {"verification_code", "email_code", "new_device"}]


async def test_nobody_has_an_address_before_they_confirm_one(api: Api) -> None:
    client = await api.sign_in("active")
    mobile = (await api.persona("active"))["mobile"]
    assert (await client.get("/v1/me/contacts")).json == NOTHING | {"mobileMasked": f"{mobile[:3]}****{mobile[-4:]}"}


async def test_the_persona_with_an_address_has_one_and_the_quiet_hours_of_their_region(api: Api) -> None:
    client = await api.sign_in("with-email")
    shown = (await client.get("/v1/me/contacts")).json
    assert shown["emailMasked"] == "w****@people.example"
    assert shown["quietHours"] == {"begins": "22:00", "ends": "08:00"}


async def test_an_address_is_confirmed_with_the_code_that_was_sent_there(api: Api) -> None:
    client = await api.sign_in("active")
    asked = await ask(client, " Zhang.Wei@Mail.Example ")
    assert (asked.status, asked.json["emailMasked"]) == (200, "z****@mail.example")
    waiting = (await client.get("/v1/me/contacts")).json
    assert waiting["pendingEmail"] == {"emailMasked": "z****@mail.example", "expiresAt": asked.json["expiresAt"]}
    (letter,) = await client.messages(ADDRESS)
    assert (letter["channel"], letter["to"], letter["template"]) == ("email", ADDRESS, "email_code")
    assert letter["code"] in letter["text"]
    assert "10 分钟" in letter["text"]
    assert "://" not in letter["text"]
    reply = await confirm(client, letter["code"])
    assert (reply.json["emailMasked"], reply.json["pendingEmail"]) == ("z****@mail.example", None)
    assert reply.json["emailConfirmedAt"] is not None
    assert (await client.get("/v1/me/contacts")).json == reply.json
    assert await told(client, ADDRESS) == ["email_confirmed"]
    assert await told(client, (await api.persona("active"))["mobile"]) == ["email_confirmed"]
    written = [(entry["action"], entry["by"]) for entry in await client.accesses()]
    assert written == [("changeEmail", "self"), ("askEmailCode", "self")]


async def test_nothing_is_sent_to_an_address_before_it_is_confirmed(api: Api) -> None:
    client = await api.sign_in("active")
    assert (await ask(client)).status == 200
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    assert (await client.post(f"/v1/cards/{card_id}/loss", {"kind": "temporary"}, key="new")).status == 200
    assert await told(client, (await api.persona("active"))["mobile"]) == ["temporary_loss_reported"]
    assert await told(client, ADDRESS) == []


async def test_a_change_of_address_is_told_to_the_old_one_and_to_the_mobile_but_not_to_the_new(api: Api) -> None:
    client, person = await api.sign_in("with-email"), await api.persona("with-email")
    reply = await confirmed(client, OTHER)
    assert reply.json["emailMasked"] == "o****@mail.example"
    assert await told(client, person["email"]) == ["email_changed"]
    assert await told(client, person["mobile"]) == ["email_changed"]
    assert await told(client, OTHER) == []
    # The same one anew is no change.
    await api.advance(61)
    await confirmed(client, OTHER)
    assert await told(client, person["mobile"]) == ["email_changed"]
    assert await told(client, OTHER) == []


async def test_taking_the_address_away_is_told_to_it_and_to_the_mobile(api: Api) -> None:
    client, person = await api.sign_in("with-email"), await api.persona("with-email")
    for _ in range(2):
        gone = await remove(client)
        assert (gone.status, gone.json["emailMasked"], gone.json["emailConfirmedAt"]) == (200, None, None)
    assert await told(client, person["email"]) == ["email_removed"]
    assert await told(client, person["mobile"]) == ["email_removed"]
    assert [entry["action"] for entry in await client.accesses()] == ["removeEmail"]
    card_id = person["cards"][0]["cardId"]
    assert (await client.post(f"/v1/cards/{card_id}/loss", {"kind": "formal"}, key="new")).status == 200
    assert await told(client, person["mobile"]) == ["email_removed", "formal_loss_reported"]
    assert await told(client, person["email"]) == ["email_removed"]


async def test_a_code_has_five_tries_and_the_right_one_is_too_late_after_them(api: Api) -> None:
    client = await api.sign_in("active")
    await ask(client)
    code = await client.code_sent_to(ADDRESS)
    for left in (4, 3, 2, 1, 0):
        reply = await confirm(client, wrong(code))
        assert (reply.status, reply.code, reply.json["triesLeft"]) == (403, "verification_failed", left)
    assert (await confirm(client, code)).code == "verification_locked"
    await api.advance(61)
    assert (await confirmed(client)).json["emailMasked"] == "z****@mail.example"


async def test_of_many_guesses_at_once_five_are_judged_and_one_succeeds_at_most(api: Api) -> None:
    client = await api.sign_in("active")
    await ask(client)
    code = await client.code_sent_to(ADDRESS)
    guesses = [code if number == 20 else wrong(code, number + 1) for number in range(40)]
    replies = await asyncio.gather(*(confirm(client, guess) for guess in guesses))
    codes = [reply.code if reply.status != 200 else "confirmed" for reply in replies]
    assert codes.count("verification_failed") + codes.count("confirmed") <= 5
    assert codes.count("confirmed") <= 1
    assert {*codes} <= {"verification_failed", "verification_locked", "verification_expired", "confirmed"}


async def test_a_code_that_came_back_many_times_at_once_is_one_change(api: Api) -> None:
    client, person = await api.sign_in("with-email"), await api.persona("with-email")
    await ask(client, OTHER)
    code = await client.code_sent_to(OTHER)
    replies = await asyncio.gather(*(confirm(client, code) for _ in range(4)))
    assert [reply.status for reply in replies].count(200) == 1
    assert {reply.code for reply in replies if reply.status != 200} <= {"verification_expired", "verification_locked"}
    assert await told(client, person["email"]) == ["email_changed"]


async def test_a_code_is_good_for_ten_minutes_and_for_one_time(api: Api) -> None:
    client = await api.sign_in("active")
    await ask(client)
    code = await client.code_sent_to(ADDRESS)
    await api.advance(601)
    assert (await confirm(client, code)).code == "verification_expired"
    assert (await client.get("/v1/me/contacts")).json["pendingEmail"] is None
    client = await api.sign_in("active", "face")
    await ask(client)
    code = await client.code_sent_to(ADDRESS)
    assert (await confirm(client, code)).status == 200
    assert (await confirm(client, code)).code == "verification_expired"


async def test_a_new_code_voids_the_old_also_for_another_address(api: Api) -> None:
    client = await api.sign_in("active")
    await ask(client)
    old = await client.code_sent_to(ADDRESS)
    await api.advance(61)
    await ask(client, OTHER)
    new = await client.code_sent_to(OTHER)
    if old != new:
        assert (await confirm(client, old)).code == "verification_failed"
    assert (await confirm(client, new)).json["emailMasked"] == "o****@mail.example"


async def test_a_code_is_of_no_use_to_somebody_else(api: Api) -> None:
    client, other = await api.sign_in("active"), await api.sign_in("guardian")
    await ask(client)
    code = await client.code_sent_to(ADDRESS)
    assert (await confirm(other, code)).code == "verification_expired"
    await ask(other, OTHER)
    if await client.code_sent_to(OTHER) != code:
        assert (await confirm(other, code)).code == "verification_failed"


async def test_the_same_key_is_the_same_answer_and_one_code(api: Api) -> None:
    client = await api.sign_in("active")
    key = secrets.token_hex(8)
    first, again = await ask(client, key=key), await ask(client, key=key)
    assert (again.raw, again.headers.get("Idempotency-Replayed")) == (first.raw, "true")
    assert len(await client.messages(ADDRESS)) == 1
    code = await client.code_sent_to(ADDRESS)
    first, again = await confirm(client, code, "c"), await confirm(client, code, "c")
    assert (again.raw, again.headers.get("Idempotency-Replayed")) == (first.raw, "true")
    assert await told(client, (await api.persona("active"))["mobile"]) == ["email_confirmed"]


async def test_a_late_retry_of_a_removal_leaves_the_address_alone_that_was_confirmed_since(
    api: Api, database: Database
) -> None:
    client = await api.sign_in("with-email")
    key = secrets.token_hex(8)
    assert (await remove(client, key)).status == 200
    await confirmed(client, OTHER)
    await forget_answers(database)
    retried = await remove(client, key)
    assert (retried.status, retried.json["emailMasked"]) == (200, "o****@mail.example")
    assert await told(client, OTHER) == ["email_confirmed"]


async def test_a_late_retry_of_a_choice_does_not_undo_a_later_one(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    key = secrets.token_hex(8)
    for locale, its_key in (("en", key), ("zh-CN", "new")):
        assert (await prefer(client, locale, its_key)).json["locale"] == locale
    await forget_answers(database)
    retried = await prefer(client, "en", key)
    assert (retried.status, retried.json["locale"]) == (200, "zh-CN")


async def test_a_late_retry_of_a_confirmation_finds_it_done_and_takes_no_try_from_a_newer_code(
    api: Api, database: Database
) -> None:
    client = await api.sign_in("active")
    key = secrets.token_hex(8)
    assert (await ask(client)).status == 200
    code = await client.code_sent_to(ADDRESS)
    assert (await confirm(client, code, key)).status == 200
    assert (await prefer(client, "en")).status == 200
    await forget_answers(database)
    retried = await confirm(client, code, key)
    assert (retried.status, retried.json.get("emailMasked")) == (200, "z****@mail.example")
    await api.advance(61)
    await ask(client, OTHER)
    newer = await client.code_sent_to(OTHER)
    await forget_answers(database)
    assert (await confirm(client, code, key)).status == 200
    assert (await confirm(client, wrong(newer))).json["triesLeft"] == 4


async def test_codes_are_sent_no_more_often_than_a_mobile_is_written_to(api: Api) -> None:
    client = await api.sign_in("active")
    assert (await ask(client)).status == 200
    soon = await ask(client, OTHER)
    assert (soon.status, soon.code) == (429, "rate_limited")
    assert 0 < int(soon.headers["Retry-After"]) <= 60
    for _ in range(4):
        await api.advance(61)
        assert (await ask(client)).status == 200
    await api.advance(61)
    assert (await ask(client)).code == "rate_limited"
    # An address is not written to more often than that, whoever asks.
    stranger = await api.sign_in("guardian")
    assert (await ask(stranger)).code == "rate_limited"
    assert len(await client.messages(ADDRESS)) == 5


async def test_an_address_is_changed_by_who_was_verified_just_now_and_surely_enough(api: Api) -> None:
    by_password = await api.sign_in("active", "password")
    for reply in (
        await ask(by_password),
        await confirm(by_password, "123456"),
        await remove(by_password),
        await by_password.post("/v1/me/contacts/preferences", {"smsOptOut": [], "emailOptOut": []}, key="new"),
    ):
        assert (reply.status, reply.code) == (403, "assurance_too_low")
    assert (await by_password.get("/v1/me/contacts")).status == 200
    client = await api.sign_in("active")
    await api.advance(601)
    for reply in (await ask(client), await remove(client)):
        assert (reply.code, reply.json["reason"]) == ("assurance_too_low", "notFresh")


@pytest.mark.parametrize("address", ["nobody", "a@b", "a@example.com\r\nBcc: b@example.com", "张@example.com", 7, "a" * 300])
async def test_what_is_no_address_is_refused(api: Api, address: Any) -> None:
    client = await api.sign_in("active")
    reply = await ask(client, address)
    assert (reply.status, reply.code, reply.json["errors"][0]["field"]) == (422, "invalid_request", "email")
    assert "example" not in reply.raw.decode().replace("name@example.com", "")


async def test_preferences_leave_the_address_and_a_code_that_is_out_alone(api: Api) -> None:
    client = await api.sign_in("with-email")
    await ask(client, OTHER)
    wanted = {"smsOptOut": ["information"], "emailOptOut": ["service", "information"], "locale": "en"}
    reply = await client.post("/v1/me/contacts/preferences", wanted, key="new")
    assert reply.json | wanted | {"emailOptOut": ["information", "service"]} == reply.json
    assert reply.json["emailMasked"] == "w****@people.example"
    done = await confirm(client, await client.code_sent_to(OTHER))
    assert (done.json["emailMasked"], done.json["smsOptOut"], done.json["locale"]) == (
        "o****@mail.example",
        ["information"],
        "en",
    )
    back: dict[str, Any] = {"smsOptOut": [], "emailOptOut": [], "locale": None}
    assert (await client.post("/v1/me/contacts/preferences", back, key="new")).json["locale"] is None
    assert "changePreferences" in [entry["action"] for entry in await client.accesses()]


async def test_who_never_asked_for_anything_can_have_preferences(api: Api) -> None:
    client = await api.sign_in("active")
    wanted = {"smsOptOut": ["information"], "emailOptOut": []}
    replies = await asyncio.gather(
        *(client.post("/v1/me/contacts/preferences", wanted, key="new") for _ in range(6)), ask(client)
    )
    assert {reply.status for reply in replies} == {200}
    assert (await client.get("/v1/me/contacts")).json["smsOptOut"] == ["information"]
    assert (await confirm(client, await client.code_sent_to(ADDRESS))).json["emailMasked"] == "z****@mail.example"


async def test_neither_an_address_nor_a_code_lies_in_the_database_in_plain(api: Api, config: Config) -> None:
    client = await api.sign_in("with-email")
    await ask(client, OTHER)
    code = await client.code_sent_to(OTHER)
    with MongoClient[dict[str, Any]](config.mongodb_uri.get_secret_value()) as raw:
        database = raw[config.mongodb_database]
        found = str([*database.contacts.find()]) + str([*database.messages.find()]) + str([*database.familiar_devices.find()])
        assert (await confirm(client, code)).status == 200
        found += str([*database.contacts.find()]) + str([*database.messages.find()])
    assert "smsDeclined" in found
    for secret in (OTHER, (await api.persona("with-email"))["email"], f"'{code}'", "people.example", "aiohttp"):
        assert secret not in found


async def test_a_reset_brings_back_everybodys_contacts(api: Api) -> None:
    client, other = await api.sign_in("with-email"), await api.sign_in("active")
    await remove(client)
    await confirmed(other)
    assert (await api.post("/sandbox/reset", {})).status == 200
    assert (await client.get("/v1/me/contacts")).json["emailMasked"] == "w****@people.example"
    assert (await other.get("/v1/me/contacts")).json["emailMasked"] is None
