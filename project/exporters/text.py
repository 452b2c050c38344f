"""The .txt file: totals to read, rows to paste into a spreadsheet, streamed."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo

from project.domain.attempts import CREATED, AttemptRow
from project.domain.reports import Report
from project.domain.text import BIDI_CONTROLS, INVISIBLE
from project.exporters import summary
from project.exporters.blocks import encoded
from project.exporters.words import ABSENT, Heading, Words

MARK = "\ufeff"
"""The byte order mark tells Notepad and Excel that this is UTF-8."""
LINE = "\r\n"
WIDTH = 78

_BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff" + "".join(sorted(BIDI_CONTROLS | INVISIBLE)) + "]")
# Blanks do not make a formula harmless: spreadsheets trim a pasted cell. The wide forms count in Japanese ones.
_FORMULA = re.compile(r"[\t\r\n\x00]|\s*[=+\-@＝＋－＠]")
_MASKED_PHONE = re.compile(r"\+[\d• ().-]*")


def stream(report: Report, rows: Iterable[AttemptRow], heading: Heading, words: Words) -> Iterator[bytes]:
    """Yield the file in blocks. The last line counts the rows: without it, the download broke off."""
    yield from encoded(front(report, heading, words), LINE)
    yield from encoded(_log(rows, report.zone, words), LINE)


def front(report: Report, heading: Heading, words: Words) -> Iterator[str]:
    """Yield all that stands above the rows, line by line."""
    _ = words.gettext
    yield f"{MARK}{summary.title(words).upper()} (useradd)"
    yield "=" * WIDTH
    yield from _pairs(summary.heading_lines(heading, report, words))
    yield from _section(_("Totals"), _totals(report, words))
    yield from _section(_("HTTP statuses"), _statuses(report, words))
    yield from _section(_("Why no user was created"), _reasons(report, words))
    yield from _section(_("By day"), _days(report, words))
    hint = _("tab-separated columns: paste them into a spreadsheet as they are")
    yield from _section(f"{_('Requests')}, {words.number(report.total)}", ["\t".join(summary.log_heads(words))], hint)


def row_line(row: AttemptRow, zone: ZoneInfo, outcome: str, reason: str) -> str:
    """Return one attempt as one line, whatever its values hold."""
    return "\t".join(
        (
            _local(row.received_at, zone),
            outcome,
            str(row.status or ABSENT),
            "" if row.code == CREATED else row.code,
            reason,
            _cell(row.username),
            _cell(row.name),
            _phone(row.phone_masked),
            _cell(row.email_masked),
            str(row.duration_ms),
            str(row.id),
        )
    )


def _log(rows: Iterable[AttemptRow], zone: ZoneInfo, words: Words) -> Iterator[str]:
    outcomes, reason_of, count = summary.log_outcomes(words), _reason_words(words), 0
    for row in rows:
        count += 1
        yield row_line(row, zone, outcomes[row.outcome], reason_of(row.code))
    yield ""
    yield words.ngettext("End: %(rows)s row", "End: %(rows)s rows", count, rows=words.number(count))


def _reason_words(words: Words) -> Callable[[str], str]:
    """Return words for a code: none for a created user, and no second look into the catalogue for the same code."""
    return cache(lambda code: "" if code == CREATED else _clean(words.reason(code)))


def _section(name: str, lines: Iterable[str], hint: str = "") -> Iterator[str]:
    yield ""
    yield f"{name.upper()} ({hint})" if hint else name.upper()
    yield "-" * WIDTH
    yield from lines


def _pairs(pairs: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _value in pairs) + 3
    return (f"{_clean(name) + ':':<{width}}{_clean(value)}" for name, value in pairs)


def _totals(report: Report, words: Words) -> Iterator[str]:
    for name, count in summary.totals(report, words):
        yield f"{name:<44}{words.number(count):>14}{words.share(count, report.total):>10}"
    for name, milliseconds in summary.durations(report, words):
        yield f"{name:<44}{words.number(milliseconds):>14}"


def _statuses(report: Report, words: Words) -> Iterator[str]:
    for row in report.by_status:
        yield _counted(row.status, words.status(row.status), 39, row.count, report.total, words)


def _reasons(report: Report, words: Words) -> Iterator[str]:
    if not report.reasons:
        yield ABSENT
    width = max(39, *(len(words.reason(row.code)) for row in report.reasons), 0)
    for row in report.reasons:
        line = _counted(row.status, _clean(words.reason(row.code)), width, row.count, report.total, words)
        yield f"{line}  {_clean(row.code)}"


def _counted(status: int, name: str, width: int, count: int, total: int, words: Words) -> str:
    return f"{status or ABSENT!s:<5}{name:<{width}}{words.number(count):>14}{words.share(count, total):>10}"


def _days(report: Report, words: Words) -> Iterator[str]:
    heads = summary.day_heads(report, words)
    widths = [max(11, len(head) + 2) for head in heads[1:]]
    yield f"{heads[0]:<12}" + _right(heads[1:], widths)
    for day in report.series:
        counts = [words.number(count) for count in summary.day_counts(report, day)]
        yield f"{words.day(day.since, report.zone):<12}" + _right(counts, widths)


def _right(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat(" ")[:19]


def _cell(value: str | None) -> str:
    """Return a value as one cell that no spreadsheet takes for a formula (CWE-1236)."""
    if not value:
        return ""
    shown = _clean(value)
    return f"'{shown}" if _FORMULA.match(value) or _FORMULA.match(shown) else shown


def _phone(value: str | None) -> str:
    """Return a masked number: its own plus needs no guard, what somebody typed instead of a number does."""
    return value if value and _MASKED_PHONE.fullmatch(value) else _cell(value)


def _clean(value: str) -> str:
    return value if value.isprintable() else _BREAKING.sub(" ", value)
