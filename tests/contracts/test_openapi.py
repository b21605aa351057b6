"""The OpenAPI document of the real routes, judged by the specification, by our own rules, and by what it would let pass."""

import base64
import hashlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from api.client import Api
from contracts.conformance import ENVELOPE, PROBLEM, Conformance
from pydantic import TypeAdapter

from handlers.access import Access
from handlers.docs import Documents
from handlers.docs_page import docs_page
from handlers.endpoints import Route
from handlers.openapi import codes_of
from handlers.openapi_check import openapi_problems
from handlers.problems import problem
from handlers.routes import ROUTES
from handlers.sandbox import SANDBOX_ROUTES
from service.errors import KINDS, FieldError, Refusal

Json = dict[str, Any]

DOCUMENTS = Documents((*ROUTES, *SANDBOX_ROUTES), server="/")
DOCUMENT = DOCUMENTS.document
ALL = (*ROUTES, *SANDBOX_ROUTES, *DOCUMENTS.routes)
REQUEST_ID = "8f14e45fceea167a5a36dedd4bea2543"
HEADERS = {
    "X-Request-Id": REQUEST_ID,
    "traceparent": f"00-{REQUEST_ID}-00f067aa0ba902b7-00",
    "WWW-Authenticate": "Bearer",
    "Retry-After": "5",
    "ETag": '"0a1b"',
    "Allow": "GET",
}
CONFORMANCE = Conformance(DOCUMENT)


def operations() -> Iterator[tuple[str, str, Json]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def operation(name: str, document: Json = DOCUMENT) -> Json:
    found: Json = next(one for item in document["paths"].values() for one in item.values() if one["operationId"] == name)
    return found


def codes(name: str) -> dict[str, list[str]]:
    return {
        status: response["content"][PROBLEM]["schema"]["properties"]["code"]["enum"]
        for status, response in operation(name)["responses"].items()
        if PROBLEM in response.get("content", {})
    }


def parameters(name: str) -> set[str]:
    return {told.get("name") or told["$ref"].rsplit("/", 1)[-1] for told in operation(name)["parameters"]}


# --- The document ---


def test_the_document_is_whole() -> None:
    assert openapi_problems(DOCUMENT) == []


def test_every_route_is_described_and_nothing_else() -> None:
    described = {operation["operationId"] for _, _, operation in operations()}
    assert len(described) == len(ALL)
    assert {(method, path.count("{"), path.split("{")[0]) for method, path, _ in operations()} == {
        (route.method, route.path.count("{"), route.path.split("{")[0]) for route in ALL
    }


def test_an_activation_names_exactly_its_codes() -> None:
    assert codes("activate") == {
        "400": ["idempotency_key_missing", "malformed_json", "malformed_request"],
        "401": ["token_expired", "token_invalid", "token_revoked", "unauthenticated"],
        "403": [
            "assurance_too_low",
            "channel_not_allowed",
            "forbidden",
            "guardian_required",
            "region_not_interconnected",
        ],
        "404": ["not_found"],
        "408": ["request_timeout"],
        "409": ["card_not_activatable", "idempotency_in_flight"],
        "413": ["payload_too_large"],
        "415": ["unsupported_media_type"],
        "422": ["card_details_mismatch", "idempotency_key_reused", "invalid_request"],
        "429": ["too_many_attempts"],
        "500": ["internal"],
        "503": ["outcome_unknown", "unavailable"],
    }


def test_a_public_read_knows_no_tokens_no_bodies_and_no_keys() -> None:
    assert codes("listRegions") == {"500": ["internal"], "503": ["unavailable"]}
    assert parameters("listRegions") == {"AcceptLanguage", "IfNoneMatch", "RequestId", "Traceparent"}


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.handler.__name__)
def test_what_a_row_asks_for_is_what_its_operation_asks_for(route: Route) -> None:
    name = next(
        o["operationId"] for _, _, o in operations() if o["operationId"].lower() == route.handler.__name__.replace("_", "")
    )
    told = operation(name)
    assert ("IdempotencyKey" in parameters(name)) is route.keyed
    assert ("304" in told["responses"]) is route.cached is ("IfNoneMatch" in parameters(name))
    assert ("requestBody" in told) is (route.method == "POST")
    assert {code for listed in codes(name).values() for code in listed} == set(codes_of(route))
    assert (
        told["security"]
        == {
            Access.PUBLIC: [],
            Access.EITHER: [{}, {"session": []}],
            Access.HOLDER: [{"session": []}],
            Access.STAFF: [{"session": []}],
            Access.SIGNED_IN: [{"session": []}],
        }[route.access]
    )
    assert told.get("x-roles", []) == [*route.roles]
    assert all(f"`{role}`" in told["description"] for role in route.roles)


