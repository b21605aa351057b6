import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from api.client import Api
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from service.mongo.client import Database


async def test_a_session_is_refreshed_and_the_old_token_is_over(api: Api) -> None:
    tokens = await api.tokens("active")
    second = (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).json
    assert second["sessionId"] == tokens["sessionId"]
    assert (await api.as_(second["accessToken"]).get("/v1/me")).status == 200
    stolen = await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})
    assert (stolen.status, stolen.code) == (401, "token_revoked")
    assert (await api.as_(second["accessToken"]).get("/v1/me")).code == "token_revoked"
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": second["refreshToken"]})).code == "token_revoked"


async def test_a_hundred_uses_of_one_refresh_token_give_at_most_one_successor(api: Api) -> None:
    tokens = await api.tokens("active")
    body = {"refreshToken": tokens["refreshToken"]}
    replies = await asyncio.gather(*(api.post("/v1/sessions/refresh", body) for _ in range(100)))
    assert [reply.status for reply in replies].count(200) <= 1
    assert {reply.code for reply in replies if reply.status != 200} == {"token_revoked"}
    assert (await api.as_(tokens["accessToken"]).get("/v1/me")).code == "token_revoked"


async def test_an_access_token_expires_and_a_refresh_goes_on(api: Api) -> None:
    tokens = await api.tokens("active")
    await api.advance(631)
    assert (await api.as_(tokens["accessToken"]).get("/v1/me")).code == "token_expired"
    second = (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).json
    assert (await api.as_(second["accessToken"]).get("/v1/me")).status == 200


async def test_an_idle_session_ends_after_an_hour(api: Api) -> None:
    tokens = await api.tokens("active")
    await api.advance(3601)
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).code == "token_expired"


async def test_no_session_lives_longer_than_a_day(api: Api) -> None:
    tokens = await api.tokens("active")
    for _ in range(24):
        await api.advance(3500)
        reply = await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})
        assert reply.status == 200
        tokens = reply.json
    await api.advance(3500)
    assert (await api.post("/v1/sessions/refresh", {"refreshToken": tokens["refreshToken"]})).code == "token_expired"


async def test_logging_out_ends_the_session_at_once(api: Api) -> None:
    client = await api.sign_in("active")
    assert (await client.post("/v1/sessions/logout")).raw == b"{}"
    assert (await client.get("/v1/me")).code == "token_revoked"


async def _sessions(client: Api) -> list[dict[str, Any]]:
    """All sessions of who is signed in; a reset ends none, so others' tests have left some."""
    items: list[dict[str, Any]] = []
    page: dict[str, Any] = {"hasMore": True, "nextCursor": None}
    while page["hasMore"]:
        here = f"&cursor={page['nextCursor']}" if page["nextCursor"] else ""
        page = (await client.get(f"/v1/sessions?limit=100{here}")).json
        items += page["items"]
    return items


async def test_a_person_sees_and_ends_their_other_sessions(api: Api) -> None:
    first = await api.sign_in("active", "face")
    tokens = await api.tokens("active", "password")
    second = api.as_(tokens["accessToken"])
    other = next(item for item in await _sessions(first) if item["sessionId"] == tokens["sessionId"])
    assert (other["current"], other["assurance"]["level"]) == (False, 1)
    assert (await first.post(f"/v1/sessions/{other['sessionId']}/revoke")).status == 200
    assert (await second.get("/v1/me")).code == "token_revoked"
    assert (await first.get("/v1/me")).status == 200


async def test_somebody_elses_session_is_not_found(api: Api) -> None:
    mine = await api.sign_in("active")
    others = await api.tokens("sealed")
    assert (await mine.post(f"/v1/sessions/{others['sessionId']}/revoke")).code == "not_found"
    assert (await api.as_(others["accessToken"]).get("/v1/me")).status == 200


