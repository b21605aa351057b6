"""Codes of e-cards: good for a minute, redeemed once, by those who are designated for it, and never kept as they are."""

import asyncio
import base64
import re
import secrets
from collections import Counter
from typing import Any

import pytest
from api.client import Api, Reply
from api.counters import told
from api.ecards import PASSWORD, apply, code_of, holding, paying

from service.ecard_codes import KNOWN, STAFF_CODES
from service.ecard_images import drawn
from service.ecards import MOST_TRIES
from service.ids import derived_id, is_id
from service.mongo.client import Database

REDEEM = "/v1/staff/ecard-codes/redeem"
SHAPE = re.compile(r"[A-Z2-7]{32}")


def made_up() -> str:
    """A code as ours look, and nobody's."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


async def redeem(operator: Api, code: str) -> Reply:
    return await operator.post(REDEEM, {"code": code})


async def log_of(client: Api) -> list[tuple[str, str, str, str | None]]:
    entries = (await client.get("/v1/me/access-log")).json["items"]
    return [
        (entry["action"], entry["by"], entry["channel"], entry["reason"])
        for entry in entries
        if entry["action"] in {"redeemEcard", "refuseEcard"}
    ]


async def report_loss(client: Api, key: str = "active") -> None:
    card_id = (await client.persona(key))["cards"][0]["cardId"]
    assert (await client.post(f"/v1/cards/{card_id}/loss", {"kind": "temporary"}, key="new")).status == 200


@pytest.fixture
async def clerk(api: Api) -> Api:
    return await api.sign_in_staff("hospital")


async def test_a_code_is_opaque_lives_a_minute_and_is_kept_as_a_keyed_code_only(api: Api, database: Database) -> None:
    client = await holding(api)
    issued = await client.post("/v1/ecard/codes", {})
    assert issued.status == 200
    assert issued.headers["Cache-Control"] == "no-store"
    assert issued.json.keys() == {"code", "expiresAt", "ttlSeconds", "level"}
    assert (issued.json["ttlSeconds"], issued.json["level"]) == (60, 1)
    code = issued.json["code"]
    assert SHAPE.fullmatch(code)
    (document,) = await database.collection("ecard_codes").find({}, limit=10)
    assert code not in repr(document)
    assert base64.b32decode(code) not in repr(document).encode()
    assert base64.b32decode(code) not in {bytes(mac) for mac in (document["code"], *document["known"])}
    assert len({await code_of(client) for _ in range(5)} | {code}) == 6


async def test_a_counter_is_shown_what_it_needs_and_no_more(api: Api, clerk: Api) -> None:
    client = await holding(api)
    done = await redeem(clerk, await code_of(client))
    assert done.status == 200, done.raw
    person = await api.persona("active")
    (card,) = person["cards"]
    shown = dict(done.json)
    assert is_id("red", shown.pop("redemptionId"))
    assert shown.pop("redeemedAt").endswith("+08:00")
    assert shown == {
        "level": 1,
        "nameMasked": person["name"][0] + "*" * (len(person["name"]) - 1),
        "cardId": card["cardId"],
        "cardNumberMasked": shown["cardNumberMasked"],
        "regionCode": card["regionCode"],
    }
    assert shown["cardNumberMasked"].count("*") >= 5
    assert await log_of(client) == [("redeemEcard", "hospitalClerk", "hospital", "level1")]


async def test_a_code_is_taken_as_it_is_scanned_or_typed(api: Api, clerk: Api) -> None:
    client = await holding(api)
    code = await code_of(client)
    assert (await redeem(clerk, f" {code[:8].lower()}-{code[8:16]} {code[16:]}\u200b")).status == 200


async def test_two_hundred_at_once_redeem_a_code_once(api: Api, clerk: Api) -> None:
    teller = await api.sign_in_staff("bank-own")
    client = await paying(api)
    for _ in range(3):
        code = await code_of(client, password=PASSWORD)
        replies = await asyncio.gather(*(redeem(operator, code) for _ in range(100) for operator in (clerk, teller)))
        assert Counter((reply.status, reply.code if reply.status != 200 else "ok") for reply in replies) == {
            (200, "ok"): 1,
            (409, "ecard_code_used"): 199,
        }
    assert [entry[0] for entry in await log_of(client)] == ["redeemEcard"] * 3


async def test_a_code_that_was_redeemed_or_is_old_is_refused_each_by_its_name(api: Api, clerk: Api) -> None:
    client = await holding(api)
    code = await code_of(client)
    assert (await redeem(clerk, code)).status == 200
    used = await redeem(clerk, code)
    assert (used.status, used.code) == (409, "ecard_code_used")
    code = await code_of(client)
    await api.advance(59)
    assert (await redeem(clerk, code)).status == 200
    code = await code_of(client)
    await api.advance(60)
    old = await redeem(clerk, code)
    assert (old.status, old.code) == (410, "ecard_code_expired")


async def test_a_new_code_ends_those_before_it(api: Api, clerk: Api) -> None:
    client = await holding(api)
    codes = [await code_of(client) for _ in range(4)]
    for code in codes[:-1]:
        assert (await redeem(clerk, code)).code == "ecard_code_expired"
    assert (await redeem(clerk, codes[-1])).status == 200


async def test_of_many_codes_asked_for_at_once_one_is_good(api: Api, clerk: Api) -> None:
    client = await holding(api)
    codes = await asyncio.gather(*(code_of(client) for _ in range(KNOWN)))
    results = Counter([(await redeem(clerk, code)).status for code in codes])
    assert results == {200: 1, 410: KNOWN - 1}


async def test_codes_are_not_asked_for_without_end(api: Api) -> None:
    client = await holding(api)
    replies = await asyncio.gather(*(client.post("/v1/ecard/codes", {}) for _ in range(50)))
    assert Counter(reply.status for reply in replies) == {200: 30, 429: 20}
    assert {reply.code for reply in replies if reply.status == 429} == {"rate_limited"}
    await api.advance(61)
    await code_of(client)


async def test_the_card_is_judged_again_when_the_code_is_redeemed(api: Api, clerk: Api) -> None:
    client = await holding(api)
    code = await code_of(client)
    await report_loss(client)
    refused = [await redeem(clerk, code) for _ in range(3)]
    assert {(reply.status, reply.code, reply.json["reason"]) for reply in refused} == {
        (409, "ecard_unusable", "temporarilyLost")
    }
    # Why it was refused is the holder's to know of as well.
    assert await log_of(client) == [("refuseEcard", "hospitalClerk", "hospital", "temporarilyLost")]
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    assert (await client.post(f"/v1/cards/{card_id}/loss/cancel", {}, key="new")).status == 200
    assert (await redeem(clerk, code)).status == 200


async def test_a_code_ends_with_what_the_ecard_was(api: Api, clerk: Api) -> None:
    client = await paying(api)
    code = await code_of(client, password=PASSWORD)
    assert (await apply(client, password="830517")).status == 200
    assert (await redeem(clerk, code)).code == "ecard_code_expired"


async def test_an_account_that_is_no_longer_active_ends_payment_and_not_the_credential(
    api: Api, clerk: Api, database: Database
) -> None:
    client = await paying(api)
    paid = await code_of(client, password=PASSWORD)
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    await database.collection("cards").update({"_id": card_id}, {"$set": {"bank.status": "dormant"}})
    refused = await redeem(clerk, paid)
    assert (refused.status, refused.code, refused.json["reason"]) == (409, "ecard_unusable", "bankDormant")
    again = await client.post("/v1/ecard/codes", {"password": PASSWORD})
    assert (again.status, again.code, again.json["reason"]) == (409, "ecard_unusable", "bankDormant")
    shown = (await client.get("/v1/ecard")).json
    assert (shown["status"], shown["payment"]) == ("usable", {"usable": False, "reason": "bankDormant"})
    assert (await redeem(clerk, await code_of(client))).json["level"] == 1


async def test_each_code_stands_in_the_log_before_it_is_shown(api: Api) -> None:
    client = await holding(api)
    for number in range(3):
        entries = (await client.get("/v1/me/access-log")).json["items"]
        shown = [entry for entry in entries if entry["action"] == "showEcardCode"]
        assert len(shown) == number
        assert {(entry["by"], entry["channel"], entry["reason"]) for entry in shown} <= {("self", "app", None)}
        await code_of(client)


# The password


async def test_without_the_password_a_code_is_a_credential_and_with_it_it_pays(api: Api, clerk: Api) -> None:
    client = await paying(api)
    assert (await redeem(clerk, await code_of(client))).json["level"] == 1
    assert (await redeem(clerk, await code_of(client, password=PASSWORD))).json["level"] == 2


async def test_an_ecard_that_does_not_pay_takes_no_password(api: Api) -> None:
    client = await holding(api, password=PASSWORD)
    refused = await client.post("/v1/ecard/codes", {"password": PASSWORD})
    assert (refused.status, refused.json["errors"][0]["field"], refused.json["errors"][0]["code"]) == (
        422,
        "password",
        "not_needed",
    )


async def test_wrong_passwords_lock_payment_until_the_holder_applies_anew(api: Api) -> None:
    client = await paying(api)
    replies = [await client.post("/v1/ecard/codes", {"password": "900417"}) for _ in range(MOST_TRIES)]
    assert {(reply.status, reply.code) for reply in replies} == {(403, "ecard_password_incorrect")}
    assert [reply.json["triesLeft"] for reply in replies] == [4, 3, 2, 1, 0]
    locked = await client.post("/v1/ecard/codes", {"password": PASSWORD})
    assert (locked.status, locked.code) == (403, "ecard_password_locked")
    shown = (await client.get("/v1/ecard")).json
    assert (shown["password"], shown["payment"]["reason"]) == ({"state": "locked", "triesLeft": 0}, "ecardPasswordLocked")
    assert (await told(api, "active"))[0] == "ecard_locked"
    # The credential goes on.
    await code_of(client)
    again = await apply(client, level=2, password="830517")
    assert (again.status, again.json["password"]) == (200, {"state": "set", "triesLeft": MOST_TRIES})
    await api.advance(61)
    await code_of(client, password="830517")
    assert (await client.post("/v1/ecard/codes", {"password": PASSWORD})).json["triesLeft"] == 4


async def test_a_right_password_forgets_the_wrong_ones(api: Api) -> None:
    client = await paying(api)
    for _ in range(2):
        for _ in range(MOST_TRIES - 1):
            assert (await client.post("/v1/ecard/codes", {"password": "900417"})).code == "ecard_password_incorrect"
        await code_of(client, password=PASSWORD)
        await api.advance(61)


async def test_a_hundred_guesses_at_once_are_five(api: Api) -> None:
    client = await paying(api)
    await api.advance(61)
    guesses = [f"9{number:05d}" for number in range(100)]
    replies = await asyncio.gather(*(client.post("/v1/ecard/codes", {"password": guess}) for guess in guesses))
    codes = Counter(reply.code for reply in replies)
    assert codes["ecard_password_incorrect"] <= MOST_TRIES
    assert codes.keys() <= {"ecard_password_incorrect", "ecard_password_locked", "rate_limited", "unavailable"}


# Who may redeem


async def test_only_designated_institutions_redeem_and_a_bank_only_what_pays(api: Api) -> None:
    client = await paying(api)
    credential = await code_of(client)
    other, own = await api.sign_in_staff("bank-other"), await api.sign_in_staff("bank-own")
    assert (await other.get("/v1/staff/me")).json["institution"]["redeemsEcards"] is False
    assert (await own.get("/v1/staff/me")).json["institution"]["redeemsEcards"] is True
    undesignated = await redeem(other, credential)
    assert (undesignated.status, undesignated.code, undesignated.json["channels"]) == (
        403,
        "channel_not_allowed",
        ["bank", "hospital"],
    )
    credential_at_bank = await redeem(own, credential)
    assert (credential_at_bank.status, credential_at_bank.code, credential_at_bank.json["channels"]) == (
        *(403, "channel_not_allowed"),
        ["hospital"],
    )
    assert (await redeem(own, await code_of(client, password=PASSWORD))).json["level"] == 2


async def test_a_bank_redeems_for_its_own_cards_only(api: Api, database: Database) -> None:
    client = await paying(api)
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    await database.collection("cards").update({"_id": card_id}, {"$set": {"bank.code": "B902"}})
    refused = await redeem(await api.sign_in_staff("bank-own"), await code_of(client, password=PASSWORD))
    assert (refused.status, refused.code) == (403, "channel_not_allowed")


async def test_an_institution_of_an_earlier_version_is_not_designated(api: Api, clerk: Api, database: Database) -> None:
    client = await holding(api)
    code = await code_of(client)
    designated: dict[str, Any] = {"_id": derived_id("ins", "hospital")}
    found = await database.collection("institutions").find_one(designated)
    assert found is not None
    try:
        await database.collection("institutions").update(designated, {"$unset": {"redeemsEcards": ""}})
        refused = await redeem(clerk, code)
        assert (refused.status, refused.code) == (403, "channel_not_allowed")
    finally:
        await database.collection("institutions").replace(found)
    assert (await redeem(clerk, code)).status == 200


async def test_a_card_of_another_region_is_redeemed_where_both_are_interconnected(
    api: Api, clerk: Api, database: Database
) -> None:
    """The hospital is of 990100; 990300 is not interconnected, and 990500 is."""
    near = await holding(api, "two-generations")
    assert (await redeem(clerk, await code_of(near))).json["regionCode"] == "990500"
    card_id = (await api.persona("not-interconnected"))["cards"][0]["cardId"]
    await database.collection("cards").update({"_id": card_id}, {"$set": {"status": "active"}})
    far = await holding(api, "not-interconnected")
    refused = await redeem(clerk, await code_of(far))
    assert (refused.status, refused.code) == (403, "region_not_interconnected")
    assert (refused.json["regionCode"], refused.json["channels"]) == ("990300", ["hospital"])
    assert await log_of(far) == [("refuseEcard", "hospitalClerk", "hospital", "region_not_interconnected")]


async def test_an_operator_guesses_a_few_times_and_no_more_and_what_is_no_code_is_no_guess(api: Api, clerk: Api) -> None:
    client = await holding(api)
    for scanned in ("https://pay.example/abc", "A" * 31, "1" * 32, "张" * 32):
        refused = await redeem(clerk, scanned)
        assert (refused.status, refused.code) == (422, "ecard_code_invalid")
    replies = await asyncio.gather(*(redeem(clerk, made_up()) for _ in range(STAFF_CODES.most + 10)))
    codes = Counter(reply.code for reply in replies)
    assert codes.keys() == {"ecard_code_invalid", "too_many_attempts"}
    assert 1 <= codes["ecard_code_invalid"] <= STAFF_CODES.most
    for _ in range(STAFF_CODES.most - codes["ecard_code_invalid"]):
        await redeem(clerk, made_up())
    locked = await redeem(clerk, await code_of(client))
    assert (locked.status, locked.code) == (429, "too_many_attempts")
    await api.advance(3601)
    later = await api.sign_in_staff("hospital")
    assert (await redeem(later, await code_of(await api.sign_in("active", "face")))).status == 200


# The picture


async def test_my_own_live_code_is_drawn_and_nobody_elses(api: Api, clerk: Api) -> None:
    client = await holding(api)
    code = await code_of(client)
    picture = await client.post("/v1/ecard/codes/svg", {"code": code})
    assert (picture.status, picture.headers["Content-Type"], picture.headers["Cache-Control"]) == (
        200,
        "image/svg+xml",
        "no-store",
    )
    assert picture.raw == drawn(code)
    assert code.encode() not in picture.raw
    other = await holding(api, "guardian")
    for stranger, asked in ((other, code), (client, made_up()), (client, "no code")):
        refused = await stranger.post("/v1/ecard/codes/svg", {"code": asked})
        assert (refused.status, refused.code) == (422, "ecard_code_invalid")
    assert (await redeem(clerk, code)).status == 200
    assert (await client.post("/v1/ecard/codes/svg", {"code": code})).code == "ecard_code_used"
    code = await code_of(client)
    await api.advance(60)
    assert (await client.post("/v1/ecard/codes/svg", {"code": code})).code == "ecard_code_expired"


async def test_a_picture_is_never_put_into_an_envelope_and_a_refusal_is(api: Api) -> None:
    client = await holding(api)
    asked = {"Accept": "application/vnd.yika.envelope+json"}
    picture = await client.post("/v1/ecard/codes/svg", {"code": await code_of(client)}, headers=asked)
    assert (picture.status, picture.headers["Content-Type"]) == (200, "image/svg+xml")
    refused = await client.post("/v1/ecard/codes/svg", {"code": made_up()}, headers=asked)
    assert (refused.status, refused.json["code"], refused.json["httpStatus"]) == (200, "ecard_code_invalid", 422)