@pytest.mark.parametrize("route", [route for route in ALL if route.method == "POST"], ids=lambda route: route.path)
def test_an_example_of_a_body_is_taken_by_what_reads_bodies(route: Route) -> None:
    path = next(path for _, path, o in operations() if o["operationId"].lower() == route.handler.__name__.replace("_", ""))
    examples = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert examples
    for example in examples.values():
        TypeAdapter(route.body).validate_json(orjson.dumps(example["value"]))


def test_every_variant_of_a_body_has_an_example() -> None:
    content = operation("startVerification")["requestBody"]["content"]["application/json"]
    assert [example["value"]["method"] for example in content["examples"].values()] == ["sms", "password", "face"]


def test_answers_may_grow_and_bodies_may_not() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["ActivationRequest"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["ActivationView"]


def test_a_201_can_be_had_as_an_envelope_too() -> None:
    responses = operation("startVerification")["responses"]
    assert list(responses["201"]["content"]) == ["application/json"]
    assert list(responses["200"]["content"]) == [ENVELOPE]


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert DOCUMENT["info"]["version"] == project["version"]


def test_every_process_makes_the_same_bytes() -> None:
    # Otherwise an ETag would change with the process that a balancer picks.
    program = "import sys; from handlers.routes import ROUTES; from handlers.docs import Documents; import orjson;"
    program += "sys.stdout.buffer.write(orjson.dumps(Documents(ROUTES, server='/').document))"
    made = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1


# --- The rules notice ---

# Judging the whole takes a second each time, and the flaws need only these.
A_FEW = Documents(
    [route for route in ROUTES if route.handler.__name__ in {"activate", "show_card", "list_cards", "show_me"}], server="/"
).document


def test_a_few_routes_make_a_whole_document() -> None:
    assert openapi_problems(A_FEW) == []


def _nameless(document: Json) -> None:
    operation("activate", document)["summary"] = ""


def _twice(document: Json) -> None:
    operation("activate", document)["operationId"] = "showCard"


def _untagged(document: Json) -> None:
    operation("activate", document)["tags"] = ["Unheard"]


def _snake_parameter(document: Json) -> None:
    operation("listCards", document)["parameters"][0]["name"] = "next_cursor"


def _snake_member(document: Json) -> None:
    schema = document["components"]["schemas"]["CardView"]
    schema["properties"]["card_id"] = schema["properties"]["cardId"]


def _open_body(document: Json) -> None:
    del document["components"]["schemas"]["ActivationRequest"]["additionalProperties"]


def _wrong_example(document: Json) -> None:
    content = operation("activate", document)["requestBody"]["content"]["application/json"]
    content["examples"]["ActivationRequest"]["value"]["idNumber"] = 42


def _no_example(document: Json) -> None:
    del operation("showMe", document)["responses"]["200"]["content"]["application/json"]["examples"]


def _no_failure(document: Json) -> None:
    del operation("showMe", document)["responses"]["500"]


def _no_envelope(document: Json) -> None:
    del operation("showMe", document)["responses"]["200"]["content"][ENVELOPE]


def _no_specification(document: Json) -> None:
    operation("showMe", document)["responses"]["200"].pop("description")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_nameless, "POST /v1/activations: has no summary"),
        (_twice, "is called showCard"),
        (_untagged, "tag that nobody describes"),
        (_snake_parameter, "next_cursor is not camelCase"),
        (_snake_member, "CardView.card_id: is not camelCase"),
        (_open_body, "ActivationRequest lets unknown fields in"),
        (_wrong_example, "POST /v1/activations: the example ActivationRequest"),
        (_no_example, "GET /v1/me: its 200 has no example"),
        (_no_failure, "GET /v1/me: never fails"),
        (_no_envelope, "GET /v1/me: cannot be had as an envelope"),
        (_no_specification, "is a required property"),
    ],
)
def test_a_flaw_in_the_document_is_told(spoil: Callable[[Json], None], told: str) -> None:
    document = deepcopy(A_FEW)
    spoil(document)
    assert any(told in line for line in openapi_problems(document))


# --- Conformance: what the document would let pass ---


def an_answer(name: str, document: Json = DOCUMENT) -> Json:
    value: Json = next(
        example["value"]
        for status, response in operation(name, document)["responses"].items()
        if status.startswith("2")
        for example in response["content"].get("application/json", {}).get("examples", {}).values()
    )
    return deepcopy(value)


def check(
    path: str, status: int, body: object, *, method: str = "GET", media_type: str = "application/json", **without: bool
) -> None:
    headers = {name: value for name, value in HEADERS.items() if name.replace("-", "_").lower() not in without}
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    CONFORMANCE.check(method, path, status, f"{media_type}; charset=utf-8", headers, content)


