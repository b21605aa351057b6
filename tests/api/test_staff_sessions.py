"""Operators sign in, stay for as long as they may, and are told nothing when they may not."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pyotp
import pytest
from api.client import STEP_SECONDS, Api, Reply

from handlers.access import Access
from handlers.endpoints import Route, endpoint
from handlers.operators import show_operator
from schemas.operators import OperatorView
from service.clock import Clock
from service.config import Config
from service.enrolments import Enrolments
from service.keyring import load_keyring
from service.masking import mask_name
from service.mongo.client import Database
from service.mongo.operators import MongoOperatorStore
from service.mongo.sessions import MongoSessionStore
from service.passwords import Passwords
from service.server import Served, serving
from service.tokens import Claims
from service.vault import Vault

SIGN_IN = "/v1/staff/sessions"
# Five wrong ones are judged, then there is a wait of a quarter of an hour.
FREE, FIRST_WAIT = 5, 900


async def wrong(api: Api, username: str, times: int = FREE) -> list[Reply]:
    """Wrong sign-ins, one after the other."""
    body = {"username": username, "password": "not this one", "totp": "000000"}
    return [await api.post(SIGN_IN, body) for _ in range(times)]


async def code_by_the_service(api: Api, key: str) -> str:
    """The code of this moment by the service's clock."""
    now = datetime.fromisoformat((await api.post("/sandbox/clock", {"advanceSeconds": 0})).json["now"])
    return pyotp.TOTP((await api.persona(key))["totpSecret"]).at(now)


@pytest.fixture
async def enrolments(config: Config, database: Database) -> AsyncIterator[Enrolments]:
    """The administrator of the served application."""
    ring = load_keyring(config.keyring_path)
    vault = Vault(lambda: ring)
    passwords = Passwords(vault)
    sessions, store = MongoSessionStore(database), MongoOperatorStore(database, vault)
    yield Enrolments(store=store, sessions=sessions, passwords=passwords, clock=Clock())
    passwords.close()


@pytest.fixture
async def second(config: Config, served: Served) -> AsyncIterator[Served]:
    """Another process, as far as the database can tell."""
    del served
    async with serving(config) as running:
        yield running


# The journey.


async def test_an_operator_signs_in_is_somebody_and_signs_out(api: Api) -> None:
    tokens = await api.staff_tokens("bank-own")
    persona = await api.persona("bank-own")
    assert (tokens["tokenType"], tokens["expiresIn"], tokens["refreshExpiresIn"]) == ("Bearer", 600, 900)
    assert tokens["assurance"] == {"level": 2, "method": "totp"}
    client = api.as_(tokens["accessToken"])
    me = await client.get("/v1/staff/me")
    assert (me.status, me.json) == (200, tokens["operator"])
    assert me.json == {
        "operatorId": me.json["operatorId"],
        "nameMasked": mask_name(persona["name"]),
        "role": "bankTeller",
        "institution": {
            "institutionId": persona["institution"]["id"],
            "name": "虚构银行云栖支行",
            "kind": "bank",
            "regionCodes": ["990100"],
            "bankCode": "B901",
            "redeemsEcards": True,
        },
    }
    assert me.json["operatorId"].startswith("op_")
    assert (await client.post("/v1/sessions/logout")).raw == b"{}"
    assert (await client.get("/v1/staff/me")).code == "token_revoked"


async def test_every_operator_of_the_sandbox_can_sign_in_after_a_reset(api: Api) -> None:
    personas = (await api.get("/sandbox/personas")).json["items"]
    for key, role in [(persona["key"], persona["role"]) for persona in personas if persona["kind"] == "operator"]:
        assert (await api.staff_tokens(key))["operator"]["role"] == role


async def test_the_token_says_role_operator_and_session_and_no_more_of_who_it_is(api: Api) -> None:
    tokens = await api.staff_tokens("bureau")
    claims = jwt.decode(tokens["accessToken"], options={"verify_signature": False})
    assert (claims["role"], claims["acr"], claims["amr"]) == ("bureauClerk", "2", ["totp"])
    assert (claims["sub"], claims["sid"]) == (tokens["operator"]["operatorId"], tokens["sessionId"])
    assert set(claims) == {"iss", "aud", "sub", "sid", "jti", "iat", "exp", "acr", "amr", "role"}


