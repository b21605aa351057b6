"""The OpenAPI 3.1 document, made from the route table, the schemas and the message catalogue.

True here: what a row says is what the document says; the codes that follow from who may, from a body and from a key are
derived by the same conditions as `handlers.endpoints` judges by. Never here: a sentence about a single operation, which is
its handler's docstring, or a shape, which is its schema.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import Final

from pydantic.alias_generators import to_camel

from handlers.access import Access
from handlers.border import ENVELOPE
from handlers.endpoints import REPLAYED, Route, may_be_empty
from handlers.openapi_examples import examples_of, problem_examples
from handlers.openapi_parts import (
    HEADERS,
    HTML,
    INFO,
    PARAMETERS,
    SECURITY,
    SECURITY_SCHEMES,
    TAGS,
    Json,
    fixed_responses,
    header,
    json_content,
    problem_response,
)
from handlers.openapi_schemas import MEMBERS, enveloped, operation_id, shapes_of
from handlers.problems import STATUSES, status_of
from service.errors import KINDS, TRANSIENT, Code

_BLANK: Final = re.compile(r"{(\w+)}")
_PREFIXES: Final = {
    "activation": "act",
    "approval": "apr",
    "card": "card",
    "dependant": "dep",
    "registration": "reg",
    "session": "ses",
    "verification": "ver",
}

_EVERYWHERE: Final[tuple[Code, ...]] = ("internal", "unavailable")
_OF_CALLERS: Final[tuple[Code, ...]] = (
    "unauthenticated",
    "token_invalid",
    "token_expired",
    "token_revoked",
    "forbidden",
)
_OF_BODIES: Final[tuple[Code, ...]] = (
    "malformed_json",
    "malformed_request",
    "unsupported_media_type",
    "payload_too_large",
    "invalid_request",
    "request_timeout",
    "outcome_unknown",
)
_OF_KEYS: Final[tuple[Code, ...]] = (
    "idempotency_key_missing",
    "invalid_request",
    "idempotency_key_reused",
    "idempotency_in_flight",
)
_PHRASES: Final[Mapping[int, str]] = {STATUSES[kind]: re.sub(r"([A-Z])", r" \1", kind).lower() for kind in STATUSES}


def codes_of(route: Route) -> list[Code]:
    """Every code that this row can be refused with: its own, and those that follow from what it asks for."""
    codes = {*route.refuses, *_EVERYWHERE}
    if route.access is not Access.PUBLIC:
        codes |= {*_OF_CALLERS}
    if route.access is Access.SIGNED_IN:
        codes -= {"forbidden"}
    if route.access is Access.STAFF:
        codes.add("channel_not_allowed")
    if route.method == "POST":
        codes |= {*_OF_BODIES}
    if route.keyed:
        codes |= {*_OF_KEYS}
    if route.paced:
        codes.add("rate_limited")
    if route.query is not None:
        codes.add("invalid_request")
    return sorted(codes, key=lambda code: (status_of(code), code))


def openapi(routes: Iterable[Route], *, server: str) -> Json:
    """The whole document. `server`: where the API is reached, `/` for where the document came from.

    A row whose answer is None is a page of text.
    """
    rows = list(routes)
    shapes, schemas = shapes_of(rows)
    paths: dict[str, Json] = {}
    for row in rows:
        paths.setdefault(_wire_path(row.path), {})[row.method.lower()] = _Operation(row, shapes, schemas).described()
    used = {row.tag for row in rows}
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": server}],
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items() if tag in used],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": fixed_responses(),
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "examples": problem_examples(),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


class _Operation:
    """One row in the words of OpenAPI."""

    def __init__(self, row: Route, shapes: Mapping[tuple[str, str], Json], schemas: Json) -> None:
        self._row = row
        self._shapes = shapes
        self._schemas = schemas
        self._name = operation_id(row)

    def described(self) -> Json:
        row = self._row
        text = " ".join(cleandoc(row.handler.__doc__ or "").split())
        operation: Json = {
            "operationId": self._name,
            "tags": [row.tag],
            "summary": re.split(r"(?<=[.:]) ", text, maxsplit=1)[0].rstrip(".:"),
            "description": text,
            "security": _security(row.access),
            "parameters": [*self._parameters()],
        }
        if row.roles:
            # As people read it, and as programs do.
            operation["description"] += f" For operators: {', '.join(f'`{role}`' for role in row.roles)}."
            operation["x-roles"] = list(row.roles)
        if row.method == "POST":
            operation["requestBody"] = self._body()
        return operation | {"responses": self._answers() | self._refusals()}

    def _parameters(self) -> Iterator[Json]:
        for name in _BLANK.findall(self._row.path):
            yield {"name": to_camel(name), "in": "path", "required": True, "schema": _path_schema(name)}
        if self._row.query is not None:
            for name, schema in self._shapes[self._name, "query"]["properties"].items():
                yield {"name": name, "in": "query", "schema": _in_query(schema)}
        named = ["IdempotencyKey"] * self._row.keyed + ["IfNoneMatch"] * self._row.cached
        for name in (*named, "AcceptLanguage", "RequestId", "Traceparent"):
            yield {"$ref": f"#/components/parameters/{name}"}

    def _body(self) -> Json:
        schema = self._shapes[self._name, "body"]
        return {
            "required": not may_be_empty(self._row.body),
            "content": json_content(schema, examples_of(schema, self._schemas)),
        }

    def _headers(self, *names: str) -> Json:
        return {name: header(name) for name in (*names, "X-Request-Id", "traceparent")}

    def _answers(self) -> Json:
        row = self._row
        headers = self._headers(*["ETag"] * row.cached, *[REPLAYED] * row.keyed)
        if row.answer is None:
            content: Json = {row.media_type: {"schema": {"type": "string"}}}
            if row.method == "POST":
                # A refusal is put into an envelope where one is asked for; what is no JSON never is.
                content[ENVELOPE] = {"schema": {"$ref": "#/components/schemas/ProblemEnvelope"}}
            what = "The page." if row.media_type == HTML else "The picture."
            answers: Json = {"200": {"description": what, "headers": headers, "content": content}}
        else:
            schema = self._shapes[self._name, "answer"]
            content = json_content(schema, examples_of(schema, self._schemas))
            answers = {str(row.status): {"description": "Done.", "headers": headers, "content": content}}
            either = answers.setdefault(
                "200", {"description": "Any answer, as an envelope.", "headers": headers, "content": {}}
            )
            envelopes = [*self._envelopes(schema)]
            if row.accepted is not None:
                later = self._shapes[self._name, "accepted"]
                content = json_content(later, examples_of(later, self._schemas))
                answers["202"] = {"description": "Asked for, not done yet.", "headers": headers, "content": content}
                envelopes.append(enveloped(later, 202))
            either["content"] = either["content"] | {ENVELOPE: {"schema": {"oneOf": envelopes}}}
        if row.cached:
            answers["304"] = {"description": "You have it already.", "headers": headers}
        return answers

    def _envelopes(self, answer: Json) -> Iterator[Json]:
        """Every envelope that may come: around the answer, around a problem, around nothing new."""
        yield enveloped(answer, self._row.status)
        yield {"$ref": "#/components/schemas/ProblemEnvelope"}
        if self._row.cached:
            yield {"$ref": "#/components/schemas/NotModifiedEnvelope"}

    def _refusals(self) -> Json:
        by_status: dict[int, list[Code]] = {}
        for code in codes_of(self._row):
            by_status.setdefault(status_of(code), []).append(code)
        return {str(status): self._refusal(status, codes) for status, codes in by_status.items()}

    def _refusal(self, status: int, codes: Sequence[Code]) -> Json:
        names = ["WWW-Authenticate"] if status == STATUSES[KINDS["unauthenticated"]] else []
        if any("retryAfter" in MEMBERS.get(code, ()) for code in codes):
            names.append("Retry-After")
        if self._row.keyed and any(code in self._row.refuses and KINDS[code] not in TRANSIENT for code in codes):
            names.append(REPLAYED)
        text = f"{_PHRASES[status].capitalize()}: {', '.join(f'`{code}`' for code in codes)}."
        return problem_response(text, status, list(codes), self._headers(*names))


def _wire_path(path: str) -> str:
    return _BLANK.sub(lambda blank: f"{{{to_camel(blank[1])}}}", path)


def _path_schema(name: str) -> Json:
    noun = name.removesuffix("_id")
    if noun in _PREFIXES:
        return {"type": "string", "pattern": f"^{_PREFIXES[noun]}_[a-z2-7]{{24}}$"}
    if name == "region_code":
        return {"type": "string", "pattern": "^[0-9]{6}$", "examples": ["990100"]}
    return {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}


def _in_query(schema: Json) -> Json:
    """A query has no null: what may be null may be left out."""
    plain = [branch for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
    merged = {key: value for key, value in schema.items() if key not in {"anyOf", "default"} or value is not None}
    return {key: value for key, value in merged.items() if key != "anyOf"} | (plain[0] if plain else {})


def _security(access: Access) -> list[Json]:
    session: Json = {SECURITY: []}
    return {Access.PUBLIC: [], Access.EITHER: [{}, session]}.get(access, [session])
