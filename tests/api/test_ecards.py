"""E-cards: applying, what the card says of it at each moment, and who holds one for whom."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from api.client import Api, Reply
from api.counters import told
from api.ecards import PASSWORD, apply, code_of, holding, paying

from service.ecards import MOST_TRIES, Applicant, Wanted, ecard_id_of
from service.errors import Refusal
from service.ids import HolderId, SessionId, derived_id
from service.mongo.client import Database
from service.server import Served
from service.sessions import Assurance, Session

OTHER = "830517"


async def log_of(client: Api) -> list[tuple[str, str, str | None]]:
    entries = (await client.get("/v1/me/access-log")).json["items"]
    return [(entry["action"], entry["by"], entry["reason"]) for entry in entries]


def holder(key: str) -> HolderId:
    return HolderId(derived_id("hld", key))


async def kept(database: Database, key: str = "active") -> dict[str, Any]:
    found = await database.collection("ecards").find_one({"_id": ecard_id_of(holder(key))})
    assert found is not None
    return found


async def loss(client: Api, card_id: str, kind: str) -> Reply:
    return await client.post(f"/v1/cards/{card_id}/loss", {"kind": kind}, key="new")


async def test_an_active_card_gives_an_ecard_of_level_1(api: Api) -> None:
    client = await api.sign_in("active")
    assert (await client.get("/v1/ecard")).code == "not_found"
    done = await apply(client)
    assert done.status == 200, done.raw
    card = (await api.persona("active"))["cards"][0]
    shown = dict(done.json)
    assert (shown.pop("ecardId"), shown.pop("holderNameMasked")[0]) == (
        ecard_id_of(holder("active")),
        (await api.persona("active"))["name"][0],
    )
    assert shown.pop("cardNumberMasked").endswith(card["cardNumber"][-3:])
    assert shown.pop("appliedAt") == shown.pop("changedAt")
    assert shown == {
        "cardId": card["cardId"],
        "regionCode": card["regionCode"],
        "level": 1,
        "status": "usable",
        "reason": None,
        "message": None,
        "payment": {"usable": False, "reason": "ecardLevelOne"},
        "password": {"state": "none", "triesLeft": 0},
    }
    assert (await client.get("/v1/ecard")).json == done.json
    assert ("applyEcard", "self", "level1") in await log_of(client)
    assert await told(api, "active") == ["ecard_applied"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("sealed", "sealed"),
        ("temporarily-lost", "temporarilyLost"),
        ("formally-lost", "formallyLost"),
        ("locked", "locked"),
        ("cancelled", "cancelled"),
        ("not-delivered", "sealed"),
        ("test-card", "sealed"),
    ],
)
async def test_no_other_card_gives_one_and_the_refusal_says_why(api: Api, key: str, reason: str) -> None:
    client = await api.sign_in(key)
    refused = await apply(client)
    assert (refused.status, refused.code, refused.json["reason"]) == (409, "ecard_not_allowed", reason)
    named = await apply(client, cardId=(await api.persona(key))["cards"][0]["cardId"])
    assert (named.status, named.code, named.json["reason"]) == (409, "ecard_not_allowed", reason)
    assert (await client.get("/v1/ecard")).code == "not_found"


async def test_level_2_takes_a_password_an_active_account_and_a_mobile_checked_just_now(api: Api) -> None:
    client = await api.sign_in("active")
    missing = await apply(client, level=2)
    assert (missing.status, missing.json["errors"][0]["field"], missing.json["errors"][0]["code"]) == (
        422,
        "password",
        "missing",
    )
    by_face = await apply(await api.sign_in("active", "face"), level=2, password=PASSWORD)
    assert (by_face.code, by_face.json["reason"], by_face.json["requiredAssurance"]) == (
        *("assurance_too_low", "mobileCheckRequired"),
        2,
    )
    by_password = await apply(await api.sign_in("active", "password"))
    assert (by_password.status, by_password.code) == (403, "assurance_too_low")
    done = await apply(client, level=2, password=PASSWORD)
    assert (done.status, done.json["level"], done.json["payment"]) == (200, 2, {"usable": True, "reason": None})
    assert done.json["password"] == {"state": "set", "triesLeft": MOST_TRIES}
    await api.advance(601)
    late = await apply(client, password=OTHER)
    assert (late.status, late.code, late.json["reason"]) == (403, "assurance_too_low", "notFresh")
    assert await told(api, "active") == ["ecard_payment_opened"]


async def test_level_2_takes_an_active_account_and_level_1_none(api: Api) -> None:
    client = await api.sign_in("sealed")
    assert (await client.activate(await api.details("sealed"))).status == 200
    refused = await apply(client, level=2, password=PASSWORD)
    assert (refused.status, refused.code, refused.json["reason"]) == (409, "ecard_not_allowed", "bankPending")
    assert (await apply(client)).json["level"] == 1


@pytest.mark.parametrize(
    ("password", "code"),
    [("111111", "pin_alike"), ("345678", "pin_running"), ("210987", "pin_running"), ("id", "pin_in_id_number")],
)
async def test_a_password_that_is_easy_to_guess_is_refused(api: Api, password: str, code: str) -> None:
    client = await api.sign_in("active")
    number = (await api.persona("active"))["idNumber"]
    for level in (1, 2):
        reply = await apply(client, level=level, password=number[8:14] if password == "id" else password)
        assert (reply.status, reply.code) == (422, "invalid_request")
        assert ("password", code) in {(error["field"], error["code"]) for error in reply.json["errors"]}
    assert (await client.get("/v1/ecard")).code == "not_found"


async def test_the_service_pin_is_no_password_and_that_is_not_asked_often(api: Api) -> None:
    client = await api.sign_in("active")
    pin = (await api.persona("active"))["servicePin"]
    replies = [await apply(client, level=2, password=pin) for _ in range(6)]
    assert [(reply.status, reply.code) for reply in replies] == [(422, "invalid_request")] * 5 + [(429, "too_many_attempts")]
    assert replies[0].json["errors"][0]["code"] == "pin_of_card"
    assert (await apply(client, level=2, password=PASSWORD)).code == "too_many_attempts"
    assert (await apply(client)).status == 200


async def test_applying_again_raises_the_level_and_never_lowers_it_on_the_same_card(api: Api, database: Database) -> None:
    client = await holding(api)
    assert (await apply(client, password=PASSWORD)).json["level"] == 1
    raised = await apply(client, level=2)
    assert (raised.status, raised.json["level"], raised.json["password"]["state"]) == (200, 2, "set")
    again = await apply(client, level=1)
    assert again.json == raised.json
    assert (await kept(database))["version"] == 3
    assert sorted(await told(api, "active")) == ["ecard_applied", "ecard_password_changed", "ecard_payment_opened"]


async def test_an_ecard_moves_to_another_card_and_its_code_does_not(api: Api) -> None:
    client = await api.sign_in("two-generations")
    old, new = (card["cardId"] for card in (await api.persona("two-generations"))["cards"])
    assert (await apply(client)).json["cardId"] == old
    assert (await client.activate(await api.details("two-generations", 1))).status == 200
    code = await code_of(client)
    stays = await apply(client)
    assert stays.json["cardId"] == old
    moved = await apply(client, cardId=new)
    assert (moved.status, moved.json["cardId"], moved.json["ecardId"]) == (200, new, stays.json["ecardId"])
    clerk = await api.sign_in_staff("hospital")
    late = await clerk.post("/v1/staff/ecard-codes/redeem", {"code": code})
    assert (late.status, late.code) == (410, "ecard_code_expired")


async def test_of_two_cards_that_are_fit_one_is_named(api: Api) -> None:
    client = await api.sign_in("two-generations")
    assert (await client.activate(await api.details("two-generations", 1))).status == 200
    unnamed = await apply(client)
    assert (unnamed.status, unnamed.json["errors"][0]["field"], unnamed.json["errors"][0]["code"]) == (422, "cardId", "missing")
    new = (await api.persona("two-generations"))["cards"][1]["cardId"]
    assert (await apply(client, cardId=new)).json["cardId"] == new


async def test_somebody_elses_card_is_not_found(api: Api) -> None:
    client = await api.sign_in("active")
    for card_id in ((await api.persona("guardian"))["cards"][0]["cardId"], "card_aaaaaaaaaaaaaaaaaaaaaaaa", "nonsense"):
        refused = await apply(client, cardId=card_id)
        assert (refused.status, refused.code) == (404, "not_found")


async def test_many_applications_at_once_make_one_ecard(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    replies = await asyncio.gather(*(apply(client) for _ in range(60)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.raw for reply in replies}) == 1
    assert len(await database.collection("ecards").find({}, limit=10)) == 1
    assert [entry[0] for entry in await log_of(client)].count("applyEcard") == 1
    assert await told(api, "active") == ["ecard_applied"]


async def test_levels_and_passwords_at_once_come_to_one_that_pays(api: Api, database: Database) -> None:
    client = await api.sign_in("active")
    wanted: list[Mapping[str, Any]] = [{}, {"level": 2, "password": PASSWORD}, {"level": 1, "password": OTHER}]
    replies = await asyncio.gather(*(apply(client, **wanted[number % 3]) for number in range(9)))
    assert {reply.status for reply in replies} <= {200, 429, 503}
    assert (await client.get("/v1/ecard")).json["level"] == 2
    assert (await kept(database))["version"] == len((await kept(database))["requests"])


async def test_a_retry_of_what_was_cut_off_finds_its_own_work(api: Api, served: Served, database: Database) -> None:
    """The process died after the write, others changed the e-card since, and the request comes again."""
    services = served.process.services
    now = services.clock.now()
    session = Session(
        SessionId("ses_aaaaaaaaaaaaaaaaaaaaaaaa"), holder("active"), "holder", Assurance(2, "sms"), now, now, now, now, 1, None
    )
    first = Applicant(session, b"first" * 6, "zh-CN", None)
    done = await services.ecards.apply(holder("active"), Wanted(2, None, PASSWORD), first)
    other = Applicant(session, b"other" * 6, "zh-CN", None)
    await services.ecards.apply(holder("active"), Wanted(1, None, OTHER), other)
    before = await kept(database)
    again = await services.ecards.apply(holder("active"), Wanted(2, None, PASSWORD), first)
    assert again.ecard.ecard_id == done.ecard.ecard_id
    assert {name: value for name, value in (await kept(database)).items() if name != "news"} == {
        name: value for name, value in before.items() if name != "news"
    }
    del api


async def test_it_is_of_no_use_while_the_card_is_lost_and_comes_back_with_it(api: Api) -> None:
    client = await paying(api)
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    before = (await client.get("/v1/ecard")).json
    assert (await loss(client, card_id, "temporary")).status == 200
    lost = (await client.get("/v1/ecard", Accept_Language="en")).json
    assert (lost["status"], lost["reason"], lost["payment"]) == (
        *("unusable", "temporarilyLost"),
        {"usable": False, "reason": "temporarilyLost"},
    )
    assert lost["message"] == "The card is reported temporarily lost. Please cancel the loss first."
    refused = await client.post("/v1/ecard/codes", {})
    assert (refused.status, refused.code, refused.json["reason"]) == (409, "ecard_unusable", "temporarilyLost")
    await api.advance(8 * 86_400)
    later = await api.sign_in("active")
    assert (await later.get("/v1/ecard")).json == before
    assert (await loss(later, card_id, "formal")).status == 200
    assert (await later.get("/v1/ecard")).json["reason"] == "formallyLost"


async def test_it_follows_locks_and_the_end_of_the_card(api: Api) -> None:
    client = await holding(api)
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    clerk = await api.sign_in_staff("bureau")
    shown = {"reason": "holderRequest", "materials": ["card", "idCard"]}
    assert (await clerk.post(f"/v1/staff/cards/{card_id}/lock", shown, key="new")).status == 200
    assert (await client.get("/v1/ecard")).json["reason"] == "locked"
    assert (await clerk.post(f"/v1/staff/cards/{card_id}/unlock", {"materials": ["card", "idCard"]}, key="new")).status == 200
    assert (await client.get("/v1/ecard")).json["status"] == "usable"
    await api.advance(9 * 365 * 86_400)
    assert (await (await api.sign_in("active")).get("/v1/ecard")).json["reason"] == "expired"


async def test_the_state_of_the_card_is_nowhere_in_what_is_kept(api: Api, database: Database) -> None:
    client = await paying(api)
    before = {name: value for name, value in (await kept(database)).items() if name != "news"}
    assert (await loss(client, (await api.persona("active"))["cards"][0]["cardId"], "formal")).status == 200
    assert (await client.get("/v1/ecard")).json["status"] == "unusable"
    assert {name: value for name, value in (await kept(database)).items() if name != "news"} == before
    assert PASSWORD not in repr(before)


async def test_a_retry_with_the_same_key_is_the_same_request(api: Api) -> None:
    client = await api.sign_in("active")
    first = await apply(client, "k-ecard", level=2, password=PASSWORD)
    again = await apply(client, "k-ecard", level=2, password=PASSWORD)
    assert (again.status, again.raw, again.headers["Idempotency-Replayed"]) == (200, first.raw, "true")
    assert (await apply(client, "k-ecard", level=1)).code == "idempotency_key_reused"
    assert (await client.post("/v1/ecard", {})).code == "idempotency_key_missing"


@pytest.mark.parametrize("body", [{"level": 3}, {"level": "3"}, {"level": True}, {"password": "12345"}, {"password": 274913}])
async def test_what_is_no_application_is_named(api: Api, body: dict[str, Any]) -> None:
    reply = await apply(await api.sign_in("active"), **body)
    assert (reply.status, reply.code, reply.json["errors"][0]["field"]) == (422, "invalid_request", next(iter(body)))


async def test_the_pages_show_the_ecard_and_lead_to_forms_that_work(api: Api) -> None:
    open_to_all = await api.get("/v1/pages/ecard-query")
    assert "ecard" in [entry["opens"]["page"] for section in open_to_all.json["sections"] for entry in section["entries"]]
    assert (await api.get("/v1/pages/ecard")).json["verifyPage"] == "identity"
    client = await api.sign_in("active")
    page = (await client.get("/v1/pages/ecard")).json
    assert set(page["panel"].values()) == {None}
    opened = [entry["opens"]["page"] for section in page["sections"] for entry in section["entries"]]
    typed = {
        "ecard-apply": {},
        "ecard-payment": {"password": PASSWORD},
        "ecard-code": {},
        "ecard-payment-code": {"password": PASSWORD},
    }
    for page_id in ("ecard-apply", "ecard-payment", "ecard-code", "ecard-payment-code"):
        assert page_id in opened
        form = (await client.get(f"/v1/pages/{page_id}", Accept_Language="en")).json["form"]
        body = {field["name"]: field["value"] or typed[page_id][field["name"]] for field in form["fields"]}
        done = await client.post(form["submit"]["url"], body, key="new")
        assert done.status == 200, done.raw
    panel = (await client.get("/v1/pages/ecard")).json["panel"]
    assert (panel["level"], panel["status"], panel["ecardId"]) == (2, "usable", ecard_id_of(holder("active")))


# For dependants


async def guarding(api: Api) -> tuple[Api, str]:
    """The guardian of a minor whose card is active, and the link."""
    guardian = await api.sign_in("guardian")
    dependant_id = (await api.persona("guardian"))["dependants"][0]["dependantId"]
    assert (await guardian.activate(await api.details("minor") | {"onBehalfOf": dependant_id})).status == 200
    return guardian, dependant_id


async def agreeing(client: Api) -> str:
    given = await client.post("/v1/me/consents", {"purpose": "dependantEcard"}, key="new")
    assert given.status == 200, given.raw
    return str(given.json["consentId"])


async def test_a_guardian_who_agreed_holds_the_ecard_of_a_dependant(api: Api) -> None:
    guardian, dependant_id = await guarding(api)
    refused = await apply(guardian, onBehalfOf=dependant_id)
    assert (refused.status, refused.code, refused.json["purpose"]) == (403, "consent_required", "dependantEcard")
    consent_id = await agreeing(guardian)
    done = await apply(guardian, onBehalfOf=dependant_id)
    assert (done.status, done.json["ecardId"], done.json["level"]) == (200, ecard_id_of(holder("minor")), 1)
    assert (await guardian.get("/v1/ecard")).code == "not_found"
    assert (await guardian.get(f"/v1/ecard?onBehalfOf={dependant_id}")).json == done.json
    code = await code_of(guardian, onBehalfOf=dependant_id)
    assert (await guardian.post("/v1/ecard/codes/svg", {"code": code})).status == 200
    clerk = await api.sign_in_staff("hospital")
    redeemed = await clerk.post("/v1/staff/ecard-codes/redeem", {"code": code})
    assert (redeemed.status, redeemed.json["cardId"]) == (200, (await api.persona("minor"))["cards"][0]["cardId"])
    minor = await api.sign_in("minor", "face")
    written = [entry[:2] for entry in await log_of(minor) if entry[0].endswith("Ecard")]
    assert written[:2] == [("redeemEcard", "hospitalClerk"), ("showEcard", "guardian")]
    assert {*written[2:]} == {("seeEcard", "guardian"), ("applyEcard", "guardian")}
    assert ("applyEcard", "self", dependant_id) in await log_of(guardian)
    assert (await guardian.post(f"/v1/me/consents/{consent_id}/withdraw", {}, key="new")).status == 200
    over = [
        await guardian.post("/v1/ecard/codes", {"onBehalfOf": dependant_id}),
        await guardian.get(f"/v1/ecard?onBehalfOf={dependant_id}"),
    ]
    assert {reply.code for reply in over} == {"consent_required"}


async def test_a_guardian_does_not_pay_with_it(api: Api) -> None:
    guardian, dependant_id = await guarding(api)
    await agreeing(guardian)
    refused = [
        await apply(guardian, level=2, password=PASSWORD, onBehalfOf=dependant_id),
        await guardian.post("/v1/ecard/codes", {"password": PASSWORD, "onBehalfOf": dependant_id}),
    ]
    assert {(reply.status, reply.code, reply.json["reason"]) for reply in refused} == {(403, "forbidden", "notForGuardians")}


async def test_a_guardian_sets_no_password_of_one_that_pays_already(api: Api, served: Served) -> None:
    services = served.process.services
    client = await paying(api)
    now = services.clock.now()
    session = Session(
        SessionId("ses_aaaaaaaaaaaaaaaaaaaaaaaa"),
        holder("guardian"),
        "holder",
        Assurance(2, "sms"),
        now,
        now,
        now,
        now,
        1,
        None,
    )
    with pytest.raises(Refusal) as refused:
        await services.ecards.apply(
            holder("active"), Wanted(1, None, OTHER), Applicant(session, b"g" * 32, "en", holder("guardian"))
        )
    assert refused.value.code == "forbidden"
    assert (await client.post("/v1/ecard/codes", {"password": PASSWORD})).status == 200


async def test_a_guardian_sets_no_password_of_a_dependants_ecard(api: Api, database: Database) -> None:
    guardian, dependant_id = await guarding(api)
    await agreeing(guardian)
    wanted: dict[str, Any] = {"level": 1, "password": PASSWORD, "onBehalfOf": dependant_id}
    for _ in range(2):
        refused = await apply(guardian, **wanted)
        assert (refused.status, refused.code, refused.json["reason"]) == (403, "forbidden", "notForGuardians")
        # The second time there is an e-card.
        assert (await apply(guardian, onBehalfOf=dependant_id)).status == 200
    assert (await kept(database, "minor"))["password"] is None


async def test_a_guardian_does_not_end_the_payment_of_a_dependants_ecard(api: Api, database: Database) -> None:
    guardian, dependant_id = await guarding(api)
    await agreeing(guardian)
    assert (await apply(guardian, onBehalfOf=dependant_id)).status == 200
    ecard = await kept(database, "minor")
    # It pays, on another card than the one that is fit now.
    other = (await api.persona("sealed"))["cards"][0]["cardId"]
    await database.collection("ecards").update({"_id": ecard["_id"]}, {"$set": {"level": 2, "cardId": other}})
    card_id = (await api.persona("minor"))["cards"][0]["cardId"]
    refused = await apply(guardian, level=1, cardId=card_id, onBehalfOf=dependant_id)
    assert (refused.status, refused.code, refused.json["reason"]) == (403, "forbidden", "notForGuardians")
    after = await kept(database, "minor")
    assert (after["level"], after["cardId"], after["version"]) == (2, other, ecard["version"])


async def test_a_dependants_ecard_is_nobody_elses(api: Api) -> None:
    guardian, dependant_id = await guarding(api)
    await agreeing(guardian)
    assert (await apply(guardian, onBehalfOf=dependant_id)).status == 200
    stranger = await api.sign_in("active")
    await agreeing(stranger)
    for client in (stranger, await api.sign_in("minor", "face")):
        refused = [
            await apply(client, onBehalfOf=dependant_id),
            await client.post("/v1/ecard/codes", {"onBehalfOf": dependant_id}),
            await client.get(f"/v1/ecard?onBehalfOf={dependant_id}"),
            await client.get("/v1/ecard?onBehalfOf=nonsense"),
        ]
        assert {(reply.status, reply.code) for reply in refused} == {(404, "not_found")}
    assert (await guardian.post(f"/v1/dependants/{dependant_id}/end", {}, key="new")).status == 200
    assert (await guardian.get(f"/v1/ecard?onBehalfOf={dependant_id}")).code == "not_found"
    assert (await guardian.post("/v1/ecard/codes", {"onBehalfOf": dependant_id})).code == "not_found"