async def test_the_institution_is_named_in_the_language_of_the_caller(api: Api) -> None:
    client = await api.sign_in_staff("bank-own")
    english = await client.get("/v1/staff/me", Accept_Language="en")
    assert english.json["institution"]["name"] == "Yunqi outlet of an invented bank"


async def test_a_username_may_be_typed_in_capitals_and_with_spaces(api: Api) -> None:
    username = (await api.persona("hotline"))["username"]
    assert (await api.sign_in_as_staff("hotline", username=f"  {username.upper()} ")).status == 200


# Saying no.


async def _wrong_password(api: Api) -> Reply:
    return await api.sign_in_as_staff("bureau", password="not this one")


async def _wrong_code(api: Api) -> Reply:
    # A code of another day.
    secret = (await api.persona("bureau"))["totpSecret"]
    return await api.sign_in_as_staff("bureau", totp=pyotp.HOTP(secret).at(1))


async def _unknown(api: Api) -> Reply:
    return await api.sign_in_as_staff("bureau", username="nobody.0000")


async def _used_code(api: Api) -> Reply:
    proof = await api.staff_proof("hospital")
    assert (await api.post(SIGN_IN, proof)).status == 200
    return await api.post(SIGN_IN, proof)


async def _others_code(api: Api) -> Reply:
    return await api.sign_in_as_staff("bureau", totp=(await api.staff_proof("hotline"))["totp"])


async def test_every_wrong_sign_in_gets_the_same_answer(api: Api, enrolments: Enrolments) -> None:
    await enrolments.disable((await api.persona("production"))["username"])

    async def disabled(api: Api) -> Reply:
        return await api.sign_in_as_staff("production")

    ways: list[Callable[[Api], Awaitable[Reply]]] = [_wrong_password, _wrong_code, _unknown, _used_code, _others_code, disabled]
    replies = [await way(api) for way in ways]
    bodies = [{name: value for name, value in reply.json.items() if name != "requestId"} for reply in replies]
    assert bodies == [bodies[0]] * len(ways)
    assert (bodies[0]["status"], bodies[0]["code"]) == (403, "sign_in_failed")
    assert {tuple(sorted({*reply.headers} - {"Date"})) for reply in replies} == {
        tuple(sorted({*replies[0].headers} - {"Date"}))
    }
    assert len({len(reply.raw) for reply in replies}) == 1


@pytest.mark.alone
async def test_a_wrong_sign_in_takes_the_time_of_any_other(api: Api) -> None:
    """Somebody who is not there is hashed too. A hash takes some 25 ms; without it an answer would take two."""
    ways: list[Callable[[Api], Awaitable[Reply]]] = [_wrong_password, _unknown]
    took: dict[Any, list[float]] = {way: [] for way in ways}
    for _ in range(4):
        for way in ways:
            began = time.perf_counter()
            reply = await way(api)
            took[way].append(time.perf_counter() - began)
            assert reply.code == "sign_in_failed"
    known, unknown = (statistics.median(took[way]) for way in ways)
    assert abs(known - unknown) < max(known, unknown) / 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("totp", "12345"), ("totp", "abcdef"), ("totp", None), ("username", ""), ("password", ""), ("pin", "1")],
)
async def test_what_can_be_no_sign_in_is_invalid_and_counts_for_nothing(api: Api, field: str, value: Any) -> None:
    proof = await api.staff_proof("bureau")
    for _ in range(FREE + 1):
        reply = await api.post(SIGN_IN, proof | {field: value})
        assert (reply.status, reply.json["errors"][0]["field"]) == (422, field)
    assert (await api.post(SIGN_IN, proof)).status == 200


# Codes.


