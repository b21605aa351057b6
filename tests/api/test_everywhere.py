import asyncio
from urllib.parse import urlsplit

import orjson
import pytest
from api.client import Api

from service.locale import Locale, text

ENVELOPE = "application/vnd.yika.envelope+json"
VERIFICATIONS = "/v1/identity/verifications"


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"{", {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"", {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"\xff\xfe", {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b'{"a":"\\ud800"}', {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"[" * 60_000, {"Content-Type": "application/json"}, 400, "malformed_json"),
        (b"[]", {"Content-Type": "application/json"}, 422, "invalid_request"),
        (b"null", {"Content-Type": "application/json"}, 422, "invalid_request"),
        (b"{}", {"Content-Type": "application/json; charset=utf-8"}, 422, "invalid_request"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json; charset=gbk"}, 415, "unsupported_media_type"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (b" " * 65_537, {"Content-Type": "application/json"}, 413, "payload_too_large"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    api: Api, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    reply = await api.send("POST", VERIFICATIONS, data=data, headers=headers)
    assert (reply.status, reply.code) == (status, code)
    assert reply.headers["Content-Type"].startswith("application/problem+json")


async def test_a_body_of_sixty_four_kib_is_read(api: Api) -> None:
    reply = await api.send("POST", VERIFICATIONS, data=b" " * 65_534 + b"{}", headers={"Content-Type": "application/json"})
    assert reply.code == "invalid_request"


async def test_an_unknown_field_is_named_unless_its_name_may_be_a_number(api: Api) -> None:
    reply = await api.post(VERIFICATIONS, {"method": "face", "name": "x", "idNumber": "1", "surprise": 1, "110105194912": 2})
    fields = {error["field"] for error in reply.json["errors"] if error["code"] == "unknown_field"}
    assert fields == {"surprise", "?"}
    assert b"110105194912" not in reply.raw


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/cards/", "/v2/cards", "/metrics", "/%00", "/v1/pages/a%2Fb"])
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    reply = await api.send("GET", path, checked=False)
    assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "POST"])
async def test_a_wrong_method_names_the_right_ones(api: Api, method: str) -> None:
    reply = await api.send(method, "/v1/cards", checked=False)
    assert reply.status == 405
    assert reply.headers["Allow"] == "GET"
    if method != "HEAD":
        assert reply.code == "method_not_allowed"


async def test_every_answer_carries_what_protects_it(api: Api) -> None:
    for path in ("/v1/me", "/livez", "/nowhere"):
        headers = (await api.send("GET", path, checked=False)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "max-age" in headers["Strict-Transport-Security"]
        assert headers["Server"] == "yika"
        assert headers["X-Request-Id"]
        assert headers["traceparent"].startswith("00-")


async def test_a_request_id_and_a_trace_are_taken_when_they_are_well_formed(api: Api) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    reply = await api.get("/v1/me", X_Request_Id="abc-123", traceparent=trace)
    assert reply.headers["X-Request-Id"] == reply.json["requestId"] == "abc-123"
    assert reply.headers["traceparent"].split("-")[1] == trace.split("-")[1]
    assert reply.headers["traceparent"].split("-")[2] != trace.split("-")[2]
    for wrong in ("a b", "x" * 129, "<script>"):
        assert (await api.get("/v1/me", X_Request_Id=wrong)).headers["X-Request-Id"] != wrong
    assert "0" * 32 not in (await api.get("/v1/me", traceparent=f"00-{'0' * 32}-{'0' * 16}-01")).headers["traceparent"]


@pytest.mark.parametrize(
    ("language", "locale"), [("en", "en"), ("en-GB,zh;q=0.5", "en"), ("zh-TW", "zh-CN"), ("fr", "zh-CN"), ("", "zh-CN")]
)
async def test_problems_speak_the_callers_language(api: Api, language: str, locale: Locale) -> None:
    reply = await api.get("/v1/pages/nowhere", Accept_Language=language)
    assert reply.headers["Content-Language"] == locale
    assert reply.json["title"] == text(locale, "problems.not_found.title")
    assert reply.json["detail"] == text(locale, "problems.not_found.detail")


@pytest.mark.parametrize(("path", "status"), [("/v1/me", 401), ("/v1/pages/home", 200), ("/nowhere", 404), ("/livez", 200)])
async def test_the_envelope_turns_every_answer_into_a_200(api: Api, path: str, status: int) -> None:
    plain = await api.send("GET", path, checked=False)
    reply = await api.send("GET", path, headers={"Accept": ENVELOPE}, checked=False)
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith(ENVELOPE)
    assert reply.json.keys() == {"success", "code", "message", "data", "httpStatus", "requestId"}
    assert reply.json["httpStatus"] == plain.status == status
    assert reply.json["success"] is (status == 200)
    if status == 200:
        assert reply.json["data"] == plain.json
    else:
        assert (reply.json["code"], reply.json["message"]) == (plain.code, plain.json["detail"])
    assert reply.headers["X-Request-Id"] == reply.json["requestId"]


async def test_the_envelope_carries_field_errors_and_what_belongs_to_a_problem(api: Api) -> None:
    reply = await api.post(VERIFICATIONS, {}, headers={"Accept": ENVELOPE})
    assert reply.json["httpStatus"] == 422
    assert reply.json["data"]["errors"][0]["field"] == "method"
    reply = await api.get("/v1/pages/activate", Accept=ENVELOPE)
    assert reply.json["data"] == {"verifyPage": "identity"}


async def test_an_enveloped_answer_is_never_empty(api: Api) -> None:
    etag = (await api.get("/v1/pages/home")).headers["ETag"]
    reply = await api.get("/v1/pages/home", Accept=ENVELOPE, If_None_Match=etag)
    assert (reply.status, reply.json["httpStatus"], reply.json["success"]) == (200, 304, True)
    client = await api.sign_in("active")
    assert (await client.post("/v1/sessions/logout", headers={"Accept": ENVELOPE})).json["data"] == {}


async def test_an_enveloped_replay_has_the_same_data(api: Api) -> None:
    client = await api.sign_in("sealed")
    details = await api.details("sealed")
    first = await client.post("/v1/activations", details, key="e", headers={"Accept": ENVELOPE})
    again = await client.post("/v1/activations", details, key="e")
    assert first.json["data"] == again.json
    wrong = await api.details("sealed2")
    refused = await client.post("/v1/activations", wrong, key="f")
    enveloped = await client.post("/v1/activations", wrong, key="f", headers={"Accept": ENVELOPE})
    assert (enveloped.json["code"], enveloped.json["httpStatus"]) == (refused.code, 422)


async def test_only_listed_origins_may_call_from_a_browser(api: Api) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    good = await api.send("OPTIONS", "/v1/cards", headers=preflight | {"Origin": "https://app.example"}, checked=False)
    assert good.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "Authorization" in good.headers["Access-Control-Allow-Headers"]
    bad = await api.send("OPTIONS", "/v1/cards", headers=preflight | {"Origin": "https://evil.example"}, checked=False)
    assert "Access-Control-Allow-Origin" not in bad.headers
    assert (await api.get("/livez", Origin="https://app.example")).headers["Access-Control-Allow-Origin"]
    assert "Access-Control-Allow-Origin" not in (await api.get("/livez", Origin="null")).headers


async def _raw(url: str, data: bytes) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(data)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense 110105\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_as_a_problem(api: Api, data: bytes) -> None:
    head, _, body = (await _raw(api.url, data)).partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert b"application/problem+json" in head
    assert b"aiohttp" not in head
    assert orjson.loads(body)["code"] == "malformed_request"
    assert b"110105" not in body


async def test_look_ups_of_one_person_are_sixty_a_minute(api: Api) -> None:
    client = await api.sign_in("active")
    replies = await asyncio.gather(*(client.get("/v1/me") for _ in range(70)))
    assert [reply.status for reply in replies].count(200) == 60
    limited = next(reply for reply in replies if reply.status == 429)
    assert limited.code == "rate_limited"
    assert 0 < int(limited.headers["Retry-After"]) <= 60
    await api.advance(60)
    assert (await client.get("/v1/me")).status == 200


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (ENVELOPE.upper(), True),
        (f"application/json;q=0.5, {ENVELOPE} ; q=0.9", True),
        (f"{ENVELOPE};q=0", False),
        (f"x{ENVELOPE}", False),
    ],
)
async def test_the_envelope_is_for_those_who_take_it(api: Api, accept: str, *, wanted: bool) -> None:
    reply = await api.send("GET", "/livez", headers={"Accept": accept}, checked=False)
    assert ("httpStatus" in reply.json) is wanted


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/nope", 404), ("PUT", "/v1/cards", 405), ("GET", "/livez", 200)]
)
async def test_a_strange_expectation_is_left_alone(api: Api, method: str, path: str, status: int) -> None:
    reply = await api.send(method, path, headers={"Expect": "110105194912310023"}, checked=False)
    assert reply.status == status
    assert b"110105194912310023" not in reply.raw
    assert reply.headers["Server"] == "yika"


