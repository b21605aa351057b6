from typing import Any

import pytest
from api.client import Api

WAY = ["home", "more", "city-service", "social-security", "smart-hrss", "social-security-card", "activate"]


def _leads_to(page: dict[str, Any]) -> set[str]:
    return {entry["opens"]["page"] for section in page["sections"] for entry in section["entries"]}


@pytest.mark.parametrize(
    ("language", "message"),
    [("zh-CN", "您的社会保障卡已激活"), ("en", "Your social security card has been activated")],
)
async def test_a_resident_walks_from_home_to_an_activated_card(api: Api, language: str, message: str) -> None:
    person = await api.persona("sealed")
    client = api
    page: dict[str, Any] = {}
    for page_id in WAY:
        reply = await client.get(f"/v1/pages/{page_id}", Accept_Language=language)
        if reply.status == 401:
            assert reply.json["verifyPage"] == "identity"
            client = await api.sign_in("sealed")
            reply = await client.get(f"/v1/pages/{page_id}", Accept_Language=language)
        assert reply.status == 200
        if page:
            assert page_id in _leads_to(page)
        page = reply.json
        assert [crumb["pageId"] for crumb in page["breadcrumb"]] == WAY[: WAY.index(page_id) + 1]
    submit = page["form"]["submit"]
    assert (submit["method"], submit["url"]) == ("POST", "/v1/activations")
    body = {field["name"]: (await api.details("sealed"))[field["name"]] for field in page["form"]["fields"]}
    done = await client.post(submit["url"], body, key="new", headers={"Accept-Language": language})
    assert done.status == 200
    assert (done.json["result"], done.json["message"]) == ("activated", message)
    card = (await client.get(f"/v1/cards/{done.json['cardId']}")).json
    assert card["status"] == "active"
    assert card["functions"]["social"]["active"] is True
    sent = await api.messages(person["mobile"])
    assert [item["template"] for item in sent].count("card_activated") == 1


async def test_the_card_page_shows_the_balances(api: Api) -> None:
    client = await api.sign_in("sealed")
    panel = (await client.get("/v1/pages/social-security-card")).json["panel"]
    card_id = (await api.persona("sealed"))["cards"][0]["cardId"]
    balance = (await client.get(f"/v1/cards/{card_id}/balance")).json
    assert panel["items"] == balance["items"]
    assert {item["account"] for item in panel["items"]} == {"medical", "pension", "housingFund"}
    assert all(item["asOf"].endswith("+08:00") and item["currency"] == "CNY" for item in panel["items"])


async def test_a_page_that_did_not_change_is_not_sent_again(api: Api) -> None:
    first = await api.get("/v1/pages/home")
    again = await api.get("/v1/pages/home", If_None_Match=first.headers["ETag"])
    assert (again.status, again.raw) == (304, b"")
    other = await api.get("/v1/pages/home", If_None_Match=first.headers["ETag"], Accept_Language="en")
    assert other.status == 200


async def test_the_etag_of_the_card_page_changes_with_the_card(api: Api) -> None:
    client = await api.sign_in("sealed")
    before = (await client.get("/v1/pages/social-security-card")).headers["ETag"]
    assert (await client.activate(await api.details("sealed"))).status == 200
    assert (await client.get("/v1/pages/social-security-card", If_None_Match=before)).status == 200


async def test_every_page_that_an_entry_opens_is_there(api: Api) -> None:
    client = await api.sign_in("sealed")
    seen: set[str] = set()
    ahead = {"home"}
    while ahead:
        page_id = ahead.pop()
        seen.add(page_id)
        reply = await client.get(f"/v1/pages/{page_id}")
        assert reply.status == 200, page_id
        ahead |= _leads_to(reply.json) - seen
    assert set(WAY) <= seen


@pytest.mark.parametrize("path", ["/v1/pages/nowhere", "/v1/pages/home?region=123456", "/v1/regions/123456"])
async def test_what_is_not_there_is_not_found(api: Api, path: str) -> None:
    assert (await api.get(path)).code == "not_found"


async def test_a_region_that_is_no_code_is_invalid(api: Api) -> None:
    reply = await api.get("/v1/pages/home?region=abc")
    assert (reply.status, reply.json["errors"][0]["field"]) == (422, "region")