@pytest.mark.parametrize(("distance", "status"), [(-2, 403), (-1, 200), (0, 200), (1, 200), (2, 403)])
async def test_a_code_counts_one_step_before_and_after_its_time(api: Api, distance: int, status: int) -> None:
    # Away from the moment in which one step becomes the next.
    await asyncio.sleep(max(0.0, 3 - (STEP_SECONDS - time.time() % STEP_SECONDS)))
    code = pyotp.HOTP((await api.persona("bureau"))["totpSecret"]).at(int(time.time()) // STEP_SECONDS + distance)
    assert (await api.sign_in_as_staff("bureau", totp=code)).status == status


async def test_a_code_is_good_once_and_so_is_every_one_before_it(api: Api) -> None:
    await asyncio.sleep(max(0.0, 3 - (STEP_SECONDS - time.time() % STEP_SECONDS)))
    secret = (await api.persona("bureau"))["totpSecret"]
    before, now, after = (pyotp.HOTP(secret).at(int(time.time()) // STEP_SECONDS + distance) for distance in (-1, 0, 1))
    assert (await api.sign_in_as_staff("bureau", totp=now)).status == 200
    assert (await api.sign_in_as_staff("bureau", totp=now)).code == "sign_in_failed"
    assert (await api.sign_in_as_staff("bureau", totp=before)).code == "sign_in_failed"
    assert (await api.sign_in_as_staff("bureau", totp=after)).status == 200


async def test_of_many_at_once_with_one_code_over_two_processes_one_gets_in(api: Api, second: Served) -> None:
    proof = await api.staff_proof("bureau")
    async with Api(second.url) as there:
        replies = await asyncio.gather(*((api, there)[n % 2].post(SIGN_IN, proof) for n in range(30)))
    assert [reply.status for reply in replies].count(200) == 1
    assert {reply.code for reply in replies if reply.status != 200} <= {"sign_in_failed", "too_many_attempts"}


async def test_a_code_by_the_worlds_clock_and_one_by_the_services_both_count(api: Api) -> None:
    await api.advance(3600)
    by_the_world = await api.staff_proof("bureau")
    by_the_service = by_the_world | {"totp": await code_by_the_service(api, "bureau")}
    assert (await api.post(SIGN_IN, by_the_world)).status == 200
    assert (await api.post(SIGN_IN, by_the_service)).status == 200
    for used in (by_the_world, by_the_service):
        assert (await api.post(SIGN_IN, used)).code == "sign_in_failed"


# Limits.


async def test_after_five_wrong_ones_nobody_gets_in_for_a_quarter_of_an_hour(api: Api) -> None:
    username = (await api.persona("bureau"))["username"]
    assert [reply.code for reply in await wrong(api, username)] == ["sign_in_failed"] * FREE
    refused = await api.sign_in_as_staff("bureau")
    assert (refused.status, refused.code) == (429, "too_many_attempts")
    assert FIRST_WAIT - 5 <= int(refused.headers["Retry-After"]) <= FIRST_WAIT
    # Somebody else is not kept out.
    assert (await api.sign_in_as_staff("bureau-supervisor")).status == 200
    await api.advance(int(refused.headers["Retry-After"]))
    assert (await api.sign_in_as_staff("bureau")).status == 200


async def test_each_further_wrong_one_doubles_the_wait_up_to_a_day(api: Api) -> None:
    username = (await api.persona("bureau"))["username"]
    await wrong(api, username)
    waits = []
    for _ in range(9):
        (refused,) = await wrong(api, username, 1)
        assert refused.code == "too_many_attempts"
        waits.append(int(refused.headers["Retry-After"]))
        await api.advance(waits[-1])
        assert (await wrong(api, username, 1))[0].code == "sign_in_failed"
    expected = [min(FIRST_WAIT * 2**n, 86_400) for n in range(9)]
    assert all(0 <= due - wait <= 5 for wait, due in zip(waits, expected, strict=True))


async def test_a_right_sign_in_forgets_the_wrong_ones(api: Api) -> None:
    username = (await api.persona("bureau"))["username"]
    for _ in range(2):
        await wrong(api, username, FREE - 1)
        assert (await api.sign_in_as_staff("bureau")).status == 200
    assert (await wrong(api, username, 1))[0].code == "sign_in_failed"


async def test_a_wrong_one_is_forgotten_a_day_later(api: Api) -> None:
    username = (await api.persona("bureau"))["username"]
    await wrong(api, username, FREE - 1)
    await api.advance(86_401)
    assert [reply.code for reply in await wrong(api, username, FREE - 1)] == ["sign_in_failed"] * (FREE - 1)
    assert (await api.sign_in_as_staff("bureau")).status == 200


async def test_a_name_that_nobody_has_is_locked_like_any_other(api: Api) -> None:
    known, unknown = (await api.persona("bureau"))["username"], "nobody.0000"
    codes = [[reply.code for reply in await wrong(api, name, FREE + 1)] for name in (known, unknown)]
    assert codes[0] == codes[1] == ["sign_in_failed"] * FREE + ["too_many_attempts"]


async def test_of_many_guesses_at_once_over_two_processes_five_are_judged(api: Api, second: Served) -> None:
    """Also when the right one is among them."""
    proof = await api.staff_proof("bureau")
    bodies = [proof | {"totp": f"{number:06d}"} for number in range(60)]
    bodies.insert(30, proof)
    async with Api(second.url) as there:
        replies = await asyncio.gather(*((api, there)[n % 2].post(SIGN_IN, body) for n, body in enumerate(bodies)))
    codes = [reply.code if reply.status != 200 else "in" for reply in replies]
    # Who gets in begins anew, so five more may follow.
    assert codes.count("sign_in_failed") <= FREE * (1 + codes.count("in"))
    assert codes.count("in") <= 1
    assert set(codes) <= {"in", "sign_in_failed", "too_many_attempts"}
    assert codes.count("too_many_attempts") >= len(bodies) - 2 * FREE


# Life.


async def test_a_staff_session_ends_after_a_quarter_of_an_hour_without_a_refresh(api: Api) -> None:
    tokens = await api.staff_tokens("bureau")
    await api.advance(899)
    tokens = (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).json
    assert tokens["refreshExpiresIn"] == 900
    await api.advance(901)
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).code == "token_expired"
    assert (await api.as_(tokens["accessToken"]).get("/v1/staff/me")).code == "token_expired"


async def test_no_staff_session_lives_longer_than_twelve_hours(api: Api) -> None:
    tokens = await api.staff_tokens("bureau")
    for _ in range(48):
        await api.advance(895)
        reply = await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})
        assert reply.status == 200
        tokens = reply.json
    assert tokens["expiresIn"] < 600
    await api.advance(895)
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).code == "token_expired"


