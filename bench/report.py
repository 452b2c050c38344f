"""What a run found, as tables to read: in a terminal, and in docs/performance.md."""

import re
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from bench.run import CLIENTS, Busy, Notes
from bench.targets import TARGETS, Quantity, Target

DOCUMENT = Path("docs/performance.md")
Row = tuple[str, ...]
LAYERS = (Quantity.TWO_INSERTS, Quantity.SERVER_ALONE, Quantity.FLASK_ALONE, Quantity.LEANEST, Quantity.CREATED)
"""PostgreSQL alone, then the service from its server upwards."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A target and what was measured."""

    target: Target
    median: float
    """Figure of the medians of both quantities."""
    least: float
    most: float
    """Bounds of the figure over the rounds."""

    @property
    def verdict(self) -> str:
        """Say how it stands with the target."""
        if self.target.holds(self.median, self.target.reach):
            return "reached"
        return "met" if self.target.holds(self.median, self.target.must) else "MISSED"


def figures(notes: Notes) -> list[Figure]:
    """Return the figure of every target that was measured."""
    found = []
    for target in TARGETS:
        of = notes.values.get(target.of, [])
        compared_to = notes.values.get(target.compared_to, []) if target.compared_to else [1.0] * len(of)
        if of and compared_to:
            rounds = [target.value(one, other) for one, other in zip(of, compared_to, strict=False)]
            median = target.value(statistics.median(of), statistics.median(compared_to))
            found.append(Figure(target, median, min(rounds), max(rounds)))
    return found


def heading(notes: Notes) -> str:
    """Say what kind of run it was."""
    options = notes.options
    return (
        f"{notes.cores} cores, PostgreSQL {notes.postgres}, {options.rounds} × {options.seconds:g} s for each load, "
        f"{CLIENTS} connections, {options.rows:,} attempts"
    )


def text(notes: Notes) -> str:
    """Return all tables that have something to tell."""
    return "\n\n".join(filter(None, (content(notes) for content in TABLES.values())))


def targets(notes: Notes) -> str:
    """Return the table of ratios, each with its bounds."""
    head = ("figure", "must", "reach for", "measured", "spread", "")
    return table(head, [_target_row(figure) for figure in figures(notes)], left=1)


def quantities(notes: Notes) -> str:
    """Return the table of what the ratios are made of, which tells of the machine as much as of the service."""
    rows = [
        (quantity.value, shown(statistics.median(values)), _spread(min(values), max(values)))
        for quantity in Quantity
        if (values := notes.values.get(quantity))
    ]
    return table(("measured", "median", "spread"), rows, left=1)


def busy(notes: Notes) -> str:
    """Return the table of who used the cores: it tells what bounds a rate."""
    head = ("µs of a core for each request of", "load generator", "server", "PostgreSQL", "cores busy")
    rows = [_busy_row(quantity, spent, notes.cores) for quantity, spent in notes.busy.items()]
    return table(head, rows, left=1)


def layers(notes: Notes) -> str:
    """Return the table of what the service stands on: from the server on, each row has all of the one above it."""
    kinds = ("server: user", "server: kernel", "PostgreSQL")
    head = ("µs of a core for each request of", "/s", "of pgbench", "p99, its means", *kinds, "switches", "cores busy")
    measured = [quantity for quantity in LAYERS if {quantity, Quantity.TWO_INSERTS} <= notes.busy.keys()]
    return table(head, [_layer_row(quantity, notes) for quantity in measured], left=1)


def pages(notes: Notes) -> str:
    """Return the table of how long each page takes, with few attempts and with many."""
    sizes = sorted({rows for found in notes.pages_ms.values() for rows in found})
    head = ("answer, ms, at so many attempts", *(f"{rows:,}" for rows in sizes), "most / least")
    return table(head, [_page_row(page, found) for page, found in notes.pages_ms.items()], left=1)


TABLES: dict[str, Callable[[Notes], str]] = {
    "run": heading,
    "targets": targets,
    "quantities": quantities,
    "busy": busy,
    "layers": layers,
    "pages": pages,
}
"""What stands in the document, by the name of its place."""


def write(notes: Notes) -> None:
    """Put the tables into the document."""
    document = DOCUMENT.read_text()
    for name, content in TABLES.items():
        document = put(document, name, content(notes))
    DOCUMENT.write_text(document)


def put(document: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- bench: NAME -->` and `<!-- /bench -->`. Raises ValueError without them."""
    pattern = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- /bench -->)", re.DOTALL)
    changed, found = pattern.subn(lambda match: f"{match[1]}{content}\n{match[2]}", document)
    if not found:
        raise ValueError(f"{DOCUMENT} has no place for {name}")
    return changed


def table(head: Row, rows: Iterable[Row], *, left: int) -> str:
    """Return a table of Markdown that is one in a terminal, too, "" without rows; `left` columns stand on the left."""
    lines = [head, *rows]
    if lines == [head]:
        return ""
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    rule = tuple("-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    return "\n".join("| " + " | ".join(_cells(line, widths, left)) + " |" for line in (head, rule, *lines[1:]))


def shown(value: float) -> str:
    """Return three digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    return f"{value:.{digits}f}"


def _cells(line: Row, widths: list[int], left: int) -> Iterable[str]:
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield f"{cell:<{width}}" if column < left else f"{cell:>{width}}"


def _target_row(figure: Figure) -> Row:
    target = figure.target
    sign, unit = "≤" if target.is_limit else "≥", f" {target.unit}" if target.unit else ""
    return (
        target.name,
        f"{sign} {target.must:g}{unit}",
        f"{sign} {target.reach:g}{unit}",
        shown(figure.median) + unit,
        _spread(figure.least, figure.most),
        figure.verdict,
    )


def _busy_row(quantity: Quantity, spent: list[Busy], cores: int) -> Row:
    total = _total(spent)
    parts = (total.generator_s, total.server_s, total.postgres_s)
    shares = [f"{_each(part, total)} ({part / total.elapsed_s / cores:.0%})" for part in parts]
    return (quantity.value.removesuffix(", /s"), *shares, f"{total.cores:.1f} of {cores}")


def _layer_row(quantity: Quantity, notes: Notes) -> Row:
    total, rate = _total(notes.busy[quantity]), statistics.median(notes.values[quantity])
    p99, mean = notes.p99_ms.get(quantity), statistics.median(notes.values[Quantity.TWO_INSERTS_LATENCY])
    parts = (total.server_s - total.kernel_s, total.kernel_s, total.postgres_s)
    return (
        quantity.value.removesuffix(", /s"),
        shown(rate),
        shown(rate / statistics.median(notes.values[Quantity.TWO_INSERTS])),
        shown(statistics.median(p99) / mean) if p99 else "",
        *(_each(part, total) for part in parts),
        f"{total.switches / (total.requests or 1):.1f}",
        f"{total.cores:.1f} of {notes.cores}",
    )


def _page_row(page: str, found: Mapping[int, list[float]]) -> Row:
    medians = [statistics.median(found[rows]) for rows in sorted(found)]
    return (f"`{page}`", *map(shown, medians), shown(medians[-1] / medians[0]))


def _total(spent: list[Busy]) -> Busy:
    return Busy(*map(sum, zip(*map(astuple, spent), strict=True)))


def _each(seconds: float, total: Busy) -> str:
    return f"{seconds / (total.requests or 1) * 1e6:,.0f}"


def _spread(least: float, most: float) -> str:
    return "" if least == most else f"{shown(least)} to {shown(most)}"
