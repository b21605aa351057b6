"""The parts of the OpenAPI document that are the same for every operation.

True here: what the border, access and problems do for every request, said once in the words of OpenAPI. Never here: anything
about a single operation; that is read from its row and its schemas.
"""

from collections.abc import Mapping
from typing import Any, Final

from handlers.answers import JSON
from handlers.border import ENVELOPE
from handlers.endpoints import REPLAYED
from handlers.problems import MEDIA_TYPE
from service import VERSION
from service.errors import Code
from service.locale import DEFAULT_LOCALE

Json = dict[str, Any]

SECURITY: Final = "session"
HTML: Final = "text/html"

_EVERYWHERE: Final = f"""\
Everything is JSON in UTF-8 with camelCase names, and only GET and POST are used. Ids are opaque. Times are at +08:00, money is
whole fen. Answers may gain members: leave alone what you do not know. Bodies may not: an unknown field is refused.

Every refusal is a problem (RFC 9457) with a stable `code`; `title` and `detail` follow `Accept-Language` ({DEFAULT_LOCALE} by
default, en). What was sent is never repeated.

Every request may bring an `X-Request-Id` and a `traceparent` (W3C Trace Context), and every answer has both: quote the request
id when asking for help.

With `Accept: {ENVELOPE}` every answer, good or bad, is a 200 whose body is an Envelope: for
runtimes that hide the body of anything else. Its `httpStatus` is the status that the answer has otherwise.

An operation that takes an `Idempotency-Key` is done once however often it is sent; the first answer is given again for 24
hours. After 503 `outcome_unknown` send the same request with the same key.

A path that is not here answers 404 `not_found`; another method on a path that is, 405 `method_not_allowed` with `Allow`; bytes
that are no HTTP, 400 `malformed_request`."""

INFO: Final[Json] = {
    "title": "Yika",
    "version": VERSION,
    "summary": "Social security cards as a service: sessions, balances and activation for super-apps.",
    "description": _EVERYWHERE,
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}

TAGS: Final[Mapping[str, str]] = {
    "Pages": "The flow, driven by the server: what to draw, and where each tap leads.",
    "Identity": "Proving who one is. Answers are the same whether or not there is such a person.",
    "Sessions": "Access tokens (ES256, typ at+jwt) and refresh tokens that rotate; an end is an end everywhere at once.",
    "Me": "The resident's own data, masked unless revealed on purpose.",
    "Cards": "Cards, balances, history and activation.",
    "Dependants": "The minors for whom a guardian may act.",
    "Regions": "The regions that are served; public.",
    "Insurance": "Social insurance and the housing fund: who is registered for what, what was paid in, and what is there.",
    "E-cards": "A card on the phone: applying, its state, and codes to show, each good for a minute and redeemed once.",
    "Applications": "Applying for a card, first or in the place of another, and how far it is.",
    "Staff": "Operators: the people behind the counters, each of an institution and its regions, and what their role may do.",
    "Health": "For whoever runs the service.",
    "Documents": "This document, for machines and for people.",
    "Sandbox": "Invented people and a clock to turn. Only in the sandbox; elsewhere these are 404.",
}

HEADERS: Final[Json] = {
    "X-Request-Id": {
        "description": "Names this request; quote it when asking for help.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "traceparent": {
        "description": "W3C Trace Context of this request.",
        "required": True,
        "schema": {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
    },
    "Retry-After": {
        "description": "Whole seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "The scheme to sign in with (RFC 6750).",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer"},
    },
    REPLAYED: {
        "description": "There when this is the first answer again.",
        "schema": {"type": "string", "const": "true"},
    },
    "ETag": {
        "description": "Names this content, for If-None-Match.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]+"$'},
    },
    "Allow": {
        "description": "The methods that are there.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Z]+(, [A-Z]+)*$"},
    },
}

PARAMETERS: Final[Json] = {
    "AcceptLanguage": {
        "name": "Accept-Language",
        "in": "header",
        "description": "Language of texts in the answer: zh-CN (default) or en.",
        "schema": {"type": "string", "examples": ["zh-CN", "en"]},
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "A name for this request; one that is not well-formed is replaced.",
        "schema": {"type": "string", "examples": ["8f14e45fceea167a5a36dedd4bea2543"]},
    },
    "Traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context of the caller.",
        "schema": {"type": "string", "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": True,
        "description": "A new value for each operation, kept when it is retried. It belongs to its caller for 24 hours.",
        "schema": {
            "type": "string",
            "pattern": "^[!-~]{1,255}$",
            "examples": ["2f1d7c1e-6d0a-4c55-9c3e-0d6f5b7f2a11"],
        },
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag of what one already has; unchanged content answers 304 without a body.",
        "schema": {"type": "string"},
    },
}

SECURITY_SCHEMES: Final[Json] = {
    SECURITY: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a session: a JWT signed with ES256, keys at `/.well-known/jwks.json`.",
    }
}


def header(name: str) -> Json:
    """A reference to one of HEADERS."""
    return {"$ref": f"#/components/headers/{name}"}


def fixed_responses() -> Json:
    """What is answered where there is no operation."""
    everywhere = {name: header(name) for name in ("X-Request-Id", "traceparent")}
    return {
        "NotFound": problem_response("There is no such path.", 404, ["not_found"], everywhere),
        "MethodNotAllowed": problem_response(
            "Another method is meant.", 405, ["method_not_allowed"], everywhere | {"Allow": header("Allow")}
        ),
    }


def problem_response(description: str, status: int, codes: list[Code], headers: Json) -> Json:
    """A refusal: the one shape, narrowed to the codes that are possible here."""
    return {
        "description": description,
        "headers": headers,
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "allOf": [{"$ref": "#/components/schemas/Problem"}],
                    "properties": {"status": {"const": status}, "code": {"enum": list(codes)}},
                },
                "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in codes},
            },
        },
    }


def json_content(schema: Json, examples: Json) -> Json:
    """A JSON body with its examples."""
    return {JSON: {"schema": schema} | ({"examples": examples} if examples else {})}
