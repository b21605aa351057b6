"""The schemas of the OpenAPI document: those that pydantic makes of the rows' shapes, and the ones that no row names.

True here: an answer's schema is open, because answers may gain members, and a body's is closed, because bodies may not. Never
here: a field of a body or an answer by name; it stands in schemas/.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema

from handlers.endpoints import Route
from handlers.openapi_parts import Json
from service.applications import ApplicationStage
from service.cards import Status
from service.consents import Purpose
from service.errors import KINDS, Code
from service.locale import DEFAULT_LOCALE, catalogue
from service.regions import Channel
from service.transitions import Action

_REFERENCE: Final = "#/components/schemas/{model}"

# The members that always come with a code, beyond those of every problem.
MEMBERS: Final[Mapping[Code, tuple[str, ...]]] = {
    "application_exists": ("applicationId",),
    "application_not_allowed": ("reason",),
    "assurance_too_low": ("requiredAssurance",),
    "batch_closed": ("reason",),
    "card_not_activatable": ("reason",),
    "channel_not_allowed": ("channels",),
    "consent_required": ("purpose",),
    "dependant_not_linkable": ("reason",),
    "ecard_not_allowed": ("reason",),
    "ecard_password_incorrect": ("triesLeft",),
    "ecard_unusable": ("reason",),
    "idempotency_in_flight": ("retryAfter",),
    "invalid_request": ("errors",),
    "outcome_unknown": ("retryAfter",),
    "pin_incorrect": ("triesLeft",),
    "rate_limited": ("retryAfter",),
    "region_not_interconnected": ("regionCode", "channels"),
    "stage_not_allowed": ("stage", "next"),
    "too_many_attempts": ("retryAfter",),
    "transition_not_allowed": ("from", "allowed", "reason"),
    "unavailable": ("retryAfter",),
    "verification_failed": ("triesLeft",),
}


def operation_id(row: Route) -> str:
    """The operation's id: its handler's name."""
    return to_camel(row.handler.__name__)


class _Schemas(GenerateJsonSchema):
    """JSON Schema without titles that only repeat the name of a field."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002  its base says so
        return False


def shapes_of(rows: Iterable[Route]) -> tuple[Mapping[tuple[str, str], Json], Json]:
    """The schema of each body, query and answer by operation and part, and the named schemas that they are made of."""
    inputs: list[Any] = []
    for row in rows:
        name = operation_id(row)
        if row.method == "POST":
            inputs.append(((name, "body"), "validation", TypeAdapter(row.body)))
        if row.query is not None:
            inputs.append(((name, "query"), "validation", TypeAdapter(row.query)))
        if row.answer is not None:
            inputs.append(((name, "answer"), "serialization", TypeAdapter(row.answer)))
        if row.accepted is not None:
            inputs.append(((name, "accepted"), "serialization", TypeAdapter(row.accepted)))
    made, whole = TypeAdapter.json_schemas(inputs, by_alias=True, ref_template=_REFERENCE, schema_generator=_Schemas)
    shapes = {key: schema for (key, _), schema in made.items()}
    named = whole.get("$defs", {})
    asked = _reached([schema for (_, part), schema in shapes.items() if part == "body"], named)
    answered = _reached([schema for (_, part), schema in shapes.items() if part in {"answer", "accepted"}], named)
    # An answer may gain members; a body may not, and says so.
    schemas = {name: _untitled(named[name], "additionalProperties") for name in answered - asked}
    schemas |= {name: _untitled(named[name]) for name in asked}
    for key in shapes:
        if key[1] == "query":
            shapes[key] = named[_model(shapes[key])]
    return shapes, dict(sorted(schemas.items())) | _fixed()


def _untitled(schema: Json, *without: str) -> Json:
    return {key: value for key, value in schema.items() if key != "title" and not (key in without and value is False)}


def _model(reference: Json) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]


def _reached(shapes: Iterable[Any], named: Mapping[str, Json]) -> set[str]:
    """The names of all schemas that these shapes are made of."""
    found: set[str] = set()
    waiting = list(shapes)
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
            if "$ref" in part and (name := _model(part)) not in found:
                found.add(name)
                waiting.append(named[name])
        elif isinstance(part, list):
            waiting.extend(part)
    return found


def enveloped(answer: Json, status: int) -> Json:
    """The envelope around a good answer."""
    return _enveloped(["ok"], {"const": status}, answer, success=True)