def a_problem(code: str, **more: object) -> Json:
    facts: Json = {"verifyPage": "identity"} if code == "unauthenticated" else {}
    errors = [FieldError("limit", "not_allowed", {})] if code == "invalid_request" else []
    refusal = Refusal(code, facts, errors=errors, retry_after=5 if code == "rate_limited" else None)  # type: ignore[arg-type]  # codes come as texts here
    return dict(orjson.loads(problem(refusal, "en", REQUEST_ID).body)) | more


def enveloped(status: int, body: Json) -> Json:
    if status < 400:
        return {"success": True, "code": "ok", "message": "", "data": body, "httpStatus": status, "requestId": REQUEST_ID}
    more = {name: value for name, value in body.items() if name in {"errors", "retryAfter", "verifyPage"}}
    told = {"success": False, "code": body["code"], "message": body["detail"], "data": more or None}
    return told | {"httpStatus": status, "requestId": REQUEST_ID}


@pytest.mark.parametrize(("method", "path", "told"), [*operations()], ids=[o["operationId"] for *_, o in operations()])
def test_every_example_conforms_as_itself_and_as_an_envelope(method: str, path: str, told: Json) -> None:
    asked = path.replace("{", "").replace("}", "")
    for status, response in told["responses"].items():
        for media_type, content in response.get("content", {}).items():
            for example in content.get("examples", {}).values():
                shown = DOCUMENT["components"]["examples"]
                value = shown[example["$ref"].rsplit("/", 1)[-1]]["value"] if "$ref" in example else example["value"]
                check(asked, int(status), value, method=method, media_type=media_type)
                if media_type == "application/json":
                    check(asked, 200, enveloped(int(status), value), method=method, media_type=ENVELOPE)


def test_a_query_does_not_hide_an_operation() -> None:
    check("/v1/me/access-log?limit=1", 200, an_answer("listAccesses"))


def test_no_path_and_no_method_are_answers_too() -> None:
    check("/v1/nowhere", 404, a_problem("not_found"), media_type=PROBLEM)
    check("/v1/nowhere", 200, enveloped(404, a_problem("not_found")), media_type=ENVELOPE)
    check("/v1/me", 405, a_problem("method_not_allowed"), method="POST", media_type=PROBLEM)
    check("/v1/me", 405, b"", method="HEAD", media_type=PROBLEM)
    check("/v1/me", 200, b"{}", method="OPTIONS")


def test_a_page_one_has_already_conforms_without_a_body() -> None:
    check("/v1/pages/home", 304, b"", media_type="")
    check("/v1/pages/home", 200, enveloped(304, {}) | {"code": "not_modified", "data": None}, media_type=ENVELOPE)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (lambda: check("/v1/nowhere", 200, {}), "status 200 with no code"),
        (lambda: check("/v1/me", 404, a_problem("not_found"), media_type=PROBLEM), "status 404 with code 'not_found'"),
        (lambda: check("/v1/me", 200, b"<p>", media_type="text/html"), "the media type 'text/html'"),
        (lambda: check("/v1/me", 200, b"{"), "no JSON"),
        (lambda: check("/v1/me", 200, an_answer("showMe") | {"idNumber": "1"}), "'idNumber' was unexpected"),
        (lambda: check("/v1/me", 200, {"nameMasked": "*"}), "required property"),
        (lambda: check("/v1/me", 200, an_answer("showMe"), x_request_id=True), "header X-Request-Id is missing"),
        (lambda: check("/v1/me", 429, a_problem("not_found"), media_type=PROBLEM), "'not_found' is not one of"),
        (lambda: check("/v1/me", 401, a_problem("unauthenticated"), media_type=PROBLEM, www_authenticate=True), "WWW-Auth"),
        (lambda: check("/v1/me", 401, a_problem("token_invalid", status=403), media_type=PROBLEM), "401 was expected"),
        (lambda: check("/v1/me", 401, a_problem("token_invalid", requestId="1"), media_type=PROBLEM), "X-Request-Id"),
        (lambda: check("/v1/me", 401, a_problem("token_invalid", sub="1"), media_type=PROBLEM), "'sub' was unexpected"),
        (lambda: check("/v1/cards", 200, an_answer("listCards") | {"items": [{}]}), "items/0: 'cardId' is a required"),
        (lambda: check("/v1/pages/home", 304, b"{}", media_type=""), "has a body where none is described"),
        (lambda: check("/v1/pages/home", 200, an_answer("showPage"), etag=True), "header ETag is missing"),
        (
            lambda: check("/v1/cards", 405, a_problem("method_not_allowed"), method="POST", media_type=PROBLEM, allow=True),
            "Allow",
        ),
        (lambda: check("/v1/me", 200, enveloped(404, a_problem("not_found")), media_type=ENVELOPE), "status 404 with"),
        (
            lambda: check("/v1/me", 200, enveloped(429, a_problem("not_found")), media_type=ENVELOPE),
            "'not_found' is not one of",
        ),
        (lambda: check("/v1/me", 200, enveloped(200, {}), media_type=ENVELOPE), "'nameMasked' is a required property"),
        (lambda: check("/v1/me", 401, enveloped(401, a_problem("token_invalid")), media_type=ENVELOPE), "always a 200"),
        (lambda: check("/docs", 200, b"", media_type="text/html"), "is empty"),
    ],
)
def test_an_answer_that_is_not_described_is_told(asked: Callable[[], None], complaint: str) -> None:
    with pytest.raises(AssertionError, match="answered") as told:
        asked()
    assert complaint in str(told.value)


