import asyncio
from collections import Counter
from typing import Any

import jwt
import pytest
from api.client import Api


async def test_a_second_activation_says_the_same_and_changes_nothing(api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    first = (await client.activate(details)).json
    second = (await client.activate(details)).json
    assert (first["result"], second["result"]) == ("activated", "alreadyActivated")
    for name in ("activationId", "cardId", "message", "activatedAt", "channel", "medicalAccount"):
        assert first[name] == second[name]
    history = (await client.get(f"/v1/cards/{first['cardId']}/history")).json["items"]
    assert [(e["event"], e["from"], e["to"], e["channel"]) for e in history] == [("activated", "sealed", "active", "app")]


@pytest.mark.parametrize("one_key", [True, False])
async def test_two_hundred_at_once_activate_once(api: Api, *, one_key: bool) -> None:
    person = await api.persona("sealed")
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    keys = ["the-one-key"] * 200 if one_key else [f"key-{number}" for number in range(200)]
    replies = await asyncio.gather(*(client.activate(details, key) for key in keys))
    assert {reply.status for reply in replies} <= {200, 409}
    good = [reply.json for reply in replies if reply.status == 200]
    assert len({answer["activationId"] for answer in good}) == 1
    if one_key:
        assert {answer["result"] for answer in good} == {"activated"}
        assert {reply.code for reply in replies if reply.status == 409} <= {"idempotency_in_flight"}
    else:
        assert Counter(answer["result"] for answer in good) == {"activated": 1, "alreadyActivated": 199}
    history = (await client.get(f"/v1/cards/{good[0]['cardId']}/history")).json["items"]
    assert len(history) == 1
    sent = [message for message in await api.messages(person["mobile"]) if message["template"] == "card_activated"]
    assert len(sent) == 1


@pytest.mark.parametrize("field", ["idNumber", "cardNumber", "identificationCode"])
async def test_which_detail_does_not_match_is_never_told(api: Api, field: str) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed") | {field: (await api.details("sealed2"))[field]}
    reply = await client.activate(details)
    assert (reply.status, reply.code) == (422, "card_details_mismatch")
    assert "errors" not in reply.json


async def test_somebody_elses_card_is_a_mismatch(api: Api) -> None:
    client = await api.sign_in("sealed")
    assert (await client.activate(await api.details("sealed2"))).code == "card_details_mismatch"


async def test_five_mismatches_a_day_and_no_more_not_even_a_right_one(api: Api) -> None:
    client = await api.sign_in("sealed")
    right = await api.details("sealed")
    wrong = right | {"cardNumber": (await api.details("sealed2"))["cardNumber"]}
    codes = [(await client.activate(wrong)).code for _ in range(6)]
    assert codes == ["card_details_mismatch"] * 5 + ["too_many_attempts"]
    locked = await client.activate(right)
    assert (locked.status, locked.code) == (429, "too_many_attempts")
    assert int(locked.headers["Retry-After"]) > 80_000
    await api.advance(86_400)
    again = await api.sign_in("sealed")
    assert (await again.activate(right)).json["result"] == "activated"


async def test_fifty_different_guesses_at_once_are_five_guesses(api: Api) -> None:
    client = await api.sign_in("sealed")
    right = await api.details("sealed")
    code = right["identificationCode"]
    guesses = [right | {"identificationCode": f"{code[:-2]}{number:02X}"} for number in range(256)]
    guesses = [guess for guess in guesses if guess != right][:50]
    replies = await asyncio.gather(*(client.activate(guess) for guess in guesses))
    codes = Counter(reply.code for reply in replies)
    assert codes["card_details_mismatch"] <= 5
    assert codes["card_details_mismatch"] + codes["too_many_attempts"] == 50


@pytest.mark.parametrize(
    ("persona", "reason"),
    [
        ("temporarily-lost", "temporarilyLost"),
        ("formally-lost", "formallyLost"),
        ("locked", "locked"),
        ("cancelled", "cancelled"),
        ("not-delivered", "notDelivered"),
        ("test-card", "testCard"),
    ],
)
async def test_a_card_in_the_wrong_state_is_refused_with_the_reason(api: Api, persona: str, reason: str) -> None:
    client = await api.sign_in(persona)
    reply = await client.activate(await api.details(persona))
    assert (reply.status, reply.code, reply.json["reason"]) == (409, "card_not_activatable", reason)
    card_id = (await api.persona(persona))["cards"][0]["cardId"]
    card = (await client.get(f"/v1/cards/{card_id}")).json
    assert card["actions"][0] == {"action": "activate", "allowed": False, "reason": reason}


async def test_a_temporary_loss_ends_by_itself(api: Api) -> None:
    client = await api.sign_in("temporarily-lost")
    card_id = (await api.persona("temporarily-lost"))["cards"][0]["cardId"]
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == "temporarilyLost"
    await api.advance(91 * 86_400)
    client = await api.sign_in("temporarily-lost")
    assert (await client.get(f"/v1/cards/{card_id}")).json["status"] == "active"
    reply = await client.activate(await api.details("temporarily-lost"))
    assert reply.json["result"] == "alreadyActivated"


async def test_a_frozen_medical_account_thaws_on_activation(api: Api) -> None:
    client = await api.sign_in("frozen-medical")
    card_id = (await api.persona("frozen-medical"))["cards"][0]["cardId"]
    assert (await client.get(f"/v1/cards/{card_id}")).json["medicalAccount"] == "frozen"
    items = (await client.get(f"/v1/cards/{card_id}/balance")).json["items"]
    assert next(item for item in items if item["account"] == "medical")["status"] == "frozen"
    assert (await client.activate(await api.details("frozen-medical"))).json["medicalAccount"] == "normal"
    assert (await client.get(f"/v1/cards/{card_id}")).json["medicalAccount"] == "normal"


async def test_a_password_session_may_look_but_not_activate(api: Api) -> None:
    client = await api.sign_in("sealed", "password")
    assert (await client.get("/v1/cards")).status == 200
    reply = await client.activate(await api.details("sealed"))
    assert (reply.status, reply.code, reply.json["requiredAssurance"]) == (403, "assurance_too_low", 2)


async def test_interconnected_regions_serve_each_others_cards(api: Api) -> None:
    client = await api.sign_in("cross-region")
    assert (await client.activate(await api.details("cross-region"))).json["result"] == "activated"


async def test_regions_that_are_not_interconnected_name_the_way_out(api: Api) -> None:
    client = await api.sign_in("not-interconnected")
    reply = await client.activate(await api.details("not-interconnected"))
    assert (reply.status, reply.code) == (403, "region_not_interconnected")
    assert "bureau" in reply.json["channels"]


@pytest.mark.parametrize("persona", ["hk-resident", "retired-region-id", "flexible-worker", "sealed3"])
async def test_all_kinds_of_people_activate(api: Api, persona: str) -> None:
    client = await api.sign_in(persona)
    assert (await client.activate(await api.details(persona))).status == 200


async def test_of_two_generations_the_new_card_is_activated_and_the_old_one_works_on(api: Api) -> None:
    client = await api.sign_in("two-generations")
    cards = (await client.get("/v1/cards")).json["items"]
    assert {(card["generation"], card["status"]) for card in cards} == {(2, "active"), (3, "sealed")}
    person = await api.persona("two-generations")
    sealed = next(card["cardId"] for card in cards if card["status"] == "sealed")
    index = next(i for i, card in enumerate(person["cards"]) if card["cardId"] == sealed)
    assert (await client.activate(await api.details("two-generations", index))).json["result"] == "activated"
    panel = (await client.get("/v1/pages/social-security-card")).json["panel"]
    assert panel["cardId"] == sealed


async def test_a_minor_needs_a_guardian(api: Api) -> None:
    own = await api.sign_in("minor", "face")
    assert (await own.activate(await api.details("minor"))).code == "guardian_required"
    guardian = await api.sign_in("guardian")
    assert (await guardian.activate(await api.details("minor"))).code == "guardian_required"
    assert (await guardian.activate(await api.details("unlinked-minor"))).code == "guardian_required"


@pytest.mark.parametrize("dependant", ["dep_aaaaaaaaaaaaaaaaaaaaaaaa", "nonsense"])
async def test_a_dependant_that_is_not_linked_is_not_found(api: Api, dependant: str) -> None:
    guardian = await api.sign_in("guardian")
    body = await api.details("unlinked-minor") | {"onBehalfOf": dependant}
    assert (await guardian.activate(body)).code == "not_found"


async def test_typed_numbers_are_normalised(api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    typed = {
        "idNumber": f" {details['idNumber'].lower()} ",
        "cardNumber": "".join(chr(ord(sign) + 0xFEE0) for sign in details["cardNumber"]),
        "identificationCode": " ".join(details["identificationCode"].lower()[i : i + 4] for i in range(0, 32, 4)),
    }
    assert (await client.activate(typed)).json["result"] == "activated"


async def test_a_wrong_check_character_is_named(api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    last = "1" if details["cardNumber"][-1] != "1" else "2"
    reply = await client.activate(details | {"cardNumber": details["cardNumber"][:-1] + last})
    assert reply.json["errors"][0]["code"] == "card_number_check_character"
    assert reply.json["errors"][0]["field"] == "cardNumber"


async def test_an_activation_is_shown_to_who_did_it_and_to_nobody_else(api: Api) -> None:
    client = await api.sign_in("sealed")
    done = (await client.activate(await api.details("sealed"))).json
    shown = (await client.get(f"/v1/activations/{done['activationId']}")).json
    assert {k: v for k, v in shown.items() if k != "receipt"} == {k: v for k, v in done.items() if k != "receipt"}
    other = await api.sign_in("sealed2")
    assert (await other.get(f"/v1/activations/{done['activationId']}")).code == "not_found"


async def test_a_receipt_is_verified_by_us_and_offline(api: Api) -> None:
    client = await api.sign_in("sealed")
    done = (await client.activate(await api.details("sealed"))).json
    checked = (await api.post("/v1/receipts/verify", {"receipt": done["receipt"]})).json
    assert checked["valid"] is True
    assert checked["claims"]["jti"] == done["activationId"]
    keys = (await api.get("/.well-known/jwks.json")).json["keys"]
    key = next(key for key in keys if key["kid"] == jwt.get_unverified_header(done["receipt"])["kid"])
    offline = jwt.decode(done["receipt"], jwt.PyJWK(key).key, algorithms=["ES256"])
    assert offline == checked["claims"]
    changed = done["receipt"][:-6] + ("AAAAAA" if not done["receipt"].endswith("AAAAAA") else "BBBBBB")
    for wrong in (changed, "nonsense", client.token):
        assert (await api.post("/v1/receipts/verify", {"receipt": wrong})).json == {"valid": False, "claims": None}
    assert (await api.as_(done["receipt"]).get("/v1/me")).code == "token_invalid"


async def test_idempotency_keys_as_the_contract_has_them(api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    missing = await client.post("/v1/activations", details)
    assert (missing.status, missing.code) == (400, "idempotency_key_missing")
    first = await client.activate(details, "k-1")
    again = await client.activate(dict(reversed(details.items())), "k-1")
    assert (again.status, again.raw) == (first.status, first.raw)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    reused = await client.activate(details | {"cardNumber": "000000000"}, "k-1")
    assert (reused.status, reused.code) == (422, "idempotency_key_reused") or reused.code == "invalid_request"
    other = await client.activate(await api.details("sealed2"), "k-1")
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_a_refusal_is_replayed_too_and_counts_once(api: Api) -> None:
    client = await api.sign_in("sealed")
    wrong = await api.details("sealed2")
    first = await client.activate(wrong, "w-1")
    for _ in range(20):
        again = await client.activate(wrong, "w-1")
        assert (again.status, again.raw) == (422, first.raw)
        assert again.headers["Idempotency-Replayed"] == "true"
    assert (await client.activate(await api.details("sealed"))).json["result"] == "activated"


async def test_a_key_belongs_to_its_caller(api: Api) -> None:
    first, second = await api.sign_in("sealed"), await api.sign_in("sealed2")
    mine = await first.activate(await api.details("sealed"), "shared")
    theirs = await second.activate(await api.details("sealed2"), "shared")
    assert theirs.json["result"] == "activated"
    assert theirs.json["activationId"] != mine.json["activationId"]


async def test_a_key_is_forgotten_after_a_day(api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    await client.activate(details, "day")
    await api.advance(86_401)
    later = await (await api.sign_in("sealed")).activate(details, "day")
    assert later.json["result"] == "alreadyActivated"
    assert "Idempotency-Replayed" not in later.headers


@pytest.mark.parametrize("key", ["a b", "k" * 256, "ключ"])
async def test_a_key_that_is_no_key_is_refused(api: Api, key: str) -> None:
    client = await api.sign_in("sealed")
    reply = await client.activate(await api.details("sealed"), key)
    assert (reply.status, reply.code) == (422, "invalid_request")


async def test_a_thousand_retries_get_the_same_bytes(api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    first = await client.activate(details, "thousand")
    seen: set[tuple[int, bytes]] = set()
    for _ in range(10):
        replies: list[Any] = await asyncio.gather(*(client.activate(details, "thousand") for _ in range(100)))
        seen |= {(reply.status, reply.raw) for reply in replies}
    assert seen == {(first.status, first.raw)}


async def test_an_earlier_answer_is_not_given_again_to_somebody_less_sure(api: Api) -> None:
    strong, weak = await api.sign_in("active"), await api.sign_in("active", "password")
    body = {"fields": ["idNumber", "name"]}
    assert (await strong.post("/v1/me/reveal", body, key="seen")).status == 200
    reply = await weak.post("/v1/me/reveal", body, key="seen")
    assert (reply.status, reply.code) == (403, "assurance_too_low")
    tokens = await api.tokens("sealed")
    client = api.as_(tokens["accessToken"])
    assert (await client.post("/v1/me/reveal", body, key="early")).status == 200
    await api.advance(601)
    refreshed = (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).json
    stale = await api.as_(refreshed["accessToken"]).post("/v1/me/reveal", body, key="early")
    assert (stale.status, stale.json["reason"]) == (403, "notFresh")


@pytest.mark.parametrize(("persona", "first"), [("sealed", "password"), ("level3-region", "sms")])
async def test_who_steps_up_goes_on_with_the_same_key(api: Api, persona: str, first: str) -> None:
    details = await api.details(persona)
    weak = await api.sign_in(persona, first)
    assert (await weak.activate(details, "step-up")).code == "assurance_too_low"
    strong = await api.sign_in(persona, "face")
    assert (await strong.activate(details, "step-up")).json["result"] == "activated"


async def test_an_expired_card_is_not_activated(api: Api) -> None:
    card_id = (await api.persona("sealed"))["cards"][0]["cardId"]
    client = await api.sign_in("sealed")
    assert (await client.get(f"/v1/cards/{card_id}")).json["actions"][0]["allowed"] is True
    await api.advance(3650 * 86_400)
    client = await api.sign_in("sealed")
    reply = await client.activate(await api.details("sealed"))
    assert (reply.status, reply.code, reply.json["reason"]) == (409, "card_not_activatable", "expired")
    assert (await client.get(f"/v1/cards/{card_id}")).json["actions"][0]["reason"] == "expired"
