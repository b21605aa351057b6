"""The command line of invented rows: `python -m service generate`.

True here: the same seed, the same rows, and none of them is about anybody. Never here: a database.
"""

import csv
import io
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import orjson
import typer

from schemas.imports import FIELDS
from service.config import Config
from service.import_files import Format
from service.regions import SHIPPED, Regions
from service.sandbox.population import Fields, Mix, Population
from service.strict_toml import FaultyFileError
from service.terminal import configuration, stop

_BLOCK: Final = 2000


def generate_rows(  # noqa: PLR0913  options, each with a name
    *,
    cards: Annotated[int, typer.Option(min=1, help="How many cards, a row each.")],
    people: Annotated[int | None, typer.Option(min=1, help="How many people; nine to ten cards unless said.")] = None,
    seed: Annotated[str, typer.Option(help="The same seed, the same people.")] = "1",
    form: Annotated[Format, typer.Option("--format", help="Of the rows.")] = "ndjson",
    status: Annotated[Mix, typer.Option(help="Only cards that can be activated, or some of every kind.")] = "mixed",
    region: Annotated[list[str] | None, typer.Option(help="Only these regions; may be said several times.")] = None,
    output: Annotated[Path | None, typer.Option(help="A file; standard output unless said.")] = None,
) -> None:
    """Invent people and cards for an import: any number, nobody real."""
    config = configuration(environment="sandbox")
    try:
        _generate(config, cards, people, seed=seed, form=form, mix=status, regions=region, output=output)
    except (ValueError, FaultyFileError, OSError) as error:
        stop(error)


def _generate(  # noqa: PLR0913  what the command line asks for, named
    config: Config,
    cards: int,
    people: int | None,
    *,
    seed: str,
    form: Format,
    mix: Mix,
    regions: Sequence[str] | None,
    output: Path | None,
) -> None:
    """Invent people in some regions, all unless said. Raises ValueError, FaultyFileError and OSError."""
    served = Regions.load_directory(config.regions_dir or SHIPPED)
    if unknown := [code for code in regions or () if code not in served.by_code]:
        raise ValueError(f"no such region: {unknown[0]}")
    chosen = [region for region in served if not regions or region.code in regions]
    population = Population(chosen, cards=cards, people=people or (cards * 9 + 9) // 10, seed=seed, mix=mix)
    if output is None:
        _write_population(population, form, sys.stdout.buffer)
        return
    with output.open("wb") as file:
        _write_population(population, form, file)


def _write_population(population: Population, form: Format, out: BinaryIO) -> None:
    """Write every row. A reader that has had enough ends it quietly."""
    rows = population.rows()
    try:
        if form == "csv":
            out.write((",".join(FIELDS) + "\r\n").encode())
        while block := list(islice(rows, _BLOCK)):
            out.write(_as_csv(block) if form == "csv" else b"".join(orjson.dumps(row) + b"\n" for row in block))
        out.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes standard output at the end.
        sys.stdout = None


def _as_csv(rows: Sequence[Fields]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([str(row.get(name, "")) if row.get(name) is not True else "true" for name in FIELDS] for row in rows)
    return text.getvalue().encode()