@pytest.mark.parametrize("moment", ["2026-11-22T08:00:00.000Z", "2026-11-22T16:00:00+08:00", "yesterday"])
def test_a_time_that_is_not_the_contracts_is_told(moment: str) -> None:
    spoilt = an_answer("showActivation") | {"activatedAt": moment}
    with pytest.raises(AssertionError, match="activatedAt"):
        check("/v1/activations/act_1", 200, spoilt)


def test_a_status_taken_from_the_document_is_missed() -> None:
    document = deepcopy(DOCUMENT)
    del operation("showMe", document)["responses"]["429"]
    told = a_problem("rate_limited")
    check("/v1/me", 429, told, media_type=PROBLEM)
    with pytest.raises(AssertionError, match="status 429 with code 'rate_limited'"):
        Conformance(document).check("GET", "/v1/me", 429, PROBLEM, HEADERS, orjson.dumps(told))


# --- The page ---


class _Page(HTMLParser):
    """What a browser would find: ids, what it would fetch, the style, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.elements: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.elements.append(tag)
        assert not {"style", "src", "srcset", "onload", "onclick"} & set(values)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name == "href"]
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data


PAGE = _Page(docs_page(DOCUMENT))


def test_the_page_shows_every_operation_and_every_link_leads_somewhere() -> None:
    assert {told["operationId"] for *_, told in operations()} <= set(PAGE.ids)
    assert len(PAGE.ids) == len(set(PAGE.ids))
    assert {link.removeprefix("#") for link in PAGE.links if link.startswith("#")} <= set(PAGE.ids)


def test_the_page_fetches_nothing() -> None:
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(PAGE.elements)
    assert [link for link in PAGE.links if not link.startswith("#")] == ["openapi.json"]
    assert "url(" not in PAGE.style
    assert "@import" not in PAGE.style


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    policy = DOCUMENTS.page_headers["Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(PAGE.style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "unsafe" not in policy


def test_text_in_the_document_stays_text_on_the_page() -> None:
    document = deepcopy(DOCUMENT)
    told = operation("activate", document)
    told["summary"] = told["description"] = "<script>alert(1)</script>"
    page = docs_page(document)
    assert "script" not in _Page(page).elements
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_every_code_is_on_the_page_in_both_languages() -> None:
    page = docs_page(DOCUMENT)
    assert all(f"<code>{code}</code>" in page for code in KINDS)
    assert "卡片信息不一致" in page
    assert "The card details do not match" in page


# --- Served ---


@pytest.mark.parametrize(("path", "media_type"), [("/openapi.json", "application/json"), ("/docs", "text/html")])
async def test_a_document_is_not_sent_again_to_who_has_it(api: Api, path: str, media_type: str) -> None:
    first = await api.get(path)
    assert (first.status, first.headers["Content-Type"].partition(";")[0]) == (200, media_type)
    again = await api.get(path, If_None_Match=first.headers["ETag"])
    assert (again.status, again.raw) == (304, b"")
    other = await api.get(path, If_None_Match='"another"')
    assert other.raw == first.raw


async def test_the_page_is_served_under_its_policy(api: Api) -> None:
    page = await api.get("/docs", Accept=ENVELOPE)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert _Page(page.raw.decode()).ids == PAGE.ids


async def test_the_document_can_be_had_as_an_envelope(api: Api) -> None:
    assert (await api.get("/openapi.json", Accept=ENVELOPE)).json["data"] == (await api.get("/openapi.json")).json


def test_a_page_for_operators_alone_is_not_described_to_clients() -> None:
    documents = Documents(ROUTES, server="https://yika.example", page=False)
    assert "/docs" not in documents.document["paths"]
    assert "/openapi.json" in documents.document["paths"]
    assert openapi_problems(documents.document) == []