async def test_a_list_is_paged_by_cursor(api: Api) -> None:
    client = await api.sign_in("active", "face")
    await api.tokens("active", "password")
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await client.get(f"/v1/sessions?limit=1{cursor}")).json
        seen += [item["sessionId"] for item in page["items"]]
        if not page["hasMore"]:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert page["nextCursor"] is None
    assert len(seen) == len(set(seen)) >= 2
    assert (await client.get("/v1/sessions?cursor=***")).status == 422
    assert (await client.get("/v1/sessions?limit=0")).status == 422


async def test_a_token_that_was_verified_before_is_worth_no_more_than_its_session(api: Api, database: Database) -> None:
    tokens = await api.tokens("active", "face")
    client = api.as_(tokens["accessToken"])
    card_id = (await client.get("/v1/cards")).json["items"][0]["cardId"]
    paths = ("/v1/me", "/v1/cards", f"/v1/cards/{card_id}", f"/v1/cards/{card_id}/balance")
    sessions = database.collection("sessions")
    live = await sessions.find_one({"_id": tokens["sessionId"]})
    assert live is not None
    # Another process writes, and the very next request knows.
    for _ in range(3):
        assert [(await client.get(path)).status for path in paths] == [200] * 4
        await sessions.replace({**live, "endedAt": live["createdAt"]})
        assert [(await client.get(path)).code for path in paths] == ["token_revoked"] * 4
        await sessions.replace(live)
        assert [(await client.get(path)).status for path in paths] == [200] * 4
        await sessions.delete({"_id": live["_id"]})
        assert [(await client.get(path)).code for path in paths] == ["token_revoked"] * 4
        # Also of somebody else's card, and of none: who asks is judged first.
        assert (await client.get(f"/v1/cards/{card_id[:-1]}x/balance")).code == "token_revoked"
        await sessions.replace({**live, "holderId": "hld_somebodyelse"})
        assert [(await client.get(path)).code for path in paths] == ["token_invalid"] * 4
        await sessions.replace(live)


async def test_a_token_that_was_verified_before_expires(api: Api) -> None:
    client = await api.sign_in("active")
    await api.advance(600)
    assert [(await client.get("/v1/me")).status for _ in range(3)] == [200] * 3
    await api.advance(31)
    assert [(await client.get("/v1/me")).code for _ in range(3)] == ["token_expired"] * 3


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _forged(token: str, jwks: dict[str, Any]) -> dict[str, str]:
    """Every way we could think of to make a token that is not ours look like one that is."""
    head, body, signature = token.split(".")
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, body))
    stranger = ec.generate_private_key(ec.SECP256R1())
    pem = stranger.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = json.dumps(jwks["keys"][0]).encode()

    def signed(changed: dict[str, Any] | None = None, **headers: Any) -> str:
        return jwt.encode(changed or claims, pem, algorithm="ES256", headers=header | headers)

    def resigned(changes: dict[str, Any]) -> str:
        return f"{_b64(json.dumps(header | changes).encode())}.{body}.{signature}"

    forged = {
        "a stranger's key": signed(),
        "a stranger's key, embedded": signed(jwk=jwks["keys"][0]),
        "a stranger's key by address": signed(jku="https://evil.example/jwks.json"),
        "a stranger's certificate by address": signed(x5u="https://evil.example/x.pem"),
        "an unknown kid": signed(kid="s000000000000"),
        "a path for a kid": signed(kid="../../../../dev/null"),
        "no kid": jwt.encode(claims, pem, algorithm="ES256", headers={"typ": "at+jwt"}),
        "critical extensions": signed(crit=["exp"]),
        "cut signature": token[:-4],
        "flipped signature": f"{head}.{body}.{_b64(bytes(64))}",
        "empty signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "four parts": f"{token}.{signature}",
        "other type": resigned({"typ": "JWT"}),
        "receipt type": resigned({"typ": "receipt+jwt"}),
        "hs256 with the public key": f"{_b64(json.dumps(header | {'alg': 'HS256'}).encode())}.{body}.{_b64(public)}",
        "compressed": resigned({"zip": "DEF"}),
        "encrypted": resigned({"enc": "A256GCM"}),
        "spaces": token.replace(".", " ."),
        "nonsense": "nonsense",
        "null": "null",
        "a number": "1",
        "dots": "..",
        "long": "a" * 5000,
        "utf-8": "é.é.é",
    }
    for algorithm in ("none", "None", "NONE", "HS256", "HS384", "HS512", "RS256", "ES384", "EdDSA", "es256", ""):
        forged[f"alg {algorithm}"] = resigned({"alg": algorithm})
        forged[f"alg {algorithm}, unsigned"] = f"{_b64(json.dumps(header | {'alg': algorithm}).encode())}.{body}."
    for claim in ("iss", "aud", "sub", "sid", "jti", "iat", "exp", "acr", "amr", "role"):
        changed = {name: value for name, value in claims.items() if name != claim}
        forged[f"without {claim}"] = signed(changed)
        forged[f"{claim} changed"] = f"{head}.{_b64(json.dumps(claims | {claim: 'x'}).encode())}.{signature}"
    forged["longer life"] = f"{head}.{_b64(json.dumps(claims | {'exp': claims['exp'] + 9999}).encode())}.{signature}"
    forged["higher level"] = f"{head}.{_b64(json.dumps(claims | {'acr': '3'}).encode())}.{signature}"
    return forged


