"""What every shape has in common.

True here: camelCase on the wire, snake_case inside; a Body forbids unknown fields and takes no loose types; no field of a
View has a default, so that none can be forgotten. Times leave at +08:00, money in whole fen.
"""

import re
from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from service.clock import show


class Body(BaseModel):
    """What comes in."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
    )


class View(BaseModel):
    """What goes out."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        validate_by_name=True,
        validate_by_alias=False,
        serialize_by_alias=True,
    )


class Empty(View):
    """`{}`: nothing to say, and said so, because client runtimes take an empty body for a fault."""


class EmptyBody(Body):
    """`{}` or no body at all."""


Instant = Annotated[
    datetime,
    PlainSerializer(show, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-22T16:00:00.000+08:00"]}),
]
Day = Annotated[
    date,
    PlainSerializer(date.isoformat, return_type=str),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2036-11-22"]}),
]
Limit = Annotated[int, Field(ge=1, le=100)]


# Of whom it is when it is not one's own: a dependant. What is no such id is not found.
OnBehalfOf = Annotated[str | None, Field(max_length=64, description="The dependantId of whom I act for.")]


_DIGITS = re.compile(r"[0-9]{1,9}")


def _digits(value: object) -> object:
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


class PageQuery(Body):
    """Which page of a list."""

    cursor: Annotated[str | None, Field(max_length=200)] = None
    limit: Annotated[Limit, BeforeValidator(_digits)] = 20
