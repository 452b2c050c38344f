"""Tables of the results of a run, for the terminal and docs/performance.md."""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from bench.run import CLIENTS, CpuUsage, Results
from bench.targets import TARGETS, Quantity, Target

DOCUMENT = Path("docs/performance.md")
Row = tuple[str, ...]
LAYERS = (Quantity.TWO_INSERTS, Quantity.SERVER_ALONE, Quantity.FLASK_ALONE, Quantity.LEANEST, Quantity.CREATED)
"""Rows of the table of layers: PostgreSQL alone, then the service from its server upwards."""
IN_OTHER_TABLES = {
    *(target.quantity for target in TARGETS if target.compared_to is None),
    *(Quantity.SERVER_ALONE, Quantity.FLASK_ALONE, Quantity.LEANEST, Quantity.PAGE_FEW, Quantity.PAGE_MOST),
}
"""Quantities that the table of quantities omits."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A target and its measured value."""

    target: Target
    median: float
    """Value computed from the medians of the quantities."""
    least: float
    most: float
    """Bounds of the values in the rounds."""

    @property
    def verdict(self) -> str:
        """`reached` (the desired value), `met` (the required one) or `MISSED`."""
        if self.target.is_satisfied(self.median, self.target.desired):
            return "reached"
        return "met" if self.target.is_satisfied(self.median, self.target.required) else "MISSED"


def evaluate_targets(results: Results) -> list[Measurement]:
    """Return a measurement for every target whose quantities were measured."""
    found = []
    for target in TARGETS:
        measured = results.values.get(target.quantity, [])
        compared_to = results.values.get(target.compared_to, []) if target.compared_to else [1.0] * len(measured)
        if measured and compared_to:
            rounds = [target.value(value, reference) for value, reference in zip(measured, compared_to, strict=False)]
            median = target.value(statistics.median(measured), statistics.median(compared_to))
            found.append(Measurement(target, median, min(rounds), max(rounds)))
    return found


def describe_run(results: Results) -> str:
    """Describe the conditions of the run: machine, versions, rounds and loads."""
    options = results.options
    return (
        f"{results.cores} cores, PostgreSQL {results.postgres}, {options.rounds} × {options.seconds:g} s for each load"
        f", {CLIENTS} connections, {options.rows:,} attempts"
    )


def format_tables(results: Results) -> str:
    """Format all tables that have rows as Markdown."""
    return "\n\n".join(filter(None, (content(results) for content in (*TABLES.values(), cpu_table))))


def targets_table(results: Results) -> str:
    """Return the table of targets with measured values and bounds."""
    head = ("target", "must", "reach for", "measured", "spread", "")
    return markdown_table(head, [_target_row(measurement) for measurement in evaluate_targets(results)], left=1)


def quantities_table(results: Results) -> str:
    """Return the table of the quantities that no other table shows; they depend on the machine."""
    rows = [
        (quantity.value, format_value(statistics.median(values)), _spread(min(values), max(values)))
        for quantity in Quantity
        if quantity not in IN_OTHER_TABLES and (values := results.values.get(quantity))
    ]
    return markdown_table(("also measured", "median", "spread"), rows, left=1)


def cpu_table(results: Results) -> str:
    """Return the table of CPU time by process, which shows what limits a rate."""
    head = ("CPU time per request, µs", "load generator", "server", "PostgreSQL", "cores busy")
    rows = [_cpu_row(quantity, usages, results.cores) for quantity, usages in results.cpu_usage.items()]
    return markdown_table(head, rows, left=1)


def layers_table(results: Results) -> str:
    """Return the table of the layers of the service.

    From the row of the server on, each row includes the work of the row above.
    """
    rates = ("requests/s", "rate / pgbench", "p99 / mean of pgbench")
    cpu_times = ("server: user, µs", "server: kernel, µs", "PostgreSQL, µs")
    head = ("layer", *rates, *cpu_times, "switches", "cores busy")
    measured = [quantity for quantity in LAYERS if {quantity, Quantity.TWO_INSERTS} <= results.cpu_usage.keys()]
    return markdown_table(head, [_layer_row(quantity, results) for quantity in measured], left=1)


