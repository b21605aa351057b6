"""The service PIN: changed by who knows it, guessed at a few times, and locked."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from api.client import Api, Reply

NEW = "274913"


async def change(client: Api, card_id: str, current: str, new: str = NEW, key: str = "new") -> Reply:
    return await client.post(f"/v1/cards/{card_id}/pin", {"currentPin": current, "newPin": new}, key=key)


async def start(api: Api, persona: str) -> tuple[Api, str, str]:
    """A client, the card and its PIN, signed in as a persona."""
    person = await api.persona(persona)
    return await api.sign_in(persona), person["cards"][0]["cardId"], person["servicePin"]


async def pin_of(client: Api, card_id: str) -> dict[str, Any]:
    pin: dict[str, Any] = (await client.get(f"/v1/cards/{card_id}")).json["servicePin"]
    return pin


@pytest.mark.parametrize(("persona", "state"), [("sealed", "initial"), ("active", "set"), ("other-format", "initial")])
async def test_who_knows_the_pin_changes_it(api: Api, persona: str, state: str) -> None:
    client, card_id, pin = await start(api, persona)
    assert (await pin_of(client, card_id))["state"] == state
    changed = await change(client, card_id, pin)
    assert (changed.status, changed.json["servicePin"]["state"]) == (200, "set")
    assert (await change(client, card_id, pin, "380572")).code == "pin_incorrect"
    assert (await change(client, card_id, NEW, "380572")).status == 200
    history = (await client.get(f"/v1/cards/{card_id}/history")).json["items"]
    assert [item["event"] for item in history][:2] == ["pinChanged", "pinChanged"]
    assert history[0]["from"] == history[0]["to"]
    sent = await api.messages((await api.persona(persona))["mobile"])
    assert [message["template"] for message in sent][:2] == ["pin_changed", "pin_changed"]
    assert not any(secret in str((changed.raw, history, sent)) for secret in (pin, NEW, "380572"))


async def test_the_tries_are_told_and_the_last_locks_the_pin_but_not_the_card(api: Api) -> None:
    client, card_id, pin = await start(api, "active")
    for left in (4, 3, 2, 1, 0):
        reply = await change(client, card_id, "999998")
        assert (reply.status, reply.code, reply.json["triesLeft"]) == (403, "pin_incorrect", left)
        shown = await pin_of(client, card_id)
        assert shown == {"state": "set" if left else "locked", "triesLeft": left}
    for guess in (pin, "999998"):
        assert ((await change(client, card_id, guess)).status, (await change(client, card_id, guess)).code) == (
            403,
            "pin_locked",
        )
    card = (await client.get(f"/v1/cards/{card_id}")).json
    assert card["status"] == "active"
    assert {item["action"]: item["reason"] for item in card["actions"]}["changePin"] == "pinLocked"
    history = (await client.get(f"/v1/cards/{card_id}/history")).json["items"]
    assert [item["event"] for item in history].count("pinLocked") == 1
    sent = [message["template"] for message in await api.messages((await api.persona("active"))["mobile"])]
    assert sent.count("pin_locked") == 1


async def test_a_right_one_sets_the_tries_back(api: Api) -> None:
    client, card_id, pin = await start(api, "active")
    for _ in range(4):
        assert (await change(client, card_id, "999998")).code == "pin_incorrect"
    assert (await change(client, card_id, pin)).json["servicePin"] == {"state": "set", "triesLeft": 5}


@pytest.mark.parametrize(
    ("pin", "code"),
    [("111111", "pin_alike"), ("456789", "pin_running"), ("321098", "pin_running"), ("", "pattern"), ("27491", "pattern")],
)
async def test_a_weak_pin_is_refused_by_name_and_costs_no_try(api: Api, pin: str, code: str) -> None:
    client, card_id, current = await start(api, "active")
    reply = await change(client, card_id, current, pin)
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [("newPin", code)]
    assert await pin_of(client, card_id) == {"state": "set", "triesLeft": 5}


async def test_a_pin_from_the_holders_own_numbers_is_weak(api: Api) -> None:
    client, card_id, current = await start(api, "active")
    number = (await api.persona("active"))["idNumber"]
    born = number[6:14]
    for pin, code in (
        (number[3:9], "pin_in_id_number"),
        (born[6:] + born[4:6] + born[2:4], "pin_birth_date"),
        (current, "pin_unchanged"),
    ):
        reply = await change(client, card_id, current, pin)
        assert code in {error["code"] for error in reply.json["errors"]}, code
        assert number not in reply.raw.decode()


async def test_who_does_not_know_the_pin_learns_nothing_from_weak_ones(api: Api) -> None:
    """Else the parts of an ID number could be asked for one by one."""
    client, card_id, _ = await start(api, "active")
    number = (await api.persona("active"))["idNumber"]
    replies = [await change(client, card_id, "999998", weak) for weak in (number[:6], number[6:12], "111111", "380572")]
    assert [(reply.code, reply.json["triesLeft"]) for reply in replies] == [("pin_incorrect", left) for left in (4, 3, 2, 1)]


async def test_what_is_no_pin_is_no_guess(api: Api) -> None:
    client, card_id, _ = await start(api, "active")
    for nonsense in ("12345", "1234567", "12345a", "１２３４５６", " 123456", "123456\n"):
        reply = await change(client, card_id, nonsense)
        assert (reply.code, reply.json["errors"][0]["field"]) == ("invalid_request", "currentPin")
    assert (await pin_of(client, card_id))["triesLeft"] == 5


async def test_of_a_hundred_wrong_guesses_at_once_five_are_judged(api: Api) -> None:
    client, card_id, pin = await start(api, "active")
    guesses = [f"{number:06d}" for number in range(900_000, 900_100) if f"{number:06d}" != pin]
    replies = await asyncio.gather(*(change(client, card_id, guess) for guess in guesses))
    assert Counter(reply.code for reply in replies) == {"pin_incorrect": 5, "pin_locked": len(guesses) - 5}
    assert sorted(reply.json["triesLeft"] for reply in replies if reply.code == "pin_incorrect") == [0, 1, 2, 3, 4]
    assert (await change(client, card_id, pin)).code == "pin_locked"
    history = (await client.get(f"/v1/cards/{card_id}/history")).json["items"]
    assert [item["event"] for item in history].count("pinLocked") == 1


async def test_a_right_guess_in_a_crowd_succeeds_at_most_once(api: Api) -> None:
    client, card_id, pin = await start(api, "active")
    guesses = (
        [f"{number:06d}" for number in range(900_000, 900_050)]
        + [pin]
        + [f"{number:06d}" for number in range(900_050, 900_099)]
    )
    replies = await asyncio.gather(*(change(client, card_id, guess) for guess in guesses))
    codes = Counter("ok" if reply.status == 200 else reply.code for reply in replies)
    assert set(codes) <= {"ok", "pin_incorrect", "pin_locked", "transition_not_allowed"}
    assert codes["ok"] <= 1
    # Whoever begins when the PIN has just been changed has tries of their own at the new one.
    assert codes["pin_incorrect"] <= 5 * (1 + codes["ok"])


async def test_two_right_changes_at_once_make_one_new_pin(api: Api) -> None:
    client, card_id, pin = await start(api, "active")
    wanted = [NEW, "380572"]
    replies = await asyncio.gather(*(change(client, card_id, pin, new) for new in wanted))
    codes = ["ok" if reply.status == 200 else reply.code for reply in replies]
    assert codes.count("ok") == 1
    assert set(codes) <= {"ok", "transition_not_allowed", "pin_incorrect"}
    holds = wanted[codes.index("ok")]
    assert (await change(client, card_id, holds, "492716")).status == 200


async def test_a_retry_gets_the_same_bytes_and_counts_once(api: Api) -> None:
    client, card_id, pin = await start(api, "active")
    wrong = await change(client, card_id, "999998", key="wrong")
    for _ in range(10):
        again = await change(client, card_id, "999998", key="wrong")
        assert (again.raw, again.headers["Idempotency-Replayed"]) == (wrong.raw, "true")
    assert (await pin_of(client, card_id))["triesLeft"] == 4
    right = await change(client, card_id, pin, key="right")
    assert (await change(client, card_id, pin, key="right")).raw == right.raw
    assert (await change(client, card_id, pin, "380572", key="right")).code == "idempotency_key_reused"


@pytest.mark.parametrize(
    ("persona", "reason"),
    [("formally-lost", "formallyLost"), ("locked", "locked"), ("cancelled", "cancelled"), ("not-delivered", "notDelivered")],
)
async def test_a_card_out_of_use_has_no_pin_to_change_and_no_guess_is_judged(api: Api, persona: str, reason: str) -> None:
    client, card_id, pin = await start(api, persona)
    reply = await change(client, card_id, pin)
    assert (reply.status, reply.code, reply.json["reason"]) == (409, "transition_not_allowed", reason)
    assert (await pin_of(client, card_id))["triesLeft"] == 5


async def test_where_the_region_changes_pins_at_counters_only_the_app_says_where(api: Api) -> None:
    client = await api.sign_in("level3-region", "face")
    person = await api.persona("level3-region")
    reply = await change(client, person["cards"][0]["cardId"], person["servicePin"])
    assert (reply.status, reply.code, reply.json["channels"]) == (403, "channel_not_allowed", ["bank", "bureau"])
