"""What the holder reads of it: own changes, those of others, and that neither stands there twice."""

from typing import Any

from api.card_office import applied, released
from api.client import Api


async def settled(api: Api, persona: str) -> None:
    """Whatever had happened to their cards has been carried."""
    await api.messages((await api.persona(persona))["mobile"])


async def changes(client: Api) -> list[tuple[str, str, str, str | None]]:
    return [(item["action"], item["by"], item["channel"], item["reason"]) for item in await client.accesses()]


async def test_what_a_holder_changes_on_a_card_stands_in_their_log_once(api: Api) -> None:
    client = await api.sign_in("sealed", "face")
    activated = await client.activate(await api.details("sealed"), "first")
    assert (await client.activate(await api.details("sealed"), "first")).json == activated.json
    card = f"/v1/cards/{activated.json['cardId']}"
    for path, body in (("/loss", {"kind": "temporary"}), ("/loss/cancel", {})):
        assert (await client.post(card + path, body, key=f"{path}-key")).status == 200
        assert (await client.post(card + path, body, key=f"{path}-key")).status == 200
    await settled(api, "sealed")
    await settled(api, "sealed")
    assert await changes(client) == [
        ("cancelLoss", "self", "app", None),
        ("reportTemporaryLoss", "self", "app", None),
        ("activate", "self", "app", None),
    ]


async def test_what_is_done_at_a_counter_is_not_written_a_second_time_when_it_has_happened(api: Api) -> None:
    bureau, holder = await api.sign_in_staff("bureau"), await api.sign_in("active", "face")
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    body = {"kind": "formal", "materials": ["idCard"]}
    reply = await bureau.post(f"/v1/staff/cards/{card_id}/loss", body, key="new")
    assert reply.status == 200, reply.raw
    await settled(api, "active")
    assert [entry[:3] for entry in await changes(holder)] == [("reportFormalLoss", "bureauClerk", "bureau")]


async def test_a_sign_in_stands_there_with_the_way_it_was_done(api: Api) -> None:
    await api.sign_in("active", "password")
    client = await api.sign_in("active", "face")
    items: list[dict[str, Any]] = (await client.get("/v1/me/access-log")).json["items"]
    assert [(item["action"], item["by"], item["reason"]) for item in items] == [
        ("signIn", "self", "face"),
        ("signIn", "self", "password"),
    ]


async def test_a_failed_sign_in_leaves_nothing(api: Api) -> None:
    started = await api.start("active", "password")
    path = f"/v1/identity/verifications/{started['verificationId']}/confirm"
    assert (await api.post(path, {"password": "wrong-one-1"})).code == "verification_failed"
    client = await api.sign_in("active", "face")
    assert len((await client.get("/v1/me/access-log")).json["items"]) == 1


async def test_an_act_is_written_once_a_request_and_before_it_is_done(api: Api) -> None:
    client = await api.sign_in("active", "face")
    card_id = (await api.persona("active"))["cards"][0]["cardId"]
    for _ in range(2):
        assert (await client.post(f"/v1/cards/{card_id}/replacement", {"reason": "damaged"}, key="one")).status == 201
    assert [entry[0] for entry in await changes(client)] == ["replace"]
    # Refused, and written all the same.
    assert (await client.post(f"/v1/cards/{card_id}/replacement", {"reason": "damaged"}, key="two")).status == 409
    assert [entry[0] for entry in await changes(client)] == ["replace", "replace"]


async def test_the_same_look_in_another_session_is_written_again(api: Api) -> None:
    for count in (1, 2):
        client = await api.sign_in("active", "face")
        for _ in range(3):
            assert (await client.get("/v1/me")).status == 200
        items = (await client.get("/v1/me/access-log")).json["items"]
        assert [item["action"] for item in items].count("seeMe") == count


async def test_a_look_for_a_dependant_is_none_at_ones_own(api: Api) -> None:
    guardian = await api.sign_in("guardian", "face")
    dependant = (await guardian.get("/v1/dependants")).json["items"][0]
    assert (await guardian.get(f"/v1/cards?onBehalfOf={dependant['dependantId']}")).status == 200
    actions = [item["action"] for item in (await guardian.get("/v1/me/access-log")).json["items"]]
    assert actions == ["seeDependants", "signIn"]


async def test_a_check_of_a_batch_is_written_for_each_whose_card_is_in_it(api: Api) -> None:
    producer, supervisor = await api.sign_in_staff("production"), await api.sign_in_staff("bureau-supervisor")
    holder = await api.sign_in("active", "face")
    application_id = await applied(holder)
    await released(producer, supervisor, application_id)
    # Three checks, and the last of them released the batch.
    assert ("checkBatch", "bureauSupervisor", "bureau", None) in await changes(holder)
    other = await api.sign_in("sealed", "face")
    assert [entry[0] for entry in await changes(other)] == []