async def test_a_refresh_token_that_comes_back_ends_the_operators_session(api: Api) -> None:
    tokens = await api.staff_tokens("bureau")
    body = {"refreshToken": tokens["refreshToken"]}
    second = (await api.post("/v1/sessions/refresh", body)).json
    assert (await api.as_(second["accessToken"]).get("/v1/staff/me")).status == 200
    assert (await api.post("/v1/sessions/refresh", body)).code == "token_revoked"
    assert (await api.as_(second["accessToken"]).get("/v1/staff/me")).code == "token_revoked"
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": second["refreshToken"]})).code == "token_revoked"


async def test_many_uses_of_one_refresh_token_give_at_most_one_successor(api: Api) -> None:
    tokens = await api.staff_tokens("bureau")
    body = {"refreshToken": tokens["refreshToken"]}
    replies = await asyncio.gather(*(api.post("/v1/sessions/refresh", body) for _ in range(50)))
    assert [reply.status for reply in replies].count(200) <= 1
    assert (await api.as_(tokens["accessToken"]).get("/v1/staff/me")).code == "token_revoked"


async def test_who_is_disabled_is_refused_at_the_next_request_and_cannot_refresh(api: Api, enrolments: Enrolments) -> None:
    tokens = await api.staff_tokens("bureau")
    client = api.as_(tokens["accessToken"])
    assert (await client.get("/v1/staff/me")).status == 200
    await enrolments.disable((await api.persona("bureau"))["username"])
    assert (await client.get("/v1/staff/me")).code == "token_revoked"
    assert (await client.post("/v1/sessions/logout")).code == "token_revoked"
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).code == "token_revoked"
    assert (await api.sign_in_as_staff("bureau")).code == "sign_in_failed"


async def test_who_is_disabled_is_refused_even_where_a_session_was_left(api: Api, database: Database) -> None:
    """The session is alive: it is the operator who is looked at."""
    tokens = await api.staff_tokens("bureau")
    client = api.as_(tokens["accessToken"])
    operators = database.collection("operators")
    await operators.update({"_id": tokens["operator"]["operatorId"]}, {"$set": {"disabledAt": datetime.now(UTC)}})
    assert (await client.get("/v1/staff/me")).code == "token_revoked"
    assert (await client.post("/v1/sessions/logout")).code == "token_revoked"
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).code == "token_revoked"
    await operators.update({"_id": tokens["operator"]["operatorId"]}, {"$set": {"disabledAt": None}})
    assert (await client.get("/v1/staff/me")).status == 200
    await operators.update({"_id": tokens["operator"]["operatorId"]}, {"$set": {"role": "bureauSupervisor"}})
    assert (await client.get("/v1/staff/me")).code == "token_revoked"
    await operators.delete({"_id": tokens["operator"]["operatorId"]})
    assert (await client.get("/v1/staff/me")).code == "token_revoked"


