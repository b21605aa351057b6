"""Examples: put together from the schemas and one value for each word.

True here: an example is made of the schema it stands beside, so that neither can go ahead of the other. Never here: a value;
those are in handlers/openapi_words.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from handlers.openapi_words import APPLICATION_ID, WORDS
from handlers.problems import problem
from service.errors import KINDS, Code, FieldError, Refusal
from service.pages import VERIFY_PAGE

Json = dict[str, Any]

_PROBLEM_ID: Final = "8f14e45fceea167a5a36dedd4bea2543"


class NoExampleError(LookupError):
    """A word that has no value yet; the text is where it stands."""


def example_of(schema: Json, schemas: Mapping[str, Json], owner: str = "", word: str = "") -> Any:  # noqa: ANN401  it is JSON
    """An example of a schema, `owner` being the shape and `word` the member it belongs to.

    Raises NoExampleError where neither WORDS nor the schema knows a value.
    """
    own = f"{owner}.{word}"
    if own in WORDS:
        return WORDS[own]
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return example_of(schemas[name], schemas, name)
    if schema.get("type") == "object":
        return _of_object(schema, schemas, owner, word)
    if schema.get("type") == "array":
        return [example_of(schema["items"], schemas, owner)]
    branches = [branch for name in ("anyOf", "oneOf") for branch in schema.get(name, ()) if branch.get("type") != "null"]
    return example_of(branches[0], schemas, owner, word) if branches else _of_word(schema, owner, word)


def _of_object(schema: Json, schemas: Mapping[str, Json], owner: str, word: str) -> Json:
    """The members that must be there, and those that have a value of this shape's own."""
    members = schema.get("properties", {})
    if not members and schema.get("additionalProperties") not in {None, False}:
        raise NoExampleError(f"{owner}.{word}")
    wanted = {*schema.get("required", ()), *(name for name in members if f"{owner}.{name}" in WORDS)}
    return {name: example_of(member, schemas, owner, name) for name, member in members.items() if name in wanted}


def _of_word(schema: Json, owner: str, word: str) -> Any:  # noqa: ANN401  it is JSON
    for known in ([schema["const"]] if "const" in schema else [], schema.get("enum", [])):
        if known:
            return known[0]
    if word in WORDS:
        return WORDS[word]
    if not schema.get("examples"):
        raise NoExampleError(f"{owner}.{word}")
    return schema["examples"][0]


def examples_of(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Named examples, one for each variant; none at all where a word is missing, which `openapi_problems` then reports."""
    try:
        return dict(_variants(schema, schemas))
    except NoExampleError:
        return {}


def _variants(schema: Json, schemas: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for variant in schema.get("oneOf") or schema.get("anyOf") or [schema]:
        name = variant.get("$ref", "/example").rsplit("/", 1)[-1]
        described = schemas.get(name, {}).get("description", "As it is sent.")
        yield name, {"summary": described.partition("\n")[0], "value": example_of(variant, schemas)}


_FACTS: Final[Mapping[Code, Json]] = {
    "application_exists": {"applicationId": APPLICATION_ID},
    "application_not_allowed": {"reason": "hasCard"},
    "assurance_too_low": {"requiredAssurance": 2},
    "batch_closed": {"reason": "released"},
    "card_not_activatable": {"reason": "formallyLost"},
    "channel_not_allowed": {"channels": ["bank", "bureau"]},
    "consent_required": {"purpose": "dependantEcard"},
    "dependant_not_linkable": {"reason": "grownUp"},
    "ecard_not_allowed": {"reason": "sealed"},
    "ecard_password_incorrect": {"triesLeft": 4},
    "ecard_unusable": {"reason": "temporarilyLost"},
    "erasure_not_allowed": {"reason": "cardInUse"},
    "pin_incorrect": {"triesLeft": 4},
    "region_not_interconnected": {"regionCode": "990500", "channels": ["bank", "bureau"]},
    "stage_not_allowed": {"stage": "accepted", "next": "bankPreOpened"},
    "token_expired": {"verifyPage": VERIFY_PAGE},
    "token_invalid": {"verifyPage": VERIFY_PAGE},
    "token_revoked": {"verifyPage": VERIFY_PAGE},
    "transition_not_allowed": {"from": "formallyLost", "allowed": ["cancelLoss", "replace"], "reason": "formallyLost"},
    "unauthenticated": {"verifyPage": VERIFY_PAGE},
    "verification_failed": {"triesLeft": 4},
}
_RETRY_AFTER: Final[Mapping[Code, int]] = {
    "idempotency_in_flight": 12,
    "outcome_unknown": 2,
    "rate_limited": 38,
    "too_many_attempts": 21600,
    "unavailable": 2,
}


def problem_examples() -> Json:
    """Every problem, made by the code that makes the real ones."""
    return {code: {"summary": told["title"], "value": told} for code in sorted(KINDS) for told in [_problem(code)]}


def _problem(code: Code) -> Json:
    errors = [FieldError("idNumber", "resident_id_check_character", {})] if code == "invalid_request" else []
    refusal = Refusal(code, _FACTS.get(code), errors=errors, retry_after=_RETRY_AFTER.get(code))
    return dict(orjson.loads(problem(refusal, "en", _PROBLEM_ID).body))
