"""The OpenAPI document as one page for people: HTML and a style sheet, made once at start.

True here: the page is drawn from the document and the message catalogue and fetches nothing, neither a script nor a font nor
a picture, so it reads the same without a network and under a policy that allows nothing. Every text from outside this file is
escaped where it enters.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import compress, groupby
from pathlib import Path
from string import Template
from typing import Final

import orjson

from handlers.answers import JSON
from handlers.border import ENVELOPE
from handlers.openapi_parts import Json
from handlers.problems import MEDIA_TYPE, status_of
from service.errors import KINDS, Code
from service.locale import text

_HERE: Final = Path(__file__).parent / "docs"
STYLE: Final = (_HERE / "page.css").read_text(encoding="utf-8")
_PAGE: Final = Template((_HERE / "page.html").read_text(encoding="utf-8"))
_CODE: Final = re.compile(r"`([^`]+)`")
_UPPER: Final = re.compile(r"(?=[A-Z])")
_DEEPEST: Final = 6
_LONGEST: Final = 34
# Every operation takes them; the page says so once.
_EVERYWHERE: Final = frozenset({"Accept-Language", "X-Request-Id", "traceparent"})
_WHO: Final = {(): "Anybody", (False,): "Session", (True, False): "Anybody; some of it needs a session"}


def docs_page(document: Json) -> str:
    """The whole page. It must be served with a style policy that allows STYLE."""
    info = document["info"]
    server = document["servers"][0]["url"]
    return _PAGE.substitute(
        title=escape(info["title"]),
        version=escape(info["version"]),
        summary=escape(info["summary"]),
        license=escape(info["license"]["name"]),
        description="\n".join(_paragraph(part) for part in info["description"].split("\n\n")),
        server=escape(server if "://" in server else "http://127.0.0.1:8080"),
        style=STYLE,
        contents="\n".join(_contents(document)),
        operations="\n".join(_operations(document)),
        codes=_refusals(sorted(KINDS, key=lambda code: (status_of(code), code))),
    )


def _rich(written: str) -> str:
    """Plain text whose words in backticks become code."""
    return _CODE.sub(r"<code>\1</code>", escape(written))


def _paragraph(written: str, kind: str = "") -> str:
    return f'<p class="{kind}">{_rich(written)}</p>' if kind else f"<p>{_rich(written)}</p>"


def _tagged(document: Json) -> Iterator[tuple[Json, list[tuple[str, str, Json]]]]:
    """Each tag with its operations as (method, path, operation), in the document's order."""
    for tag in document["tags"]:
        yield (
            tag,
            [
                (method, path, operation)
                for path, item in document["paths"].items()
                for method, operation in item.items()
                if tag["name"] in operation["tags"]
            ],
        )


def _method(method: str) -> str:
    return f'<span class="method {method}">{method.upper()}</span>'


def _contents(document: Json) -> Iterator[str]:
    for tag, operations in _tagged(document):
        items = "".join(
            f'<li><a href="#{operation["operationId"]}">{_method(method)}<span>{escape(operation["summary"])}</span></a></li>'
            for method, _, operation in operations
        )
        yield f"<h2>{escape(tag['name'])}</h2><ul>{items}</ul>"


def _operations(document: Json) -> Iterator[str]:
    for tag, operations in _tagged(document):
        yield f'<h2 id="tag-{escape(tag["name"])}">{escape(tag["name"])}</h2>{_paragraph(tag["description"], "about")}'
        for method, path, operation in operations:
            yield _Card(document, method, path, operation).drawn()


