"""What stands in the way of a card, over HTTP; and the day on which a generation of cards is over."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from api.client import Api, Reply

from service.sandbox.roster import PEOPLE

# In 990500 generation 2 counts no more from 31 December 2031 on.
CUT_OFF = datetime(2031, 12, 30, 16, tzinfo=UTC)
HOLDERS = tuple(row.key for row in PEOPLE)


async def diagnosis(client: Api, card: dict[str, Any]) -> dict[str, Any]:
    reply = await client.get(f"/v1/cards/{card['cardId']}/diagnosis")
    assert reply.status == 200, reply.raw
    told: dict[str, Any] = reply.json
    return told


async def cards_of(client: Api) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get("/v1/cards")).json["items"]
    return sorted(items, key=lambda card: card["generation"])


def codes(told: dict[str, Any]) -> dict[str, str]:
    """The axis of each code."""
    return {blocker["code"]: blocker["axis"] for blocker in told["blockers"]}


def steps(told: dict[str, Any], code: str) -> dict[str, list[list[str]]]:
    """The places of each action, in the order of the steps."""
    places: dict[str, list[list[str]]] = {}
    for blocker in told["blockers"]:
        for step in blocker["nextSteps"] if blocker["code"] == code else ():
            places.setdefault(step["action"], []).append(step["channels"])
    return places


@pytest.mark.parametrize("key", HOLDERS)
async def test_the_diagnosis_agrees_with_the_card_and_with_what_it_offers(api: Api, key: str) -> None:
    client = await api.sign_in(key)
    for card in await cards_of(client):
        told = await diagnosis(client, card)
        assert [*told] == ["usable", "canActivate", "blockers"]
        over = {"expired", "retired"} & {*codes(told)}
        assert told["usable"] == (card["functions"]["social"]["active"] and not over)
        offered = {action["action"]: action for action in card["actions"]}
        if offered["activate"]["allowed"]:
            assert told["canActivate"]
        named = {card["status"], card["productionStage"]} - {"active", "delivered"}
        if card["status"] in named:
            assert codes(told)[card["status"]] == "status"
        assert (card["medicalAccount"] == "frozen") == ("medicalFrozen" in codes(told))
        for blocker in told["blockers"]:
            assert [*blocker] == ["code", "axis", "message", "nextSteps"]
            assert all([*step] == ["action", "channels", "materials"] for step in blocker["nextSteps"])


async def _do(client: Api, card: dict[str, Any], action: str, details: dict[str, str], pin: str) -> Reply:
    path = f"/v1/cards/{card['cardId']}"
    match action:
        case "activate":
            return await client.activate(details)
        case "cancelLoss":
            return await client.post(f"{path}/loss/cancel", {}, key="new")
        case "reportFormalLoss":
            return await client.post(f"{path}/loss", {"kind": "formal"}, key="new")
        case "changePin":
            return await client.post(f"{path}/pin", {"currentPin": pin, "newPin": "274913"}, key="new")
        case "replace":
            return await client.post(f"{path}/replacement", {"reason": "expired"}, key="new")
        case "apply":
            wish = {"bank": card["bank"]["code"], "informationConfirmed": True, "photoConfirmed": True}
            return await client.post("/v1/applications", {"regionCode": card["regionCode"], **wish}, key="new")
        case _:
            raise AssertionError(f"{action} is no step in the app")


@pytest.mark.parametrize("key", [key for key in HOLDERS if key not in {"minor", "unlinked-minor", "level3-region"}])
async def test_a_step_in_the_app_is_accepted_or_waits_for_another_blocker(api: Api, key: str) -> None:
    person = await api.persona(key)
    client = await api.sign_in(key)
    for place, own in enumerate(person["cards"]):
        card = (await client.get(f"/v1/cards/{own['cardId']}")).json
        told = await diagnosis(client, card)
        for blocker in told["blockers"]:
            here = [step["action"] for step in blocker["nextSteps"] if "app" in step["channels"]]
            for action in here:
                reply = await _do(client, card, action, await api.details(key, place), person["servicePin"])
                if reply.status in {200, 201}:
                    continue
                assert reply.status == 409, (blocker, reply.raw)
                assert reply.json["reason"] in codes(told), (blocker, reply.raw)
            if here and blocker["axis"] == "status":
                break


async def test_a_minor_is_sent_to_the_guardian_and_the_strange_card_to_a_counter(api: Api) -> None:
    client = await api.sign_in("minor")
    told = await diagnosis(client, (await cards_of(client))[0])
    assert codes(told) == {"sealed": "status", "guardianRequired": "status", "bankPending": "bank", "pinInitial": "pin"}
    brought = {place: step["materials"] for b in told["blockers"] if b["code"] == "guardianRequired"
               for step in b["nextSteps"] for place in step["channels"]}  # fmt: skip
    assert "guardianLink" in brought["app"]
    assert brought["bureau"] == ["card", "guardianIdCard", "householdRegister"]
    client = await api.sign_in("not-interconnected")
    told = await diagnosis(client, (await cards_of(client))[0])
    assert told["canActivate"]
    assert steps(told, "regionNotInterconnected") == {"activate": [["bank", "bureau"], ["hotline"]]}


async def test_a_diagnosis_speaks_both_languages_and_is_the_holders_own(api: Api) -> None:
    client = await api.sign_in("locked")
    card = (await cards_of(client))[0]
    path = f"/v1/cards/{card['cardId']}/diagnosis"
    zh, en = (await client.get(path)).json, (await client.get(path, Accept_Language="en")).json
    assert codes(zh) == codes(en) == {"locked": "status"}
    assert zh["blockers"][0]["message"] != en["blockers"][0]["message"]
    assert steps(en, "locked") == {"unlock": [["bureau"]]}
    stranger = await api.sign_in("active")
    assert (await stranger.get(path)).status == 404
    assert (await api.get(path)).code == "unauthenticated"


async def test_a_temporary_loss_is_diagnosed_until_it_has_run_out(api: Api) -> None:
    client = await api.sign_in("temporarily-lost")
    card = (await cards_of(client))[0]
    told = await diagnosis(client, card)
    assert (told["usable"], codes(told)) == (False, {"temporarilyLost": "status"})
    await api.advance(8 * 86400)
    assert await diagnosis(await api.sign_in("temporarily-lost"), card) == {
        "usable": True,
        "canActivate": False,
        "blockers": [],
    }


async def _until(api: Api, moment: datetime) -> None:
    now = datetime.fromisoformat((await api.post("/sandbox/clock", {"advanceSeconds": 0})).json["now"])
    await api.advance(math.ceil((moment - now).total_seconds()))


async def _medical_balance(client: Api, card: dict[str, Any]) -> str:
    items = (await client.get(f"/v1/cards/{card['cardId']}/balance")).json["items"]
    return next(str(item["status"]) for item in items if item["account"] == "medical")


async def test_who_never_got_a_new_card_is_frozen_from_the_cut_off_on_and_is_told_to_get_one(api: Api) -> None:
    await _until(api, CUT_OFF)
    client = await api.sign_in("old-generation")
    (card,) = await cards_of(client)
    assert (card["generation"], card["medicalAccount"]) == (2, "frozen")
    told = await diagnosis(client, card)
    assert [*steps(told, "medicalFrozen")] == [*steps(told, "retired")] == ["replace"]


async def test_both_generations_work_until_the_cut_off_and_the_new_one_alone_after_it(api: Api) -> None:
    await _until(api, CUT_OFF.replace(hour=15))
    client = await api.sign_in("two-generations")
    old, new = await cards_of(client)
    assert (old["medicalAccount"], new["medicalAccount"]) == ("normal", "normal")
    assert (await diagnosis(client, old)) == {"usable": True, "canActivate": False, "blockers": []}
    assert codes(await diagnosis(client, new)) == {"sealed": "status", "bankPending": "bank", "pinInitial": "pin"}

    await _until(api, CUT_OFF)
    client = await api.sign_in("two-generations")
    old, new = await cards_of(client)
    # The account is the person's, and the new card is not activated yet.
    assert (old["medicalAccount"], new["medicalAccount"]) == ("frozen", "frozen")
    assert await _medical_balance(client, old) == await _medical_balance(client, new) == "frozen"
    told = await diagnosis(client, old)
    assert (told["usable"], codes(told)["retired"], codes(told)["medicalFrozen"]) == (False, "generation", "medical")
    # The new card is there already, and is what leads on.
    assert (steps(told, "retired"), steps(told, "medicalFrozen")) == ({}, {})
    offered = {action["action"]: (action["allowed"], action["reason"]) for action in old["actions"]}
    assert offered["reportTemporaryLoss"] == offered["changePin"] == (False, "retired")
    assert offered["replace"] == (True, None)
    refused = await client.post(f"/v1/cards/{old['cardId']}/loss", {"kind": "temporary"}, key="new")
    assert (refused.status, refused.code, refused.json["reason"]) == (409, "transition_not_allowed", "retired")
    assert refused.json["allowed"] == ["replace"]
    told = await diagnosis(client, new)
    assert codes(told)["medicalFrozen"] == "medical"
    assert [*steps(told, "medicalFrozen")] == ["activate"]

    done = await client.activate(await api.details("two-generations", card=1))
    assert (done.status, done.json["result"], done.json["medicalAccount"]) == (200, "activated", "normal")
    old, new = await cards_of(client)
    assert (old["medicalAccount"], new["medicalAccount"]) == ("normal", "normal")
    assert await _medical_balance(client, old) == await _medical_balance(client, new) == "normal"
    assert "medicalFrozen" not in codes(await diagnosis(client, old))
    told = await diagnosis(client, new)
    assert (told["usable"], "medicalFrozen" in codes(told)) == (True, False)
