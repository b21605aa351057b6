"""The chart: requests a second and the slowest hundredth, one bar a server, as an SVG that reads in light and dark."""

from collections.abc import Mapping
from html import escape
from typing import Final

from bench.bars import Numbers, medians

_SVG: Final = "http://www.w3.org/2000/svg"
_CONNECTIONS: Final = 64
_WIDTH: Final = 760
_NAMES: Final = 250
_PANEL: Final = 220
_GAP: Final = 30
_ROW: Final = 26
_TOP: Final = 58
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.quiet { fill: #57606a; font-size: 12px }
.bar { fill: #8c959f } .own { fill: #0969da } .floor { fill: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .quiet { fill: #8b949e }
  .bar { fill: #6e7681 } .own { fill: #2f81f7 } .floor { fill: #30363d }
}
"""


def chart(results: Numbers, titles: Mapping[str, str]) -> str:
    """The SVG of a run."""
    found = {name: row for (name, connections), row in medians(results["balance"]).items() if connections == _CONNECTIONS}
    names = [name for name in titles if name in found]
    panels = (
        ("requests/s, more is better", {name: found[name].rate for name in names}, "{:,.0f}"),
        ("p99 in ms, less is better", {name: found[name].p99 / 1000 for name in names}, "{:,.1f}"),
    )
    height = _TOP + _ROW * len(names) + 34
    parts = [
        f'<svg xmlns="{_SVG}" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">',
        f"<title>Balance look-up at {_CONNECTIONS} connections</title>",
        f"<style>{_STYLE}</style>",
        f'<text x="0" y="18">Balance look-up, {_CONNECTIONS} connections, one core for the server</text>',
    ]
    for place, name in enumerate(names):
        parts.append(f'<text x="0" y="{_middle(place)}">{escape(titles[name])}</text>')
    for number, (heading, values, form) in enumerate(panels):
        left = _NAMES + number * (_PANEL + _GAP)
        parts.append(f'<text class="quiet" x="{left}" y="42">{heading}</text>')
        largest = max(values.values(), default=1)
        for place, name in enumerate(names):
            length = max(1.0, values[name] / largest * (_PANEL - 60))
            top = _TOP + place * _ROW
            parts.append(f'<rect class="{_kind(name)}" x="{left}" y="{top}" width="{length:.1f}" height="{_ROW - 8}" rx="2"/>')
            shown = form.format(values[name])
            parts.append(f'<text class="quiet" x="{left + length + 6:.1f}" y="{_middle(place)}">{shown}</text>')
    machine = results["machine"]
    told = f"{machine['cpu']}, {machine['cores_used']}; medians of {len(results['balance']['rounds'])} interleaved rounds"
    parts += [f'<text class="quiet" x="0" y="{height - 8}">{escape(told)}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _middle(place: int) -> int:
    return _TOP + place * _ROW + 13


def _kind(name: str) -> str:
    return {"yika": "own", "constant": "floor", "find": "floor"}.get(name, "bar")
