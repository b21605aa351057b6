"""What a run leaves behind: a table for the terminal, raw numbers, and a chart.

True here: every number of every round is kept, and the table and the chart are made from them and from nothing else. A run
that left something out is written beside, never in the place of a whole one. Never here: a host name, a path, a token.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from bench.bars import Bar, Numbers, is_whole, medians
from bench.chart import chart
from bench.machine import ROOT, WORK

RECORDED: Final = ROOT / "bench" / "results"
_LEAST_ROUNDS: Final = 5
_MOST_OTHERS: Final = 0.1


def show(out: Console, results: Numbers, bars: Sequence[Bar], titles: Mapping[str, str]) -> None:
    """The tables."""
    if "balance" in results:
        out.print(_balance_table(results["balance"], titles))
    out.print(_bars_table(bars))
    if not is_quiet(results):
        out.print(f"[bold yellow]Others used {others_share(results):.0%} of a core meanwhile: these numbers are not kept.[/]")


def others_share(results: Numbers) -> float:
    """How much of a core went to programs that are none of the bench's, in the middle of all runs of wrk."""
    loads = [load for turns in results.get("balance", {}).get("rounds", ()) for turn in turns for load in turn["loads"]]
    loads += [turn["yika"] for turn in results.get("activation", {}).get("rounds", ())]
    return float(median(load["others_share"] for load in loads)) if loads else 0.0


def is_quiet(results: Numbers) -> bool:
    """Whether the machine was the bench's own."""
    return others_share(results) <= _MOST_OTHERS


def _balance_table(balance: Numbers, titles: Mapping[str, str]) -> Table:
    table = Table(title="Balance look-up, medians", title_justify="left")
    table.add_column("server")
    for heading in ("connections", "requests/s", "p50 ms", "p99 ms", "CPU µs/request"):
        table.add_column(heading, justify="right")
    found = medians(balance)
    for name, title in titles.items():
        rows = sorted((connections, row) for (server, connections), row in found.items() if server == name)
        for connections, row in rows:
            first = connections == rows[0][0]
            table.add_row(
                title if first else "",
                str(connections),
                f"{row.rate:,.0f}",
                f"{row.p50 / 1000:,.2f}",
                f"{row.p99 / 1000:,.2f}",
                f"{row.cpu_per_request:,.0f}",
                end_section=connections == rows[-1][0],
            )
    return table


def _bars_table(bars: Sequence[Bar]) -> Table:
    table = Table(title="Bars", title_justify="left")
    for heading in ("of", "what"):
        table.add_column(heading)
    table.add_column("value", justify="right")
    table.add_column("bar", justify="right")
    table.add_column("")
    words = {True: "[green]reached[/]", False: "[bold red]NOT reached[/]", None: "[dim]not measured[/]"}
    for bar in bars:
        value = "" if bar.value is None else f"{bar.value:.2f} {bar.unit}"
        table.add_row(bar.name, bar.of, value, f"{bar.sense} {bar.bound:g} {bar.unit}", words[bar.is_reached])
    return table


def write(results: Mapping[str, Any], bars: Sequence[Bar], titles: Mapping[str, str]) -> Path:
    """Write raw numbers and chart; where. A whole run of five rounds on a quiet machine takes the place of the last such."""
    whole = is_whole(bars) and is_quiet(results) and len(results["balance"]["rounds"]) >= _LEAST_ROUNDS
    folder = RECORDED if whole else WORK / "results"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "of": b.name,
            "what": b.of,
            "value": b.value,
            "sense": b.sense,
            "bound": b.bound,
            "unit": b.unit,
            "reached": b.is_reached,
        }
        for b in bars
    ]
    kept = {**results, "bars": rows}
    (folder / "latest.json").write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n")
    if "balance" in results:
        (folder / "latest.svg").write_text(chart(results, titles), encoding="utf-8")
    return folder
