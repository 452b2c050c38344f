"""Draws the chart of docs/performance.md as SVG, for light and dark pages."""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

from bench.report import Measurement, describe_run, evaluate_targets, format_value
from bench.run import Results
from bench.targets import Quantity

PATH = Path("docs/images/performance.svg")
WIDTH, NAMES, VALUES, LINE = 880, 380, 110, 26
"""Pixels: total width, width of the names on the left and of the values on the right, height of a line."""
SCALE = WIDTH - NAMES - VALUES
"""Width in pixels between the names and the values."""
RATES = {
    Quantity.TWO_INSERTS: "PostgreSQL alone: two inserts in a transaction",
    Quantity.FUNCTION: "PostgreSQL alone: the statement of useradd",
    Quantity.CREATED: "useradd, the whole service",
    Quantity.FASTAPI: "FastAPI + asyncpg, no password hash",
    Quantity.FLASK_ORM: "Flask + ORM + scrypt, idiomatic",
}
MIN_FACTOR, MAX_FACTOR = 0.25, 8.0
"""Range of the scale of targets, as multiples of the required value; values beyond are clipped."""
STYLE = """
  text { font: 13px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; fill: #17202b; }
  .head { font-weight: 600; font-size: 15px; } .muted { fill: #566273; font-size: 12px; } .value { text-anchor: end; }
  .page { fill: #ffffff; } .axis { stroke: #828d9c; } .reach { stroke: #17202b; stroke-width: 2; }
  .reference { fill: #a9b4c2; } .ours, .reached { fill: #0e7253; } .met { fill: #48a085; } .missed { fill: #bf3329; }
  .spread { stroke: #828d9c; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5ebf2; } .muted { fill: #9dabbb; } .page { fill: #161d25; } .axis, .spread { stroke: #6b7a8b; }
    .reach { stroke: #e5ebf2; } .reference { fill: #4c5a69; } .ours, .reached { fill: #6fd3ae; } .met { fill: #348a71; }
    .missed { fill: #e8695d; }
  }
"""


def write(results: Results) -> None:
    """Write the chart to PATH."""
    PATH.write_text(draw(results))


def draw(results: Results) -> str:
    """Return the chart: rates as bars and below them every target on one scale."""
    rates = {
        name: statistics.median(results.values[quantity])
        for quantity, name in RATES.items()
        if quantity in results.values
    }
    found = evaluate_targets(results)
    height = 182 + LINE * (len(rates) + len(found))
    targets_at = 88 + LINE * len(rates)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        f'<title id="title">Speed of useradd: {escape(describe_run(results))}</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}" rx="10"/>',
        _draw_text(20, 32, "Users created per second", "head"),
        *_draw_bars(rates, 60),
        _draw_text(20, targets_at, "Multiple of the required value", "head"),
        *_draw_scale(targets_at + 24, len(found)),
        *(
            part
            for line, measurement in enumerate(found)
            for part in _draw_target(measurement, targets_at + 48 + LINE * line)
        ),
        _draw_text(20, height - 34, "Dot: ratio of medians. Line: its spread. Stroke: the value to reach.", "muted"),
        _draw_text(20, height - 14, describe_run(results), "muted"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _draw_bars(rates: dict[str, float], top: int) -> Iterator[str]:
    most = max(rates.values(), default=1)
    for line, (name, rate) in enumerate(rates.items()):
        y = top + LINE * line
        kind = "ours" if name == RATES[Quantity.CREATED] else "reference"
        yield _draw_text(20, y, name)
        width = max(1, SCALE * rate / most)
        yield f'<rect class="{kind}" x="{NAMES}" y="{y - 12}" width="{width:.1f}" height="15" rx="2"/>'
        yield _draw_text(WIDTH - 20, y, format_value(rate), "value")


def _draw_scale(top: int, lines: int) -> Iterator[str]:
    for factor, name in ((0.5, "half"), (1.0, "must"), (2.0, "2"), (4.0, "4")):
        x = _x(factor)
        width = 2 if factor == 1 else 0.5
        yield f'<text class="muted" x="{x:.1f}" y="{top}" text-anchor="middle">{name}</text>'
        yield f'<path class="axis" stroke-width="{width}" d="M{x:.1f} {top + 6}v{LINE * lines + 4}"/>'


def _draw_target(measurement: Measurement, y: int) -> Iterator[str]:
    """Draw a target: a line for the measured spread, a dot for the median.

    A stroke marks the desired value.
    """
    target = measurement.target
    bounds = sorted(_x(_factor(measurement, value)) for value in (measurement.least, measurement.most))
    median = _x(_factor(measurement, measurement.median))
    desired = _x(_factor(measurement, target.desired))
    unit = f" {target.unit}" if target.unit else ""
    yield _draw_text(20, y, target.name)
    yield f'<path class="spread" d="M{bounds[0]:.1f} {y - 5}H{bounds[1]:.1f}"/>'
    yield f'<circle class="{measurement.verdict.lower()}" cx="{median:.1f}" cy="{y - 5}" r="5"/>'
    yield f'<path class="reach" d="M{desired:.1f} {y - 12}v14"/>'
    yield _draw_text(WIDTH - 20, y, format_value(measurement.median) + unit, "value")


def _factor(measurement: Measurement, value: float) -> float:
    """Return how many times better than required a value is."""
    required = measurement.target.required
    if not measurement.target.is_limit:
        return value / required
    return required / value if value > 0 else math.inf  # a difference of memory can be negative


def _x(factor: float) -> float:
    """Return the x coordinate of a multiple of the required value, on a logarithmic scale."""
    bounded = min(max(factor, MIN_FACTOR), MAX_FACTOR)
    return NAMES + SCALE * math.log(bounded / MIN_FACTOR) / math.log(MAX_FACTOR / MIN_FACTOR)


def _draw_text(x: int, y: int, content: str, kind: str = "") -> str:
    return f'<text{f" class={chr(34)}{kind}{chr(34)}" if kind else ""} x="{x}" y="{y}">{escape(content)}</text>'