class _Card:
    """One operation."""

    def __init__(self, document: Json, method: str, path: str, operation: Json) -> None:
        self._components = document["components"]
        self._method = method
        self._path = path
        self._operation = operation

    def drawn(self) -> str:
        operation = self._operation
        parts = "".join(self._parts())
        return (
            f'<article class="operation" id="{operation["operationId"]}"><header><h3>{_method(self._method)} '
            f"<code>{escape(self._path)}</code></h3></header><div>{parts}</div></article>"
        )

    def _parts(self) -> Iterator[str]:
        operation = self._operation
        yield _paragraph(operation["description"])
        yield self._tokens()
        parameters = [self._resolved(parameter) for parameter in operation["parameters"]]
        own = [self._parameter_row(parameter) for parameter in parameters if parameter["name"] not in _EVERYWHERE]
        if own:
            yield "<h4>Parameters</h4>" + _table(("Name", "In", "Type", "Meaning"), own)
        if body := operation.get("requestBody", {}).get("content", {}).get(JSON):
            yield "<h4>Body</h4>" + self._shape(body)
        refusals: list[Code] = []
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if JSON in content:
                yield f"<h4>Answer {status}</h4>" + self._shape(content[JSON])
            elif MEDIA_TYPE in content:
                refusals += content[MEDIA_TYPE]["schema"]["properties"]["code"]["enum"]
            elif ENVELOPE not in content:
                yield f"<h4>Answer {status}</h4>{_paragraph(response['description'])}"
        yield "<h4>Try it</h4>" + self._curl(parameters)
        yield from self._answers()
        yield f"<details><summary>{len(refusals)} refusals</summary>{_refusals(refusals)}</details>"

    def _tokens(self) -> str:
        operation = self._operation
        who = _WHO[tuple(requirement == {} for requirement in operation["security"])]
        tokens = [f'<li class="{"session" if operation["security"] else "open"}">{who}</li>']
        if any(parameter.get("$ref", "").endswith("/IdempotencyKey") for parameter in operation["parameters"]):
            tokens.append('<li class="key">Idempotency-Key</li>')
        if "304" in operation["responses"]:
            tokens.append("<li>ETag</li>")
        return f'<ul class="tokens">{"".join(tokens)}</ul>'

    def _resolved(self, part: Json) -> Json:
        """A part of the document, itself or by reference into the components."""
        if "$ref" not in part:
            return part
        _, _, kind, name = part["$ref"].split("/")
        return dict(self._components[kind][name])

    def _parameter_row(self, parameter: Json) -> Sequence[str]:
        schema = parameter["schema"]
        told = parameter.get("description") or _limits(schema)
        return _name(parameter["name"], required=parameter.get("required", False)), parameter["in"], _type(schema), _rich(told)

    def _shape(self, content: Json) -> str:
        """One table for each variant, with the values of its example."""
        schema = content["schema"]
        variants = schema.get("oneOf") or schema.get("anyOf") or [schema]
        values = [example["value"] for example in content.get("examples", {}).values()] or [{}] * len(variants)
        return "".join(self._variant(*pair) for pair in zip(variants, values, strict=True))

    def _variant(self, schema: Json, value: object) -> str:
        shape = self._resolved(schema)
        told = _paragraph(shape["description"], "about") if "description" in shape else ""
        rows = [*self._rows(schema, value, "", 0)]
        return told + (_table(("Name", "Type", "Meaning", "For example"), rows) if rows else "")

    def _rows(self, schema: Json, value: object, before: str, depth: int) -> Iterator[Sequence[str]]:
        shape = self._resolved(_plain(schema))
        if shape.get("type") == "array":
            yield from self._rows(shape["items"], value[0] if isinstance(value, list) and value else {}, before, depth)
            return
        if depth == _DEEPEST:
            return
        values = value if isinstance(value, dict) else {}
        for name, member in shape.get("properties", {}).items():
            required = name in shape.get("required", ()) and "additionalProperties" in shape
            plain = _plain(member)
            told = plain.get("description") or self._resolved(plain).get("description") or _limits(plain)
            inner = f'<code class="inner">{before}</code>' if before else ""
            yield f"{inner}{_name(name, required=required)}", self._kind(member), _rich(told), _value(values.get(name))
            after = "[]." if plain.get("type") == "array" else "."
            yield from self._rows(member, values.get(name), f"{before}{escape(name)}{after}", depth + 1)

    def _kind(self, schema: Json) -> str:
        plain = self._resolved(_plain(schema))
        return _type(plain) + (' <span class="type">or null</span>' if plain is not schema and _is_nullable(schema) else "")

    def _curl(self, parameters: Iterable[Json]) -> str:
        path = self._path
        lines = []
        for parameter in parameters:
            name, place = parameter["name"], parameter["in"]
            if place == "path":
                path = path.replace(f"{{{name}}}", f"${_UPPER.sub('_', name).upper()}")
            elif name == "Idempotency-Key":
                lines.append('-H "Idempotency-Key: $(date +%s%N)"')
        if {"session": []} in self._operation["security"]:
            lines.append('-H "Authorization: Bearer $TOKEN"')
        if "requestBody" in self._operation:
            examples = self._operation["requestBody"]["content"][JSON].get("examples", {})
            values = [example["value"] for example in examples.values()] or [{}]
            lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(orjson.dumps(values[0]).decode())}"]
        command = " \\\n  ".join((f'curl "$YIKA{path}"', *lines))
        return f"<pre><code>{escape(command)}</code></pre>"

    def _answers(self) -> Iterator[str]:
        for status, response in self._operation["responses"].items():
            for name, example in response.get("content", {}).get(JSON, {}).get("examples", {}).items():
                written = orjson.dumps(example["value"], option=orjson.OPT_INDENT_2).decode()
                title = f"Example answer {status}: {escape(name)}"
                yield f"<details><summary>{title}</summary><pre><code>{escape(written)}</code></pre></details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already; columns with nothing in them are left out."""
    rows = [*rows]
    filled = [any(row[column] for row in rows) for column in range(len(head))]
    head, rows = [*compress(head, filled)], [[*compress(row, filled)] for row in rows]
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _name(name: str, *, required: bool) -> str:
    return f"<code>{escape(name)}</code>" + (' <span class="must">required</span>' if required else "")


def _is_nullable(schema: Json) -> bool:
    return any(branch.get("type") == "null" for branch in schema.get("anyOf", ()))


def _plain(schema: Json) -> Json:
    """The schema without the null that it may be instead."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
    return branches[0] if len(branches) == 1 else schema


def _type(schema: Json) -> str:
    """A type in words."""
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " · ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(branch) for branch in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return f'<span class="type">{escape(schema.get("format") or schema.get("type", "object"))}</span>'


def _limits(schema: Json) -> str:
    """What a schema allows, in words."""
    words = {"minimum": "from {}", "maximum": "to {}", "maxLength": "at most {} characters", "maxItems": "at most {}"}
    told = [form.format(schema[name]) for name, form in words.items() if name in schema]
    if "pattern" in schema:
        told.append(f"`{schema['pattern']}`")
    if "default" in schema and schema["default"] is not None:
        told.append(f"`{schema['default']}` by default")
    return ", ".join(told)


def _value(value: object) -> str:
    """A value short enough for a cell."""
    if value is None or isinstance(value, dict | list):
        return ""
    written = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"<code>{escape(written if len(written) <= _LONGEST else f'{written[: _LONGEST - 1]}…')}</code>"


def _refusals(codes: Iterable[Code]) -> str:
    return _table(
        ("Status", "Code", "Title", "标题"),
        (
            (str(status), f"<code>{code}</code>", *_titles(code))
            for status, group in groupby(codes, key=status_of)
            for code in group
        ),
    )


def _titles(code: Code) -> tuple[str, str]:
    english, chinese = (escape(text(locale, f"problems.{code}.title")) for locale in ("en", "zh-CN"))
    return english, f'<span class="zh" lang="zh-CN">{chinese}</span>'
