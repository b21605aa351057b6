"""Contributions, the housing fund and balances, with the city's own systems in every mood."""

import asyncio
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from api.client import Api

from service.clock import CHINA
from service.mongo.client import Database
from service.upstream import SHARE

CONTRIBUTIONS = "/v1/insurance/contributions"
FUND = "/v1/housing-fund"
DAY = 86_400
# Fresh for 48 hours in 990100.
OLD = 49 * 3600
MANY = 100


async def faulty(api: Api, fault: str, times: int = MANY) -> None:
    reply = await api.post("/sandbox/faults", {"gateway": "upstream", "fault": fault, "times": times})
    assert reply.status == 200, reply.raw


async def asked(database: Database) -> int:
    """How often the city was asked since a fault was set for a hundred times."""
    kept = await database.collection("sandbox_faults").find_one({"_id": "upstream"})
    assert kept is not None
    return MANY - int(kept["left"])


async def now(api: Api) -> datetime:
    reply = await api.post("/sandbox/clock", {"advanceSeconds": 0})
    return datetime.fromisoformat(reply.json["now"])


async def got(client: Api, path: str) -> dict[str, Any]:
    reply = await client.get(path)
    assert reply.status == 200, reply.raw
    told: dict[str, Any] = reply.json
    return told


async def pages(client: Api, query: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """Every item, page after page."""
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await got(client, f"{CONTRIBUTIONS}?limit={limit}&cursor={cursor}&{query}")
        items += page["items"]
        assert page["hasMore"] is (page["nextCursor"] is not None)
        if not page["hasMore"]:
            return items
        assert len(page["items"]) == limit
        cursor = page["nextCursor"]


def rows(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items without the moment of which they are true: each look has a newer one."""
    return [{name: value for name, value in item.items() if name != "asOf"} for item in items]


async def balance_path(api: Api, key: str = "active") -> str:
    return f"/v1/cards/{(await api.persona(key))['cards'][0]['cardId']}/balance"


# Contributions.


async def test_contributions_come_by_insurance_and_month_with_money_moment_and_source(api: Api) -> None:
    client = await api.sign_in("active")
    page = await got(client, CONTRIBUTIONS)
    assert (len(page["items"]), page["hasMore"], page["stale"]) == (20, True, False)
    first = page["items"][0]
    assert set(first) == {
        "type", "code", "month", "baseFen", "baseDisplay", "personalFen", "personalDisplay", "employerFen", "employerDisplay",
        "currency", "status", "asOf", "source",
    }  # fmt: skip
    items = await pages(client)
    places = [(item["month"], item["code"]) for item in items]
    assert len(set(places)) == len(places)
    assert places == sorted(sorted(places, key=lambda place: place[1]), key=lambda place: place[0], reverse=True)
    assert {(item["type"], item["code"]) for item in items} == {
        ("pension", "110"), ("unemployment", "210"), ("medical", "310"), ("workInjury", "410"), ("maternity", "510"),
    }  # fmt: skip
    assert {item["source"] for item in items if item["code"] in {"310", "510"}} == {"medicalInsuranceBureau"}
    assert {item["source"] for item in items if item["code"] not in {"310", "510"}} == {"socialInsuranceBureau"}
    for item in items:
        for amount in ("base", "personal", "employer"):
            assert item[f"{amount}Display"] == f"{item[f'{amount}Fen'] / 100:,.2f}"
    assert Counter(item["status"] for item in items).keys() == {"paid", "backPaid"}
    # Employed for 1100 days, until the month before this one.
    today = (await now(api)).astimezone(CHINA).date()
    last = today.replace(day=1) - timedelta(days=1)
    assert items[0]["month"] == f"{last:%Y-%m}"
    assert items[-1]["month"] == f"{today - timedelta(days=1100):%Y-%m}"
    months = len({item["month"] for item in items})
    assert len(items) == 5 * months
    assert {one["type"]: one["months"] for one in page["months"]} == dict.fromkeys(
        ("pension", "unemployment", "medical", "workInjury", "maternity"), months
    )


async def test_pages_of_any_size_hold_the_same_rows(api: Api) -> None:
    client = await api.sign_in("active")
    every = rows(await pages(client, limit=100))
    assert rows(await pages(client, limit=7)) == every
    assert rows(await pages(client, "type=medical", limit=5)) == [item for item in every if item["type"] == "medical"]


async def test_the_pages_of_one_look_are_of_one_record_and_one_question(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    first = await got(client, f"{CONTRIBUTIONS}?limit=10")
    await faulty(api, "unavailable")
    second = await got(client, f"{CONTRIBUTIONS}?limit=10&cursor={first['nextCursor']}")
    assert (second["asOf"], second["stale"]) == (first["asOf"], False)
    assert await asked(database) == 0
    await api.advance(601)
    later = await got(client, f"{CONTRIBUTIONS}?limit=10&cursor={first['nextCursor']}")
    assert later == second | {"stale": True}
    assert await asked(database) == 1


@pytest.mark.parametrize(("name", "code"), [("pension", "110"), ("310", "310"), ("maternity", "510")])
async def test_a_type_is_named_by_word_or_by_code(api: Api, name: str, code: str) -> None:
    client = await api.sign_in("active")
    page = await got(client, f"{CONTRIBUTIONS}?type={name}&limit=100")
    assert {item["code"] for item in page["items"]} == {code}
    assert [one["type"] for one in page["months"]] == [page["items"][0]["type"]]


async def test_the_public_pension_that_nobody_paid_into_is_empty_and_no_fault(api: Api) -> None:
    page = await got(await api.sign_in("active"), f"{CONTRIBUTIONS}?type=120")
    assert (page["items"], page["months"], page["hasMore"], page["nextCursor"]) == ([], [], False, None)


async def test_months_are_counted_over_the_whole_range_and_both_ends_belong_to_it(api: Api) -> None:
    client = await api.sign_in("active")
    months = sorted({item["month"] for item in await pages(client)})
    first, last = months[3], months[14]
    page = await got(client, f"{CONTRIBUTIONS}?type=pension&from={first}&to={last}&limit=5")
    assert page["months"] == [{"type": "pension", "months": 12}]
    found = await pages(client, f"type=pension&from={first}&to={last}", limit=5)
    assert [item["month"] for item in found] == months[14:2:-1]
    one = await got(client, f"{CONTRIBUTIONS}?from={first}&to={first}")
    assert {item["month"] for item in one["items"]} == {first}
    assert len(one["items"]) == 5
    assert (await got(client, f"{CONTRIBUTIONS}?from={last}&limit=1"))["items"][0]["month"] == months[-1]
    assert (await pages(client, f"to={first}"))[-1]["month"] == months[0]


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("from=2026-13", "from", "pattern"),
        ("from=2026-1", "from", "pattern"),
        ("to=202610", "to", "pattern"),
        ("to=2026-00", "to", "pattern"),
        ("from=0001-01", "from", "pattern"),
        ("from=2026-10-01", "from", "pattern"),
        ("from=2026-10&to=2026-09", "to", "not_allowed"),
        ("type=housing", "type", "not_allowed"),
        ("type=110,310", "type", "not_allowed"),
        ("limit=0", "limit", "not_allowed"),
        ("limit=101", "limit", "not_allowed"),
        ("cursor=bm9uc2Vuc2U", "cursor", "invalid"),
        ("cursor=MjAyNi0xMC45OTk", "cursor", "invalid"),
        ("cursor=%25", "cursor", "invalid"),
    ],
)
async def test_a_question_of_the_wrong_form_is_refused_by_name(api: Api, query: str, field: str, code: str) -> None:
    reply = await (await api.sign_in("active")).get(f"{CONTRIBUTIONS}?{query}")
    assert (reply.status, reply.code) == (422, "invalid_request")
    assert [(error["field"], error["code"]) for error in reply.json["errors"]] == [(field, code)]


async def test_what_was_owed_is_shown_and_counts_for_nothing(api: Api) -> None:
    client = await api.sign_in("temporarily-lost")
    items = await pages(client, "type=medical")
    assert [item["status"] for item in items].count("owed") == 1
    assert items[0]["status"] == "owed"
    page = await got(client, f"{CONTRIBUTIONS}?type=medical")
    assert page["months"] == [{"type": "medical", "months": len(items) - 1}]


async def test_who_never_paid_is_told_so_in_an_empty_list(api: Api) -> None:
    page = await got(await api.sign_in("flexible-worker"), CONTRIBUTIONS)
    assert (page["items"], page["months"], page["stale"]) == ([], [], False)
    assert page["asOf"]


async def test_everybody_sees_their_own(api: Api) -> None:
    mine, other = await api.sign_in("active"), await api.sign_in("guardian")
    assert rows(await pages(mine)) != rows(await pages(other))
    assert (await api.get(CONTRIBUTIONS)).code == "unauthenticated"
    assert (await api.get(FUND)).code == "unauthenticated"
    assert (await (await api.sign_in_staff("bureau")).get(FUND)).code == "forbidden"


async def test_a_guardian_sees_a_dependants_contributions_and_it_is_written_down(api: Api) -> None:
    guardian = await api.sign_in("guardian")
    (link,) = (await api.persona("guardian"))["dependants"]
    items = await pages(guardian, f"onBehalfOf={link['dependantId']}")
    assert [(item["type"], item["personalFen"], item["employerFen"]) for item in items] == [("medical", 38_000, 0)] * 4
    assert all(item["month"].endswith("-01") for item in items)
    log = (await (await api.sign_in("minor")).get("/v1/me/access-log")).json["items"]
    assert ("seeContributions", "guardian", "app") in [(entry["action"], entry["by"], entry["channel"]) for entry in log]


async def test_nobody_else_sees_them(api: Api) -> None:
    (link,) = (await api.persona("guardian"))["dependants"]
    stranger = await api.sign_in("active")
    for named in (link["dependantId"], "dep_aaaaaaaaaaaaaaaaaaaaaaaa", "nonsense"):
        reply = await stranger.get(f"{CONTRIBUTIONS}?onBehalfOf={named}")
        assert (reply.status, reply.code) == (404, "not_found")


# The housing fund.


async def test_the_housing_fund_says_state_balance_deposit_moment_and_source(api: Api) -> None:
    fund = await got(await api.sign_in("active"), FUND)
    today = (await now(api)).astimezone(CHINA).date()
    assert fund["status"] == "normal"
    assert fund["accountMasked"][:-4] == "*" * 8
    assert fund["accountMasked"][-4:].isdigit()
    assert fund["balanceFen"] > 0
    assert fund["display"] == f"{fund['balanceFen'] / 100:,.2f}"
    assert fund["monthlyDepositDisplay"] == f"{fund['monthlyDepositFen'] / 100:,.2f}"
    assert (fund["currency"], fund["source"], fund["stale"]) == ("CNY", "housingFundCentre", False)
    assert fund["paidThrough"] == f"{today.replace(day=1) - timedelta(days=1):%Y-%m}"
    assert fund["openedOn"] == (today - timedelta(days=1100)).isoformat()
    assert datetime.fromisoformat(fund["asOf"]) < await now(api)


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("active", "normal"),
        ("temporarily-lost", "sealed"),
        ("locked", "frozen"),
        ("cancelled", "transferred"),
        ("insurance-ended", "closed"),
        ("minor", "none"),
    ],
)
async def test_every_state_of_the_fund_can_be_seen_and_agrees_with_the_card(api: Api, key: str, status: str) -> None:
    client = await api.sign_in(key)
    fund = await got(client, FUND)
    balance = await got(client, await balance_path(api, key))
    (figure,) = [item for item in balance["items"] if item["account"] == "housingFund"]
    assert fund["status"] == status
    assert (fund["balanceFen"] or 0) == figure["balanceFen"]
    assert figure["status"] == ("unopened" if status == "none" else status)
    nulls = {name for name, value in fund.items() if value is None}
    of_an_account = {
        "accountMasked", "balanceFen", "display", "monthlyDepositFen", "monthlyDepositDisplay", "paidThrough", "openedOn",
    }  # fmt: skip
    assert nulls == (of_an_account if status == "none" else set())
    if status in {"transferred", "closed"}:
        assert fund["balanceFen"] == 0
    if status not in {"normal", "none"}:
        assert fund["monthlyDepositFen"] == 0


async def test_the_number_of_the_account_is_nowhere_in_plain(api: Api, database: Database) -> None:
    person, client = await api.persona("active"), await api.sign_in("active")
    fund = await got(client, FUND)
    await got(client, CONTRIBUTIONS)
    kept = await database.collection("last_known").find({}, limit=10)
    assert Counter(one["question"] for one in kept) == {"housingFund": 1, "contributions": 1}
    for one in kept:
        assert set(one) == {"_id", "holderId", "question", "asOf", "keptAt", "expiresAt", "document"}
        for secret in (person["idNumber"], str(fund["balanceFen"]), "monthlyDepositFen"):
            assert secret.encode() not in bytes(one["document"])


# The city in every mood.


@pytest.mark.parametrize("fault", ["unavailable", "away", "wrong", "slow"])
@pytest.mark.parametrize("path", [CONTRIBUTIONS, FUND])
async def test_what_was_known_last_is_shown_and_marked_when_the_city_has_no_good_answer(
    api: Api, path: str, fault: str
) -> None:
    client = await api.sign_in("active")
    before = await got(client, path)
    await faulty(api, fault, 1)
    began = time.monotonic()
    meanwhile = await got(client, path)
    assert time.monotonic() - began < 2
    assert meanwhile == before | {"stale": True}
    if fault != "slow":
        assert (await got(client, path))["stale"] is False


@pytest.mark.parametrize("fault", ["unavailable", "wrong", "slow"])
@pytest.mark.parametrize("path", [CONTRIBUTIONS, FUND])
async def test_what_was_never_known_is_said_to_be_unavailable_and_not_to_be_nothing(api: Api, path: str, fault: str) -> None:
    client = await api.sign_in("sealed2")
    await faulty(api, fault, 1)
    began = time.monotonic()
    reply = await client.get(path)
    # A question lasts a fifth of a request.
    assert time.monotonic() - began < SHARE * 10 + 1
    assert (reply.status, reply.code) == (503, "unavailable")
    assert int(reply.headers["Retry-After"]) >= 1


async def test_books_that_are_out_of_date_say_so_and_never_replace_newer_ones(api: Api) -> None:
    client = await api.sign_in("active")
    await faulty(api, "stale", 1)
    old = await got(client, FUND)
    assert old["stale"] is True
    assert datetime.fromisoformat(old["asOf"]) < await now(api) - timedelta(days=390)
    new = await got(client, FUND)
    assert new["stale"] is False
    await faulty(api, "stale", 1)
    again = await got(client, FUND)
    assert again == new | {"stale": True}


async def test_each_kind_of_nonsense_is_refused_whole(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    for path in (CONTRIBUTIONS, FUND):
        before = await got(client, path)
        await faulty(api, "wrong")
        for _ in range(10):
            assert await got(client, path) == before | {"stale": True}
        # Nonsense is an answer: nobody else is kept from asking because of it.
        assert await asked(database) == 10
        await api.post("/sandbox/reset", {})
        client = await api.sign_in("active")


async def test_nonsense_about_balances_changes_no_card(api: Api, database: Database) -> None:
    client, path = await api.sign_in("active"), await balance_path(api)
    before = await got(client, path)
    await api.advance(OLD)
    client = await api.sign_in("active")
    await faulty(api, "wrong")
    for _ in range(10):
        shown = await got(client, path)
        assert [item["balanceFen"] for item in shown["items"]] == [item["balanceFen"] for item in before["items"]]
        assert [item["asOf"] for item in shown["items"]] == [item["asOf"] for item in before["items"]]
        assert all(item["stale"] for item in shown["items"])
    assert await asked(database) == 10


@pytest.mark.alone
async def test_a_hundred_readers_at_once_are_one_question(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    before = await got(client, FUND)
    await faulty(api, "slow")
    began = time.monotonic()
    answers = await asyncio.gather(*(client.get(FUND) for _ in range(100)))
    most = 1 + int((time.monotonic() - began) / (SHARE * 10))
    # One person looks sixty times a minute, and this is the second look.
    assert Counter(reply.status for reply in answers) == {200: 59, 429: 41}
    assert all(reply.json == before | {"stale": True} for reply in answers if reply.status == 200)
    # One for as long as it lasts, which is a fifth of a request; nearly always all of them come meanwhile.
    assert 1 <= await asked(database) <= most


async def test_a_reader_who_goes_away_takes_nobody_along(api: Api) -> None:
    client = await api.sign_in("sealed3")
    await faulty(api, "slow", 1)
    gone = asyncio.create_task(client.get(FUND, checked=False))
    await asyncio.sleep(0.3)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert (await client.get(FUND)).code == "unavailable"
    assert (await got(client, FUND))["stale"] is False


# The breaker.


async def test_a_city_that_does_not_answer_is_left_alone_and_tried_again_by_one(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    await got(client, FUND)
    await faulty(api, "unavailable")
    for _ in range(12):
        assert (await got(client, FUND))["stale"] is True
    assert await asked(database) == 5
    # The insurance bureau is another house.
    assert (await client.get(CONTRIBUTIONS)).code == "unavailable"
    assert await asked(database) == 6
    await api.advance(9)
    await got(client, FUND)
    assert await asked(database) == 6
    await api.advance(2)
    await asyncio.gather(*(got(client, FUND) for _ in range(10)))
    # The probe failed, and the pause begins anew.
    assert await asked(database) == 7
    await faulty(api, "unavailable", 1)
    await api.advance(11)
    assert (await got(client, FUND))["stale"] is True
    await api.advance(11)
    assert (await got(client, FUND))["stale"] is False
    assert (await got(client, FUND))["stale"] is False


@pytest.mark.alone
async def test_while_it_is_left_alone_an_answer_costs_no_waiting(api: Api) -> None:
    client = await api.sign_in("active")
    before = await got(client, FUND)
    await faulty(api, "unavailable")
    for _ in range(5):
        await got(client, FUND)
    began = time.monotonic()
    for _ in range(10):
        assert await got(client, FUND) == before | {"stale": True}
    assert time.monotonic() - began < 1
    reply = await (await api.sign_in("sealed4")).get(FUND)
    assert (reply.status, reply.code) == (503, "unavailable")
    assert 1 <= int(reply.headers["Retry-After"]) <= 10


# Balances.


async def test_a_fresh_balance_is_not_asked_for(api: Api, database: Database) -> None:
    client, path = await api.sign_in("active"), await balance_path(api)
    await faulty(api, "unavailable")
    shown = await got(client, path)
    assert [item["stale"] for item in shown["items"]] == [False] * 3
    assert await asked(database) == 0


async def test_an_old_balance_is_brought_up_to_date_and_then_left_alone(api: Api) -> None:
    client, path = await api.sign_in("active"), await balance_path(api)
    before = await got(client, path)
    await api.advance(OLD)
    client = await api.sign_in("active")
    after = await got(client, path)
    assert [item["stale"] for item in after["items"]] == [False] * 3
    assert datetime.fromisoformat(after["asOf"]) > datetime.fromisoformat(before["asOf"]) + timedelta(seconds=OLD)
    assert [item["balanceFen"] for item in after["items"]] == [item["balanceFen"] for item in before["items"]]
    await faulty(api, "unavailable", 1)
    assert await got(client, path) == after


@pytest.mark.alone
async def test_an_old_balance_says_so_at_once_while_the_city_is_slow(api: Api) -> None:
    client, path = await api.sign_in("active"), await balance_path(api)
    before = await got(client, path)
    await api.advance(OLD)
    client = await api.sign_in("active")
    await faulty(api, "slow", 1)
    began = time.monotonic()
    shown = await got(client, path)
    assert time.monotonic() - began < 1
    assert shown == before | {"items": [item | {"stale": True} for item in before["items"]]}


async def test_only_the_figures_that_are_old_say_so(api: Api) -> None:
    client, path = await api.sign_in("active"), await balance_path(api)
    # 20, 26 and 31 hours old at a reset, and fresh for 48.
    await api.advance(24 * 3600)
    client = await api.sign_in("active")
    await faulty(api, "unavailable")
    shown = await got(client, path)
    assert {item["account"]: item["stale"] for item in shown["items"]} == {
        "medical": False,
        "pension": True,
        "housingFund": True,
    }


@pytest.mark.alone
async def test_sixty_readers_of_an_old_balance_are_one_question(api: Api, database: Database) -> None:
    path = await balance_path(api)
    await api.advance(OLD)
    client = await api.sign_in("active")
    await faulty(api, "slow")
    began = time.monotonic()
    answers = await asyncio.gather(*(client.get(path) for _ in range(60)))
    # One for as long as it lasts, which is a fifth of a request; nearly always all of them come meanwhile.
    most = 1 + int((time.monotonic() - began) / (SHARE * 10))
    assert {reply.status for reply in answers} == {200}
    assert 1 <= await asked(database) <= most


async def test_a_session_that_ended_asks_the_city_nothing(api: Api, database: Database) -> None:
    path = await balance_path(api)
    await api.advance(OLD)
    client = await api.sign_in("active")
    await client.post("/v1/sessions/logout", {})
    await faulty(api, "unavailable")
    assert (await client.get(path)).code == "token_revoked"
    assert await asked(database) == 0


async def test_the_region_says_what_is_old(api: Api) -> None:
    old_after = {}
    for code in ("990100", "990200", "990400"):
        old_after[code] = (await got(api, f"/v1/regions/{code}/rules"))["figuresOldAfterHours"]
    assert len(set(old_after.values())) == 3
    path = await balance_path(api, "frozen-medical")
    await api.advance((old_after["990400"] - 19) * 3600)
    assert old_after["990400"] < old_after["990100"]
    await faulty(api, "unavailable")
    there = await got(await api.sign_in("frozen-medical"), path)
    here = await got(await api.sign_in("active"), await balance_path(api))
    assert there["items"][0]["stale"] is True
    assert here["items"][0]["stale"] is False


async def test_new_figures_stand_in_the_way_of_no_change_of_the_card(api: Api) -> None:
    person = await api.persona("active")
    card_id, path = person["cards"][0]["cardId"], await balance_path(api)
    await api.advance(OLD)
    client = await api.sign_in("active")
    before = (await got(client, f"/v1/cards/{card_id}"))["version"]
    shown, lost = await asyncio.gather(
        got(client, path), client.post(f"/v1/cards/{card_id}/loss", {"kind": "temporary"}, key="new")
    )
    assert (lost.status, lost.json["status"], lost.json["version"]) == (200, "temporarilyLost", before + 1)
    assert [item["stale"] for item in shown["items"]] == [False] * 3
    assert (await got(client, path))["items"] == shown["items"]
    assert (await got(client, f"/v1/cards/{card_id}"))["version"] == before + 1


async def test_both_cards_of_somebody_have_the_new_figures(api: Api) -> None:
    person = await api.persona("two-generations")
    await api.advance(OLD + 12 * 3600)
    client = await api.sign_in("two-generations")
    first, second = (f"/v1/cards/{card['cardId']}/balance" for card in person["cards"])
    brought = await got(client, first)
    await faulty(api, "unavailable")
    assert (await got(client, second))["items"] == brought["items"]


async def test_the_panel_of_a_page_shows_the_same(api: Api) -> None:
    await api.advance(OLD)
    client = await api.sign_in("active")
    panel = (await got(client, "/v1/pages/social-security-card"))["panel"]
    assert panel["items"] == (await got(client, await balance_path(api)))["items"]
    assert not any(item["stale"] for item in panel["items"])


async def test_the_page_of_the_housing_fund_shows_it_to_who_is_signed_in(api: Api) -> None:
    path = "/v1/pages/housing-fund-account"
    assert (await api.get(path)).json["verifyPage"] == "identity"
    (entry, *_) = (await got(api, "/v1/pages/housing-fund"))["sections"][0]["entries"]
    assert entry["opens"] == {"page": "housing-fund-account"}
    client = await api.sign_in("active")
    panel, fund = (await got(client, path))["panel"], await got(client, FUND)
    assert panel | {"asOf": ""} == fund | {"asOf": ""}
    assert [crumb["pageId"] for crumb in (await got(client, path))["breadcrumb"]][-2:] == [
        "housing-fund",
        "housing-fund-account",
    ]


async def test_looks_are_in_the_log_once_a_session(api: Api) -> None:
    client = await api.sign_in("active")
    for _ in range(3):
        await got(client, FUND)
        await got(client, CONTRIBUTIONS)
    log = (await client.get("/v1/me/access-log")).json["items"]
    seen = Counter(entry["action"] for entry in log)
    assert (seen["seeHousingFund"], seen["seeContributions"]) == (1, 1)


# All of it.


async def test_look_ups_are_paced(api: Api) -> None:
    client = await api.sign_in("sealed5")
    replies = [await client.get(FUND) for _ in range(61)]
    assert Counter(reply.status for reply in replies) == {200: 60, 429: 1}
    assert replies[-1].code == "rate_limited"


async def test_a_fault_that_a_system_cannot_have_is_refused(api: Api) -> None:
    for gateway, fault in (("upstream", "rejected"), ("upstream", "uncertain"), ("sms", "stale"), ("face", "wrong")):
        reply = await api.post("/sandbox/faults", {"gateway": gateway, "fault": fault, "times": 1})
        assert (reply.status, reply.code) == (422, "invalid_request")
        assert reply.json["errors"][0]["field"] == "fault"


async def test_a_reset_forgets_what_was_known_and_what_had_failed(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    await got(client, FUND)
    await faulty(api, "unavailable")
    for _ in range(6):
        await got(client, FUND)
    await api.post("/sandbox/reset", {})
    assert await database.collection("last_known").find_one({}) is None
    assert (await got(await api.sign_in("active"), FUND))["stale"] is False


async def test_what_was_known_is_forgotten_after_half_a_year(api: Api) -> None:
    await got(await api.sign_in("active"), FUND)
    await api.advance(179 * DAY)
    await faulty(api, "unavailable", 1)
    assert (await got(await api.sign_in("active"), FUND))["stale"] is True
    await api.advance(2 * DAY)
    await faulty(api, "unavailable", 1)
    assert (await (await api.sign_in("active")).get(FUND)).code == "unavailable"