async def test_new_credentials_end_every_session_and_the_old_ones(api: Api, enrolments: Enrolments) -> None:
    client = await api.sign_in_staff("bureau")
    enrolled = await enrolments.reset((await api.persona("bureau"))["username"], None)
    assert (await client.get("/v1/staff/me")).code == "token_revoked"
    assert (await api.sign_in_as_staff("bureau")).code == "sign_in_failed"
    assert (await api.sign_in_as_staff("bureau", password=enrolled.password)).code == "sign_in_failed"
    fresh = {"password": enrolled.password, "totp": pyotp.TOTP(enrolled.totp_secret).now()}
    assert (await api.sign_in_as_staff("bureau", **fresh)).status == 200


async def test_the_region_of_an_institution_counts_from_the_next_request(api: Api, database: Database) -> None:
    client = await api.sign_in_staff("bureau")
    place = (await client.get("/v1/staff/me")).json["institution"]["institutionId"]
    await database.collection("institutions").update({"_id": place}, {"$set": {"regionCodes": ["990300"]}})
    assert (await client.get("/v1/staff/me")).json["institution"]["regionCodes"] == ["990300"]


# Who is who.


async def test_a_resident_is_no_operator_and_an_operator_no_resident(api: Api) -> None:
    resident, operator = await api.sign_in("active"), await api.sign_in_staff("bureau-supervisor")
    reply = await resident.get("/v1/staff/me")
    assert (reply.status, reply.code) == (403, "forbidden")
    for path in ("/v1/me", "/v1/cards", "/v1/sessions", "/v1/pages/social-security-card"):
        reply = await operator.get(path)
        assert (reply.status, reply.code) == (403, "forbidden"), path
    assert (await operator.activate(await api.details("sealed"))).code == "forbidden"


async def test_nobody_is_told_to_sign_in_and_not_sent_to_a_page_of_residents(api: Api) -> None:
    reply = await api.get("/v1/staff/me")
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert "verifyPage" not in reply.json
    assert (await api.post("/v1/sessions/logout")).json["verifyPage"] == "identity"
    assert (await api.as_("x.y.z").get("/v1/staff/me")).code == "token_invalid"


@pytest.mark.parametrize("role", ["bureauSupervisor", "holder", "admin", ""])
async def test_a_token_with_another_role_than_its_session_opens_nothing(api: Api, served: Served, role: str) -> None:
    """Signed with the service's own key, which nobody has: the session is what counts."""
    services = served.process.services
    operator, resident = await api.staff_tokens("bureau"), await api.tokens("active", "face")
    now = services.clock.now()
    for tokens in (operator, resident):
        subject = jwt.decode(tokens["accessToken"], options={"verify_signature": False})["sub"]
        if role == "holder" and tokens is resident:
            continue
        claims = Claims(subject, tokens["sessionId"], role, 3)
        forged, _ = services.tokens.issue(claims, method="totp", now=now, until=datetime(2099, 1, 1, tzinfo=UTC))
        for path in ("/v1/staff/me", "/v1/me", "/v1/cards"):
            reply = await api.as_(forged).get(path)
            assert (reply.status, reply.code) == (401, "token_invalid"), path


async def test_a_token_whose_role_was_changed_is_not_ours(api: Api) -> None:
    token = (await api.staff_tokens("bureau"))["accessToken"]
    head, _, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False}) | {"role": "bureauSupervisor"}
    body = jwt.encode(claims, "x" * 32, algorithm="HS256").split(".")[1]
    assert (await api.as_(f"{head}.{body}.{signature}").get("/v1/staff/me")).code == "token_invalid"


# The table.


def _route(access: Access, **more: Any) -> Route:
    return Route("GET", "/v1/x", show_operator, access, OperatorView, "Staff", **more)


@pytest.mark.parametrize(
    "route",
    [
        _route(Access.STAFF),
        _route(Access.STAFF, roles=()),
        *(_route(access, roles=("bureauClerk",)) for access in Access if access is not Access.STAFF),
        _route(Access.STAFF, roles=("bureauClerk",), level=3),
        _route(Access.STAFF, roles=("bureauClerk",), beside=True),
    ],
    ids=lambda route: f"{route.access.value} {route.roles} {route.level}",
)
def test_a_row_that_does_not_say_who_may_stops_the_start(served: Served, route: Route) -> None:
    with pytest.raises(ValueError, match="/v1/x"):
        endpoint(route, served.process.services)
