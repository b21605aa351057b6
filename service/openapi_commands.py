"""The command line of the API's own document: `python -m service openapi`.

True here: it is what a sandbox publishes, and needs no configuration. Never here: a word of the document.
"""

import sys
from typing import Annotated

import orjson
import typer

from handlers.docs import Documents
from service.server import api_routes
from service.terminal import err, out


def openapi(
    *, check: Annotated[bool, typer.Option("--check", help="Check the document instead of printing it.")] = False
) -> None:
    """Print the OpenAPI document."""
    document = Documents(api_routes(sandbox=True), server="/").document
    if not check:
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
        return
    from handlers.openapi_check import openapi_problems  # noqa: PLC0415  it stands on tools that only developers have

    problems = openapi_problems(document)
    for problem in problems:
        err.print(problem, highlight=False)
    if problems:
        raise typer.Exit(1)
    out.print("the OpenAPI document is whole")