@pytest.mark.parametrize(
    "given",
    [
        "11010519491231002X",
        "13800138000",
        "990100D1560000058EB8C6563283DC4E",
        "req-110105194912310023-1",
        "6222021234567890128",
    ],
)
async def test_what_may_be_somebodys_number_is_no_request_id(api: Api, given: str) -> None:
    assert (await api.get("/livez", X_Request_Id=given)).headers["X-Request-Id"] != given


@pytest.mark.parametrize("given", ["1763792400000", "1763792400000000", "1763792400000000000", "req-20261122-0001"])
async def test_a_time_may_be_a_request_id(api: Api, given: str) -> None:
    assert (await api.get("/livez", X_Request_Id=given)).headers["X-Request-Id"] == given


async def test_an_empty_parameter_is_one_that_was_not_given(api: Api) -> None:
    assert (await api.get("/v1/pages/home?region=")).status == 200
    client = await api.sign_in("active")
    assert (await client.get("/v1/cards?cursor=&limit=")).status == 200


async def test_a_replayed_problem_has_the_same_media_type(api: Api) -> None:
    client = await api.sign_in("sealed")
    wrong = await api.details("sealed2")
    first, again = await client.activate(wrong, "w"), await client.activate(wrong, "w")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["Content-Type"] == again.headers["Content-Type"] == "application/problem+json"


async def test_names_are_taken_as_people_type_them(api: Api) -> None:
    person = await api.persona("active")
    spaced = "\u200b" + " ".join(person["name"]) + "\ufeff"
    body = {"method": "face", "name": spaced, "idNumber": person["idNumber"]}
    started = (await api.post(VERIFICATIONS, body)).json
    assert (await api.post(f"{VERIFICATIONS}/{started['verificationId']}/confirm")).status == 200


async def test_nobody_is_missing_while_the_sandbox_is_reset(api: Api) -> None:
    client = await api.sign_in("active", "face")
    over = False
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        while not over:
            reply = await client.get("/v1/cards")
            seen.append((reply.status, len(reply.json["items"]) if reply.status == 200 else 0))
            await asyncio.sleep(0.02)

    looking = [asyncio.create_task(look()) for _ in range(3)]
    for _ in range(5):
        await api.post("/sandbox/reset")
    over = True
    await asyncio.gather(*looking)
    assert set(seen) - {(429, 0)} == {(200, 1)}
