"""Whether the OpenAPI document is whole: the specification's own rules, and ours that go further.

True here: nothing is judged by how it was made, only by what the document says, so that a mistake in the making is seen. The
two libraries that this takes come with the development extra; a running service never needs them.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from handlers.answers import JSON
from handlers.border import ENVELOPE
from handlers.openapi_parts import Json
from handlers.problems import MEDIA_TYPE
from service.errors import KINDS
from service.locale import catalogue

_WIRE_NAME: Final = re.compile(r"[a-z][A-Za-z0-9]*")
_DOCUMENT: Final = "urn:yika:openapi"


def openapi_problems(document: Json) -> list[str]:
    """Everything that is wrong with the document, one line each; empty when it is whole.

    Raises ModuleNotFoundError where the development extra is not installed.
    """
    return [
        *_unspecified(document),
        *_texts(),
        *_operations(document),
        *_schemas(document),
        *_examples(document),
    ]


def _unspecified(document: Json) -> Iterator[str]:
    from openapi_spec_validator import OpenAPIV31SpecValidator  # noqa: PLC0415  comes with the development extra

    for error in OpenAPIV31SpecValidator(document).iter_errors():
        yield f"{'/'.join(str(part) for part in error.absolute_path)}: {error.message.splitlines()[0]}"


def _texts() -> Iterator[str]:
    for code in KINDS:
        for part in ("title", "detail"):
            if f"problems.{code}.{part}" not in catalogue():
                yield f"{code}: has no {part} in the catalogue"


def _each(document: Json) -> Iterator[tuple[str, Json]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def _operations(document: Json) -> Iterator[str]:
    seen: dict[str, str] = {}
    tags = {tag["name"] for tag in document["tags"]}
    for where, operation in _each(document):
        name = operation["operationId"]
        if name in seen:
            yield f"{where}: is called {name}, and so is {seen[name]}"
        seen[name] = where
        if not operation.get("summary"):
            yield f"{where}: has no summary"
        if not tags.issuperset(operation["tags"]):
            yield f"{where}: has a tag that nobody describes"
        for parameter in operation["parameters"]:
            if parameter.get("in") in {"path", "query"} and not _WIRE_NAME.fullmatch(parameter["name"]):
                yield f"{where}: the parameter {parameter['name']} is not camelCase"
        yield from _responses(where, operation)


def _responses(where: str, operation: Json) -> Iterator[str]:
    statuses = [int(status) for status in operation["responses"]]
    if not any(status < 300 for status in statuses):  # noqa: PLR2004  a status reads best as its number
        yield f"{where}: has no good answer"
    if not {500, 503}.issubset(statuses):
        yield f"{where}: never fails"
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        for media_type, told in content.items():
            free = told["schema"].get("type") == "object" and "properties" not in told["schema"]
            if media_type in {JSON, MEDIA_TYPE} and not told.get("examples") and not free:
                yield f"{where}: its {status} has no example"
        if JSON in content and ENVELOPE not in operation["responses"]["200"]["content"]:
            yield f"{where}: cannot be had as an envelope"
    for media_type, told in operation.get("requestBody", {}).get("content", {}).items():
        if not told.get("examples"):
            yield f"{where}: its body ({media_type}) has no example"


def _schemas(document: Json) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        for member in schema.get("properties", {}):
            if not _WIRE_NAME.fullmatch(member):
                yield f"{name}.{member}: is not camelCase"
    for where, operation in _each(document):
        for name in _references(operation.get("requestBody", {}).get("content", {}).values(), schemas):
            if schemas[name].get("type") == "object" and schemas[name].get("additionalProperties") is not False:
                yield f"{where}: its body {name} lets unknown fields in"


def _references(contents: Iterable[Json], schemas: Json) -> set[str]:
    found: set[str] = set()
    waiting: list[Any] = [told["schema"] for told in contents]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
            name = part.get("$ref", "").rsplit("/", 1)[-1] if isinstance(part.get("$ref", ""), str) else ""
            if name and name not in found:
                found.add(name)
                waiting.append(schemas[name])
        elif isinstance(part, list):
            waiting.extend(part)
    return found


def _examples(document: Json) -> Iterator[str]:
    """Every example against the schema beside it."""
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # noqa: PLC0415  only developers have it
    from referencing import Registry  # noqa: PLC0415  only developers have it
    from referencing.jsonschema import DRAFT202012  # noqa: PLC0415  only developers have it

    registry: Registry[Any] = Registry().with_resource(_DOCUMENT, DRAFT202012.create_resource(document))
    shown = document["components"]["examples"]

    def faults(pointer: str, told: Json) -> Iterator[str]:
        validator = Draft202012Validator({"$ref": f"{_DOCUMENT}#{pointer}/schema"}, registry=registry)
        for name, example in told.get("examples", {}).items():
            value = shown[example["$ref"].rsplit("/", 1)[-1]]["value"] if "$ref" in example else example["value"]
            for error in validator.iter_errors(value):
                yield f"the example {name}: {error.message}"

    for path, item in document["paths"].items():
        for method, operation in item.items():
            begin = f"/paths/{_escaped(path)}/{method}"
            contents = {f"{begin}/requestBody": operation.get("requestBody", {}).get("content", {})}
            contents |= {
                f"{begin}/responses/{status}": response.get("content", {})
                for status, response in operation["responses"].items()
            }
            for pointer, content in contents.items():
                for media_type, told in content.items():
                    for fault in faults(f"{pointer}/content/{_escaped(media_type)}", told):
                        yield f"{method.upper()} {path}: {fault}"


def _escaped(name: str) -> str:
    """A name as a step of a JSON Pointer in a fragment (RFC 6901, 6)."""
    return name.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D").replace("+", "%2B")