def pages_table(results: Results) -> str:
    """Return the table of response times of pages by number of attempts."""
    sizes = sorted({rows for found in results.pages_ms.values() for rows in found})
    head = ("response time, ms, by number of attempts", *(f"{rows:,}" for rows in sizes), "most / least")
    return markdown_table(head, [_page_row(page, found) for page, found in results.pages_ms.items()], left=1)


TABLES: dict[str, Callable[[Results], str]] = {
    "run": describe_run,
    "targets": targets_table,
    "quantities": quantities_table,
    "layers": layers_table,
    "pages": pages_table,
}
"""Name of a marker in DOCUMENT -> function that returns the text there. The terminal shows cpu_table(), too."""


def write(results: Results) -> None:
    """Write the tables to DOCUMENT."""
    document = DOCUMENT.read_text()
    for name, content in TABLES.items():
        document = replace_section(document, name, content(results))
    DOCUMENT.write_text(document)


def replace_section(document: str, name: str, content: str) -> str:
    """Replace the text between `<!-- bench: NAME -->` and `<!-- /bench -->`.

    Raises ValueError if the document lacks these markers.
    """
    pattern = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    changed, found = pattern.subn(lambda match: f"{match[1]}{content}\n{match[2]}", document)
    if not found:
        raise ValueError(f"{DOCUMENT} has no marker for {name}")
    return changed


def markdown_table(head: Row, rows: Iterable[Row], *, left: int) -> str:
    """Return an aligned Markdown table, "" without rows.

    The first `left` columns are left-aligned.
    """
    lines = [head, *rows]
    if lines == [head]:
        return ""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    rule = tuple("-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    return "\n".join("| " + " | ".join(_cells(line, widths, left)) + " |" for line in (head, rule, *lines[1:]))


def format_value(value: float) -> str:
    """Format a value with three significant digits."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}"


def _cells(line: Row, widths: list[int], left: int) -> Iterable[str]:
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield f"{cell:<{width}}" if column < left else f"{cell:>{width}}"


def _target_row(measurement: Measurement) -> Row:
    target = measurement.target
    sign, unit = "≤" if target.is_limit else "≥", f" {target.unit}" if target.unit else ""
    return (
        target.name,
        f"{sign} {target.required:g}{unit}",
        f"{sign} {target.desired:g}{unit}",
        format_value(measurement.median) + unit,
        _spread(measurement.least, measurement.most),
        measurement.verdict,
    )


def _cpu_row(quantity: Quantity, usages: list[CpuUsage], cores: int) -> Row:
    total = _total(usages)
    parts = (total.generator_s, total.server_s, total.postgres_s)
    shares = [f"{_us_per_request(part, total)} ({part / total.elapsed_s / cores:.0%})" for part in parts]
    return (quantity.value.removesuffix(", /s"), *shares, f"{total.cores:.1f} of {cores}")


def _layer_row(quantity: Quantity, results: Results) -> Row:
    total, rate = _total(results.cpu_usage[quantity]), statistics.median(results.values[quantity])
    p99, mean = results.p99_ms.get(quantity), statistics.median(results.values[Quantity.TWO_INSERTS_LATENCY])
    parts = (total.server_s - total.kernel_s, total.kernel_s, total.postgres_s)
    return (
        quantity.value.removesuffix(", /s"),
        format_value(rate),
        format_value(rate / statistics.median(results.values[Quantity.TWO_INSERTS])),
        format_value(statistics.median(p99) / mean) if p99 else "",
        *(_us_per_request(part, total) for part in parts),
        f"{total.switches / (total.requests or 1):.1f}",
        f"{total.cores:.1f} of {results.cores}",
    )


def _page_row(page: str, found: Mapping[int, list[float]]) -> Row:
    medians = [statistics.median(found[rows]) for rows in sorted(found)]
    return (f"`{page}`", *map(format_value, medians), format_value(medians[-1] / medians[0]))


def _total(usages: list[CpuUsage]) -> CpuUsage:
    return CpuUsage(*map(sum, zip(*map(astuple, usages), strict=True)))


def _us_per_request(seconds: float, total: CpuUsage) -> str:
    return f"{seconds / (total.requests or 1) * 1e6:,.0f}"


def _spread(least: float, most: float) -> str:
    return "" if least == most else f"{format_value(least)} to {format_value(most)}"
