import asyncio
import base64
import re

import pytest
from api.client import Api


async def test_a_holder_sees_their_cards_masked(api: Api) -> None:
    person = await api.persona("active")
    client = await api.sign_in("active")
    page = (await client.get("/v1/cards")).json
    assert (page["hasMore"], page["nextCursor"]) == (False, None)
    card = page["items"][0]
    own = person["cards"][0]
    assert card["cardId"] == own["cardId"]
    assert card["regionCode"] == own["regionCode"]
    assert card["holderNameMasked"] == person["name"][0] + "*" * (len(person["name"]) - 1)
    assert re.fullmatch(r"[0-9A-Z]\*+[0-9X]{3}", card["cardNumberMasked"])
    raw = str(page)
    assert all(secret not in raw for secret in (person["idNumber"], own["cardNumber"], person["name"], person["mobile"]))
    assert card["functions"]["social"] == {
        "active": True,
        "activatedAt": card["functions"]["social"]["activatedAt"],
        "channel": "bank",
    }
    assert card == (await client.get(f"/v1/cards/{card['cardId']}")).json


async def test_a_card_and_a_balance_speak_both_languages(api: Api) -> None:
    client = await api.sign_in("active")
    zh = (await client.get("/v1/cards", Accept_Language="zh")).json["items"][0]
    en = (await client.get("/v1/cards", Accept_Language="en")).json["items"][0]
    assert zh["regionName"] != en["regionName"]
    assert zh["bank"]["code"] == en["bank"]["code"]
    assert zh["bank"]["name"] != en["bank"]["name"]


async def test_money_is_whole_fen_and_the_same_for_people(api: Api) -> None:
    client = await api.sign_in("active")
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    balance = (await client.get(f"/v1/cards/{card_id}/balance")).json
    for item in balance["items"]:
        assert isinstance(item["balanceFen"], int)
        assert item["display"].replace(",", "").replace(".", "").lstrip("0") == str(item["balanceFen"]).lstrip("0")
        assert item["source"]
    assert balance["asOf"] == min(item["asOf"] for item in balance["items"])


async def test_somebody_elses_card_is_not_found(api: Api) -> None:
    mine = await api.sign_in("active")
    others = (await api.persona("sealed"))["cards"][0]["cardId"]
    for path in (f"/v1/cards/{others}", f"/v1/cards/{others}/balance", f"/v1/cards/{others}/history"):
        reply = await mine.get(path)
        assert (reply.status, reply.code) == (404, "not_found"), path
    for path in ("/v1/cards/nonsense", "/v1/cards/card_aaaaaaaaaaaaaaaaaaaaaaaa/balance", "/v1/cards/card_%00/history"):
        assert (await mine.get(path)).code == "not_found"


async def test_reveal_asks_for_a_fresh_and_strong_session_and_is_written_down(api: Api) -> None:
    person = await api.persona("active")
    weak = await api.sign_in("active", "password")
    reply = await weak.post("/v1/me/reveal", {"fields": ["idNumber"]}, key="new")
    assert (reply.status, reply.code, reply.json["requiredAssurance"]) == (403, "assurance_too_low", 2)
    client = await api.sign_in("active")
    shown = (await client.post("/v1/me/reveal", {"fields": ["idNumber", "mobile"]}, key="new")).json
    assert shown == {"name": None, "idNumber": person["idNumber"], "mobile": person["mobile"]}
    log = await client.accesses()
    assert [(entry["action"], entry["reason"]) for entry in log] == [("reveal", "idNumber,mobile")]
    assert (await client.post("/v1/me/reveal", {"fields": []}, key="new")).status == 422
    assert (await client.post("/v1/me/reveal", {"fields": ["queryPassword"]}, key="new")).status == 422
    tokens = await api.tokens("sealed")
    await api.advance(601)
    fresh = (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).json
    stale = await api.as_(fresh["accessToken"]).post("/v1/me/reveal", {"fields": ["name"]}, key="new")
    assert stale.code == "assurance_too_low"


async def test_regions_are_public_and_cacheable(api: Api) -> None:
    reply = await api.get("/v1/regions", Accept_Language="en")
    assert len(reply.json["items"]) >= 5
    assert "public" in reply.headers["Cache-Control"]
    code = reply.json["items"][0]["code"]
    assert (await api.get(f"/v1/regions/{code}", Accept_Language="en")).json == reply.json["items"][0]


async def test_no_access_is_lost_between_pages(api: Api) -> None:
    client = await api.sign_in("active")
    replies = await asyncio.gather(*(client.post("/v1/me/reveal", {"fields": ["name"]}, key="new") for _ in range(25)))
    assert {reply.status for reply in replies} == {200}
    whole = (await client.get("/v1/me/access-log?limit=100")).json["items"]
    walked, cursor = [], ""
    while True:
        page = (await client.get(f"/v1/me/access-log?limit=2&cursor={cursor}")).json
        walked += page["items"]
        if not page["hasMore"]:
            break
        cursor = page["nextCursor"]
    # And the sign-in.
    assert len(whole) == 26
    assert walked == whole


@pytest.mark.parametrize("place", ["-1", "99", "x", "1.5", "acc", "1.acc_x", ""])
async def test_a_cursor_we_never_gave_is_invalid(api: Api, place: str) -> None:
    client = await api.sign_in("active")
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    cursor = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
    for path in (f"/v1/cards/{card_id}/history", "/v1/me/access-log"):
        reply = await client.get(f"{path}?limit=&cursor={cursor}")
        assert reply.status == (422 if place else 200), path


async def test_whoever_has_no_session_learns_that_and_nothing_else(api: Api) -> None:
    client = await api.sign_in("active")
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    foreign = (await api.persona("sealed"))["cards"][0]["cardId"]
    paths = [f"/v1/cards/{one}{what}" for one in (card_id, foreign, "card_x") for what in ("", "/balance", "/history")]
    paths += ["/v1/cards", "/v1/cards?limit=0", f"/v1/cards/{card_id}/history?cursor=x", "/v1/activations/act_x"]
    known = [(await client.get(path)).status for path in paths]
    assert set(known) == {200, 404, 422}
    await client.post("/v1/sessions/logout")
    refused = [await client.get(path) for path in paths]
    assert {(reply.status, reply.code) for reply in refused} == {(401, "token_revoked")}


async def test_a_session_that_is_over_does_not_use_up_its_holders_look_ups(api: Api) -> None:
    over, alive = await api.sign_in("active"), await api.sign_in("active", "password")
    await over.post("/v1/sessions/logout")
    await asyncio.gather(*(over.get("/v1/cards") for _ in range(80)))
    assert (await alive.get("/v1/cards")).status == 200
