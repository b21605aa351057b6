"""Reading what was sent: once, from the bytes, into a Body.

True here: an answer about the input names fields and codes and never repeats a value; also a field's name is repeated only
when it is made of letters, because people put numbers in the oddest places.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import orjson
from aiohttp import web
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from service.applications import ApplicationStage
from service.errors import FieldError, Refusal

Shape = TypeVar("Shape")

LARGEST: Final = 64 * 1024
_JSON: Final = re.compile(r"application/json(?:\s*;\s*charset=\"?utf-8\"?)?\s*", re.IGNORECASE)
# What chooses between the variants of a body: ways to verify, and stages of an application.
_TAGS: Final = frozenset({"sms", "password", "face", *ApplicationStage})
_NAME: Final = re.compile(r"[A-Za-z]{1,40}")

# pydantic's many error types, as the few codes that clients may rely on.
_CODES: Final[Mapping[str, str]] = {
    "missing": "missing",
    "extra_forbidden": "unknown_field",
    "string_too_long": "too_long",
    "string_too_short": "too_short",
    "too_long": "too_long",
    "too_short": "too_short",
    "string_pattern_mismatch": "pattern",
    "literal_error": "not_allowed",
    "enum": "not_allowed",
    "union_tag_invalid": "not_allowed",
    "union_tag_not_found": "missing",
    "greater_than_equal": "not_allowed",
    "less_than_equal": "not_allowed",
}


async def read(request: web.BaseRequest, seconds: float) -> bytes:
    """The whole body.

    Refuses with `payload_too_large`, `unsupported_media_type` (compressed), `request_timeout`, or `malformed_request`.
    """
    if "Content-Encoding" in request.headers:
        raise Refusal("unsupported_media_type")
    if (request.content_length or 0) > LARGEST:
        raise Refusal("payload_too_large")
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise Refusal("request_timeout") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refusal("payload_too_large") from None
    except (ConnectionError, web.RequestPayloadError):
        # The client hung up or garbled its framing. Mostly nobody is there to read this, but it was no failure of ours.
        raise Refusal("malformed_request") from None


def parse(request: web.BaseRequest, raw: bytes, shape: TypeAdapter[Shape], *, optional: bool) -> Shape:
    """The body as its shape; no body is `{}` where nothing is required.

    Refuses with `unsupported_media_type`, `malformed_json` or `invalid_request`.
    """
    if not raw and optional:
        raw = b"{}"
    elif not _JSON.fullmatch(request.headers.get("Content-Type", "")):
        raise Refusal("unsupported_media_type")
    try:
        return shape.validate_json(raw)
    except ValidationError as error:
        raise _refusal(error) from None


def parse_query(request: web.BaseRequest, shape: TypeAdapter[Shape], known: frozenset[str]) -> Shape:
    """The query as its shape. What is not known is left alone: proxies and clients add parameters of their own.

    An empty parameter is one that was not given: clients send their first page's cursor so.

    Refuses with `invalid_request`.
    """
    values = {name: value for name, value in request.query.items() if name in known and value}
    try:
        return shape.validate_python(values)
    except ValidationError as error:
        raise _refusal(error) from None


def canonical(raw: bytes) -> bytes:
    """The same bytes for the same JSON, however it was spaced and ordered."""
    return orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS) if raw else b"{}"


def _refusal(error: ValidationError) -> Refusal:
    items = error.errors(include_input=False, include_url=False)
    if any(item["type"] == "json_invalid" for item in items):
        return Refusal("malformed_json")
    return Refusal("invalid_request", errors=[_field_error(item) for item in items[:50]])


def _field_error(item: ErrorDetails) -> FieldError:
    path = list(_without_tag(item["loc"]))
    if item["type"].startswith("union_tag"):
        path.append(str(item["ctx"]["discriminator"]).strip("'"))
    field = ".".join(str(p) if isinstance(p, int) or _NAME.fullmatch(p) else "?" for p in path)
    return FieldError(field, _code(item), _facts(item.get("ctx", {})))


def _without_tag(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The path without the tag of a variant, which is no field of the client's: it comes first, and a field after it."""
    return path[1:] if len(path) > 1 and path[0] in _TAGS else path


def _code(item: ErrorDetails) -> str:
    kind = item["type"]
    if kind.startswith("yika."):
        return kind.removeprefix("yika.")
    if kind.endswith("_type") or kind == "string_sub_type":
        return "wrong_type"
    return _CODES.get(kind, "invalid")


def _facts(context: Mapping[str, Any]) -> dict[str, object]:
    limit = context.get("max_length", context.get("min_length"))
    return {"limit": limit} if limit is not None else {}