def _enveloped(codes: list[str], status: Json, content: Json, *, success: bool) -> Json:
    told = {"success": {"const": success}, "code": {"enum": codes}, "httpStatus": status, "data": content}
    return {"allOf": [{"$ref": "#/components/schemas/Envelope"}], "properties": told}


def _under(key: str) -> list[str]:
    """The keys of the catalogue one step below, in order."""
    begin = f"{key}."
    return sorted({text.removeprefix(begin) for text in catalogue().texts[DEFAULT_LOCALE] if text.startswith(begin)})


def _required_by_code() -> list[Json]:
    codes_of: dict[tuple[str, ...], list[Code]] = {}
    for code, members in MEMBERS.items():
        codes_of.setdefault(members, []).append(code)
    return [
        {
            "if": {"required": ["code"], "properties": {"code": {"enum": codes}}},
            "then": {"required": list(members)},
        }
        for members, codes in codes_of.items()
    ]


def _fixed() -> Json:
    """The schemas that no row names: problems and the envelope."""
    return {
        "Problem": {
            "description": "Why not (RFC 9457), in the caller's language.",
            "type": "object",
            "properties": {
                "type": {"type": "string", "format": "uri", "pattern": "^urn:yika:problem:[a-z_]+$"},
                "title": {"type": "string", "description": "What happened."},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string", "description": "The way out."},
                "code": {"enum": sorted(KINDS), "description": "Stable: rely on this."},
                "requestId": {"type": "string"},
                "errors": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"$ref": "#/components/schemas/FieldProblem"},
                    "description": "What is wrong with the input, field by field.",
                },
                "reason": {"type": "string", "pattern": "^[a-z][A-Za-z]*$", "description": "Why exactly."},
                "requiredAssurance": {"enum": [2, 3], "description": "The level to verify at: 2 sms, 3 face."},
                "triesLeft": {"type": "integer", "minimum": 0, "description": "Tries before it locks."},
                "purpose": {"enum": list(Purpose), "description": "What the caller has to agree to first."},
                "verifyPage": {"type": "string", "description": "The page on which residents verify who they are."},
                "retryAfter": {"type": "integer", "minimum": 1, "description": "Whole seconds; as Retry-After."},
                "channels": {
                    "type": "array",
                    "items": {"enum": list(get_args(Channel))},
                    "description": "The channels that can do it.",
                },
                "regionCode": {"type": "string", "pattern": "^[0-9]{6}$", "description": "The region of the card."},
                "from": {"enum": list(Status), "description": "The card's status."},
                "applicationId": {"type": "string", "description": "The application that is under way, or in the way."},
                "stage": {"enum": list(ApplicationStage), "description": "How far the application is."},
                "next": {
                    "anyOf": [{"enum": list(ApplicationStage)}, {"type": "null"}],
                    "description": "The one stage that may come next; null at the end.",
                },
                "allowed": {
                    "type": "array",
                    "items": {"enum": list(Action)},
                    "description": "What the caller could do with the card now.",
                },
            },
            "required": ["type", "title", "status", "detail", "code", "requestId"],
            "allOf": _required_by_code(),
        },
        "FieldProblem": {
            "description": "One thing wrong with the input.",
            "type": "object",
            "properties": {
                "field": {"type": "string", "description": "Its name, dotted inside others; empty for the whole."},
                "code": {"enum": _under("fields"), "description": "Stable: rely on this."},
                "message": {"type": "string", "description": "To be shown beside the field."},
            },
            "required": ["field", "code", "message"],
        },
        "Envelope": {
            "description": "Any answer as a 200.",
            "type": "object",
            "properties": {
                "success": {"type": "boolean"},
                "code": {"enum": ["ok", "not_modified", *sorted(KINDS)]},
                "message": {"type": "string", "description": "To be shown: all is well, or the problem's detail."},
                "data": {"description": "The answer, or the problem's further members, or null."},
                "httpStatus": {"type": "integer", "minimum": 200, "maximum": 599},
                "requestId": {"type": "string"},
            },
            "required": ["success", "code", "message", "data", "httpStatus", "requestId"],
        },
        "ProblemEnvelope": _enveloped(sorted(KINDS), {"minimum": 400}, {"type": ["object", "null"]}, success=False),
        "NotModifiedEnvelope": _enveloped(["not_modified"], {"const": 304}, {"type": "null"}, success=True),
    }