async def test_no_forged_token_gets_in(api: Api) -> None:
    tokens = await api.tokens("active")
    jwks = (await api.get("/.well-known/jwks.json")).json
    forged = _forged(tokens["accessToken"], jwks)
    assert len(forged) >= 60
    for name, token in forged.items():
        reply = await api.as_(token).get("/v1/me")
        assert (reply.status, reply.code) == (401, "token_invalid"), name
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await api.as_(tokens["accessToken"]).get("/v1/me")).status == 200


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer", "Bearer ", "bearer", "Token abc"])
async def test_without_a_bearer_token_nobody_is_authenticated(api: Api, header: str) -> None:
    reply = await api.get("/v1/me", Authorization=header)
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


async def test_a_refresh_token_is_no_access_token_and_the_other_way_round(api: Api) -> None:
    tokens = await api.tokens("active")
    assert (await api.as_(tokens["refreshToken"]).get("/v1/me")).code == "token_invalid"
    reply = await api.post("/v1/sessions/refresh", {"refreshToken": tokens["accessToken"][:512]})
    assert (reply.status, reply.code) == (401, "token_invalid")


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1] + ("0" if t[-1] != "0" else "1"), lambda t: t.replace(".1.", ".2."), lambda _: "rt_é.1.x"]
)
async def test_a_forged_refresh_token_is_invalid_and_ends_nothing(api: Api, change: Any) -> None:
    tokens = await api.tokens("active")
    reply = await api.post("/v1/sessions/refresh", {"refreshToken": change(tokens["refreshToken"])})
    assert (reply.status, reply.code) == (401, "token_invalid")
    assert (await api.as_(tokens["accessToken"]).get("/v1/me")).status == 200


async def test_the_published_keys_verify_a_token_offline(api: Api) -> None:
    tokens = await api.tokens("active")
    reply = await api.get("/.well-known/jwks.json")
    header = jwt.get_unverified_header(tokens["accessToken"])
    key = next(key for key in reply.json["keys"] if key["kid"] == header["kid"])
    assert "d" not in key
    claims = jwt.decode(
        tokens["accessToken"], jwt.PyJWK(key).key, algorithms=["ES256"], options={"verify_aud": False}, leeway=60
    )
    assert header["typ"] == "at+jwt"
    assert {"iss", "aud", "sub", "sid", "jti", "iat", "exp", "acr", "amr", "role"} <= claims.keys()
    assert claims["exp"] - claims["iat"] <= 600
    assert abs(claims["iat"] - time.time()) < 60
