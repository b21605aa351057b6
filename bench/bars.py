"""From raw numbers to medians, and from medians to bars.

True here: a bar is a ratio of two medians over the same interleaved rounds, so whoever reads the table can work it out by
hand; a bar whose part was not measured is said to be that and is never counted as reached. Never here: a clock or a socket.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Literal

Numbers = Mapping[str, Any]
Sense = Literal["at least", "at most"]

_BUSY: Final = 64
_ALONE: Final = 1
_PEERS: Final = ("fastapi", "fastify", "go")


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that must hold. `value` is None when its part was not measured. `of` says what is divided by what."""

    name: str
    of: str
    sense: Sense
    bound: float
    value: float | None
    unit: str = "×"

    @property
    def is_reached(self) -> bool | None:
        """Whether it holds; None when it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.sense == "at least" else self.value <= self.bound


def exit_status(bars: Iterable[Bar]) -> int:
    """0 when every bar that was measured is reached, 1 when one is not."""
    return 1 if any(bar.is_reached is False for bar in bars) else 0


def is_whole(bars: Iterable[Bar]) -> bool:
    """Whether every bar was measured."""
    return all(bar.value is not None for bar in bars)


@dataclass(frozen=True, slots=True)
class Medians:
    """A server under so many connections, in the middle of all rounds."""

    rate: float
    p50: float
    p99: float
    cpu_per_request: float


def medians(balance: Numbers) -> dict[tuple[str, int], Medians]:
    """By server and number of connections."""
    found: dict[tuple[str, int], list[Numbers]] = {}
    for turns in balance["rounds"]:
        for turn in turns:
            for load in turn["loads"]:
                found.setdefault((turn["server"], load["connections"]), []).append(load)
    return {
        place: Medians(
            rate=_middle(loads, "rate"),
            p50=_middle(loads, "p50"),
            p99=_middle(loads, "p99"),
            cpu_per_request=_middle(loads, "cpu_per_request"),
        )
        for place, loads in found.items()
    }


def _middle(rows: Sequence[Numbers], field: str) -> float:
    return float(median(row[field] for row in rows))


def bars_of(results: Numbers) -> list[Bar]:
    """Every bar there is, in the order of the table; those that were not measured have no value."""
    return [
        *_balance_bars(medians(results["balance"]) if "balance" in results else {}),
        _activation_bar(results.get("activation")),
        *_import_bars(results.get("import")),
        *_worker_bars(results.get("worker"), results.get("balance"), results.get("activation")),
    ]


def _balance_bars(found: Mapping[tuple[str, int], Medians]) -> list[Bar]:
    def ratio(field: str, server: str, other: str, connections: int) -> float | None:
        one, two = found.get((server, connections)), found.get((other, connections))
        return None if one is None or two is None else float(getattr(one, field) / getattr(two, field))

    peers = [found[name, _BUSY] for name in _PEERS if (name, _BUSY) in found]
    own = found.get(("yika", _BUSY))
    best = min((peer.p99 for peer in peers), default=None)
    p99 = own.p99 / best if own is not None and best is not None and len(peers) == len(_PEERS) else None
    busy, alone = f"{_BUSY} connections", f"{_ALONE} connection"
    return [
        Bar("balance", f"rate / FastAPI's, {busy}", "at least", 10, ratio("rate", "yika", "fastapi", _BUSY)),
        Bar("balance", f"rate / Go's, {busy}", "at least", 3, ratio("rate", "yika", "go", _BUSY)),
        Bar("balance", f"rate / fastify's, {busy}", "at least", 3, ratio("rate", "yika", "fastify", _BUSY)),
        Bar(
            "balance",
            f"CPU a request / the constant answer's, {busy}",
            "at most",
            2.5,
            ratio("cpu_per_request", "yika", "constant", _BUSY),
        ),
        Bar("balance", f"p99 / the best peer's, {busy}", "at most", 0.5, p99),
        Bar("balance", f"p50 / FastAPI's, {alone}", "at most", 0.8, ratio("p50", "yika", "fastapi", _ALONE)),
        Bar("balance", f"p50 / Go's, {alone}", "at most", 1.3, ratio("p50", "yika", "go", _ALONE)),
    ]


def _activation_bar(activation: Numbers | None) -> Bar:
    of = "rate / bare find_one_and_update's, 64 in flight"
    value = None
    if activation is not None:
        value = _middle(activation["rounds"], "yika_rate") / _middle(activation["rounds"], "bare_rate")
    return Bar("activation", of, "at least", 0.85, value)


def _import_bars(imported: Numbers | None) -> list[Bar]:
    rate = memory = None
    if imported is not None:
        rate = _middle(imported["rounds"], "import_rate") / _middle(imported["rounds"], "bare_rate")
        memory = max(row["resident_end_mib"] / row["resident_tenth_mib"] for row in imported["rounds"])
    return [
        Bar("import", "rate / bare insert_many's of the same documents", "at least", 0.5, rate),
        Bar("import", "memory at the end / after a tenth", "at most", 1.1, memory),
    ]


def _worker_bars(worker: Numbers | None, balance: Numbers | None, activation: Numbers | None) -> list[Bar]:
    start = None if worker is None else float(median(worker["start_seconds"]))
    turns = [turn for turns in balance["rounds"] for turn in turns] if balance else []
    residents = [turn["resident_mib"] for turn in turns if turn["server"] == "yika"]
    residents += [turn["yika_resident_mib"] for turn in activation["rounds"]] if activation and residents else []
    return [
        Bar("worker", "start to first answer, without the database", "at most", 1.5, start, "s"),
        Bar("worker", "resident after its turns, the largest", "at most", 120, max(residents, default=None), "MiB"),
    ]
