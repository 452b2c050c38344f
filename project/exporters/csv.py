"""The .csv file for programs: RFC 4180, the field names of the JSON API, values as they are.

Nothing guards against formulas here: a program must get `=1+1` when `=1+1` was sent. People get .txt or .xlsx.
"""

import csv
from collections.abc import Iterable, Iterator
from zoneinfo import ZoneInfo

from project.domain.attempts import AttemptRow
from project.domain.reports import Report
from project.exporters.blocks import encoded

FIELDS = (
    "id",
    "received_at",
    "outcome",
    "status",
    "answered",
    "code",
    "username",
    "name",
    "phone",
    "email",
    "duration_ms",
    "via",
    "errors",
)


class _Line:
    """A file for csv.writer that hands each line back as the result of writerow()."""

    def write(self, line: str) -> str:
        return line


def stream(report: Report, rows: Iterable[AttemptRow]) -> Iterator[bytes]:
    """Yield the head at once, then the rows in blocks."""
    yield from encoded([",".join(FIELDS)], "\r\n")
    writer = csv.writer(_Line(), lineterminator="\r\n")
    # writerow() returns what write() of its file returned (csv module, "Writer Objects"); the stubs say Any.
    yield from encoded((writer.writerow(_values(row, report.zone)) for row in rows), "")


def _values(row: AttemptRow, zone: ZoneInfo) -> tuple[object, ...]:
    return (
        row.id,
        row.received_at.astimezone(zone).isoformat(timespec="microseconds"),
        row.outcome.value,
        row.status,
        row.answered,
        row.code,
        row.username,
        row.name,
        row.phone_masked,
        row.email_masked,
        row.duration_ms,
        row.via,
        ";".join(f"{error.field}:{error.code}" for error in row.errors),
    )
