"""Whether a real answer is one that the OpenAPI document describes.

True here: the document is taken at its word and more strictly than by a client. A member that no schema names is a fault, a
code that its operation does not list is a fault, and so is a missing header. Never here: anything known from the code that
made the document.
"""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

import orjson
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # it has no types
from referencing import Registry
from referencing.jsonschema import DRAFT202012

Json = dict[str, Any]

ENVELOPE: Final = "application/vnd.yika.envelope+json"
PROBLEM: Final = "application/problem+json"
_JSON: Final = "application/json"
_DOCUMENT: Final = "urn:document"
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+08:00")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_BLANK: Final = re.compile(r"\\{\w+\\}")


def _format_checker() -> FormatChecker:
    """The formats of the contract: times at +08:00 with milliseconds, days, URIs."""
    checker = FormatChecker(())
    for name, shape in (("date-time", _INSTANT), ("date", _DAY), ("uri", re.compile(r"[a-z][a-z0-9+.-]*:\S+"))):
        checker.checks(name)(lambda value, shape=shape: not isinstance(value, str) or shape.fullmatch(value) is not None)
    return checker


class Conformance:
    """A checker for one document; every validator is made once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document: Json = _closed(document)
        resource = DRAFT202012.create_resource(self._document)
        self._registry: Registry[Any] = Registry().with_resource(_DOCUMENT, resource).crawl()
        self._formats = _format_checker()
        self._validators: dict[int, Any] = {}
        self._templates = [
            (re.compile(_BLANK.sub("[^{}/]+", re.escape(path))), path) for path in self._document["paths"] if "{" in path
        ]

    def check(  # noqa: PLR0913, PLR0917  an answer has this many parts
        self,
        method: str,
        path: str,
        status: int,
        content_type: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        """Raise AssertionError with the reason when the document does not describe this answer.

        `path` is as asked, with or without its query. A HEAD is judged as the GET without its body.
        """
        answer = _Answer(method, path.partition("?")[0], status, content_type, headers, body)
        if method == "OPTIONS" and status == 200:
            answer.require(body == b"{}", "a preflight answers {} and nothing else")
            return
        responses = self._responses(answer)
        if answer.media_type == ENVELOPE:
            self._check_envelope(answer, responses)
        else:
            self._check_plain(answer, responses)

    def _responses(self, answer: "_Answer") -> Json:
        """What may be answered here, by status; where there is no operation, that there is none."""
        item = self._document["paths"].get(answer.path)
        if item is None:
            item = next(
                (self._document["paths"][path] for shape, path in self._templates if shape.fullmatch(answer.path)), None
            )
        if item is None:
            return {"404": self._component("responses", "NotFound")}
        method = answer.method.lower()
        if method == "head" and "head" not in item and answer.status != 405:
            method = "get"
        if method in item:
            described: Json = item[method]["responses"]
            return described
        allowed = {name.strip().lower() for name in answer.headers.get("allow", "").split(",")} - {"head", "options"}
        answer.require(answer.status != 405 or allowed == set(item), f"Allow says {sorted(allowed)}, there are {sorted(item)}")
        return {"405": self._component("responses", "MethodNotAllowed")}

    def _component(self, kind: str, name: str) -> Json:
        # Itself, no copy: validators are remembered by which schema it is.
        component: Json = self._document["components"][kind][name]
        return component

    def _check_plain(self, answer: "_Answer", responses: Json) -> None:
        response = self._response(answer, responses, answer.status)
        content = response.get("content")
        if content is None:
            answer.require(not answer.body, "has a body where none is described")
            return
        told = content.get(answer.media_type)
        answer.require(told is not None, f"the media type {answer.media_type!r}, described are {sorted(content)}")
        if answer.method == "HEAD":
            answer.require(not answer.body, "a HEAD has no body")
            return
        if answer.media_type not in {_JSON, PROBLEM}:
            answer.require(bool(answer.body), "is empty")
            return
        content_as_json = answer.json()
        self._validate(answer, told["schema"], content_as_json, answer.media_type)
        if answer.media_type == PROBLEM and "idempotency-replayed" not in answer.headers:
            answer.require(
                content_as_json["requestId"] == answer.headers["x-request-id"], "requestId is not that of X-Request-Id"
            )

    def _check_envelope(self, answer: "_Answer", responses: Json) -> None:
        answer.require(answer.status == 200, "an envelope is always a 200")
        if answer.method == "HEAD":
            return
        envelope = answer.json()
        self._validate(answer, self._component("schemas", "Envelope"), envelope, "envelope")
        status = envelope["httpStatus"]
        response = self._response(answer, responses, status)
        content = response.get("content", {})
        if status >= 400:
            told = {"type": f"urn:yika:problem:{envelope['code']}", "title": "", "status": status}
            told |= {name: envelope[name] for name in ("code", "requestId")} | {"detail": envelope["message"]}
            self._validate(answer, content[PROBLEM]["schema"], told | (envelope["data"] or {}), "enveloped problem")
        elif status == 304:
            answer.require(envelope["data"] is None, "a 304 has no data")
        else:
            answer.require(_JSON in content, f"an envelope for {sorted(content)}")
            self._validate(answer, content[_JSON]["schema"], envelope["data"], "enveloped answer")
        if "200" in responses:
            variants = responses["200"].get("content", {}).get(ENVELOPE)
            answer.require(variants is not None, "no envelope is described")
            self._validate(answer, variants["schema"], envelope, "envelope")

    def _response(self, answer: "_Answer", responses: Json, status: int) -> Json:
        response: Json = responses.get(str(status), {})
        answer.require(bool(response), f"status {status} with {_code(answer)}, described are {', '.join(responses)}")
        for name, described in response.get("headers", {}).items():
            header = self._component("headers", described["$ref"].rsplit("/", 1)[-1])
            value: Any = answer.headers.get(name.lower())
            if value is None:
                answer.require(not header.get("required", False), f"the header {name} is missing")
                continue
            if header["schema"].get("type") == "integer" and value.isdigit():
                value = int(value)
            self._validate(answer, header["schema"], value, f"header {name}")
        return response

    def _validate(self, answer: "_Answer", schema: Json, value: object, what: str) -> None:
        validator = self._validators.get(id(schema))
        if validator is None:
            # Local references in the schema mean the document.
            based = {"$id": f"urn:part:{id(schema)}", **_based(schema)}
            validator = Draft202012Validator(based, registry=self._registry, format_checker=self._formats)
            self._validators[id(schema)] = validator
        errors = [*_deepest(validator.iter_errors(value))]
        answer.require(not errors, f"{what} is not as described: " + "; ".join(errors[:5]))


class _Answer:
    """One answer, and how to complain about it."""

    def __init__(  # noqa: PLR0913, PLR0917  as above
        self, method: str, path: str, status: int, content_type: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        self.method = method
        self.path = path
        self.status = status
        self.media_type = content_type.partition(";")[0].strip().lower()
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    def require(self, truth: bool, complaint: str) -> None:  # noqa: FBT001  it is what is required
        if not truth:
            raise AssertionError(f"{self.method} {self.path} answered {self.status}: {complaint}")

    def json(self) -> Any:
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise AssertionError(f"{self.method} {self.path} answered {self.status}: no JSON, {error}") from None


def _code(answer: _Answer) -> str:
    try:
        return f"code {orjson.loads(answer.body)['code']!r}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "no code"


def _closed(document: Mapping[str, Any]) -> Json:
    """The document with every named object closed: clients must bear new members, our tests must not."""
    whole = deepcopy(dict(document))
    for schema in whole["components"]["schemas"].values():
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return whole


def _based(part: Any) -> Any:
    """The schema with its local references turned to the document."""
    if isinstance(part, dict):
        return {
            name: f"{_DOCUMENT}{inner}"
            if name == "$ref" and isinstance(inner, str) and inner.startswith("#")
            else _based(inner)
            for name, inner in part.items()
        }
    return [_based(inner) for inner in part] if isinstance(part, list) else part


def _deepest(errors: Iterable[Any]) -> Iterable[str]:
    """Each error where it really is: inside the variants of a choice."""
    for error in errors:
        if error.context:
            yield from _deepest(error.context)
        else:
            where = "/".join(str(step) for step in error.absolute_path) or "(the whole)"
            yield f"{where}: {error.message[:300]}"
