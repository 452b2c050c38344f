"""Exports a .txt file: totals for people, and rows to paste into a spreadsheet."""

import re
from collections.abc import Iterable, Iterator

from project.domain.attempts import CREATED, Outcome
from project.domain.lines import CONCAT_SEPARATOR, Column, LabelFunction, Layout, ReadLines, Value
from project.domain.reports import CountAttempts, Report
from project.exporters import formulas, summary
from project.exporters.translations import ABSENT, Heading, Translations

BYTE_ORDER_MARK = "\ufeff"
"""First character of the file, which tells Notepad and Excel that it is UTF-8."""
LINE_END = "\r\n"
LINE_WIDTH = 78

MAX_SHOWN = 40
"""Maximum length of a value that a client has sent. Longer values would break the alignment, so they are cut."""

MAX_PHONE_SHOWN = 24
"""Maximum length of a phone number. Valid numbers are shorter; longer values are cut."""

_LABEL_SEPARATOR = "\t"
"""Separator between labels in raw lines. The other separators are CONCAT_SEPARATOR and formulas.PHONE_SEPARATOR."""
_LINE_BREAKING = re.compile(f"[\x00-\x1f{formulas.INVISIBLE_CHARACTERS}]")
_UNSAFE = re.compile(rf"[{formulas.INVISIBLE_CHARACTERS}]|{formulas.UNSAFE}")


def stream(count: CountAttempts, lines: ReadLines, heading: Heading, translations: Translations) -> Iterator[bytes]:
    """Yield a text file in parts: the title before attempts are counted, then the rest.

    The last line contains the number of rows. If it is missing, the download is incomplete.
    """
    yield _encode(
        [
            f"{BYTE_ORDER_MARK}{_replace_breaks(summary.file_title(heading, translations)).upper()} (useradd)",
            "=" * LINE_WIDTH,
        ]
    )
    report = count()
    yield _encode(sections(report, heading, translations))
    rows = 0
    for block in lines(layout(report, translations)):
        rows += block.rows
        yield block.content
    end = translations.ngettext("End: %(rows)s row", "End: %(rows)s rows", rows, rows=translations.number(rows))
    yield _encode(["", end])


def _encode(lines: Iterable[str]) -> bytes:
    # Lone surrogates cannot be encoded in UTF-8; one of them must not abort the file.
    return "".join(f"{line}{LINE_END}" for line in lines).encode("utf-8", "replace")


def sections(report: Report, heading: Heading, translations: Translations) -> Iterator[str]:
    """Yield the lines between the title and the rows."""
    _ = translations.gettext
    yield from _aligned_lines(summary.heading_lines(heading, report, translations))
    yield from _section(_("Totals"), _totals(report, translations))
    yield from _section(_("HTTP statuses"), _statuses(report, translations))
    yield from _section(_("Why no user was created"), _reasons(report, translations))
    yield from _section(_("By day"), _days(report, translations))
    hint = _("tab-separated columns: paste them into a spreadsheet as they are")
    name = f"{_('Requests')}, {translations.number(report.total)}"
    headers = zip(_column_headers(translations), _widths(report, translations), strict=True)
    yield from _section(name, ["\t".join(header.ljust(width) for header, width in headers)], hint)


def _column_headers(translations: Translations) -> list[str]:
    """Return the column headers of the rows.

    The columns about errors come last, so that no padding is needed if they are empty.
    """
    moment, outcome, status, code, reason, *client, fixes, duration, request_id = summary.attempt_headers(translations)
    return [moment, outcome, status, *client, duration, request_id, code, reason, fixes]


def _labels(translations: Translations) -> tuple[LabelFunction, LabelFunction, LabelFunction, LabelFunction]:
    """Return functions that label the outcome, status, code and reason of an attempt."""
    outcomes = summary.outcome_labels(translations)
    return (
        lambda status, _code: outcomes[Outcome.of(status)],
        lambda status, _code: str(status or ABSENT),
        lambda _status, code: "" if code == CREATED else code,
        lambda _status, code: "" if code == CREATED else _replace_breaks(translations.reason(code)),
    )


def _widths(report: Report, translations: Translations) -> list[int]:
    """Return the widths of the columns in characters; 0 means any length.

    A column of labels is as wide as its longest label or its header, the duration as its header.
    """
    headers = _column_headers(translations)
    outcome, status, code, reason = (
        max(len(header), *(len(label(*kind)) for kind in report.kinds), 0)
        for header, label in zip([*headers[1:3], *headers[9:11]], _labels(translations), strict=True)
    )
    return [19, outcome, status, MAX_SHOWN, MAX_SHOWN, MAX_PHONE_SHOWN, MAX_SHOWN, len(headers[7]), 36, code, reason, 0]


def layout(report: Report, translations: Translations) -> Layout:
    """Return the layout of the rows of attempts."""
    outcome, status, code, reason = _labels(translations)
    widths = _widths(report, translations)
    values: list[tuple[Value | LabelFunction, str]] = [
        (Value.LOCAL_TIME, ""),
        (outcome, CONCAT_SEPARATOR),
        (status, _LABEL_SEPARATOR),
        (Value.USERNAME, CONCAT_SEPARATOR),
        (Value.NAME, CONCAT_SEPARATOR),
        (Value.PHONE, formulas.PHONE_SEPARATOR),
        (Value.EMAIL, CONCAT_SEPARATOR),
        (Value.DURATION, CONCAT_SEPARATOR),
        (Value.ID, CONCAT_SEPARATOR),
    ]
    columns = [Column(value, mark, width=width) for (value, mark), width in zip(values, widths, strict=False)]
    return Layout(
        columns=(
            *columns,
            Column(_pad_labels(code, widths[9]), CONCAT_SEPARATOR),
            Column(_pad_labels(reason, widths[10]), _LABEL_SEPARATOR),
            Column(Value.MESSAGES, CONCAT_SEPARATOR),
        ),
        separators={CONCAT_SEPARATOR: "\t", "\t": "\t", "\x02": ""},
        suffix=LINE_END,
        unsafe=_UNSAFE,
        lead_bytes=formulas.LEAD_BYTES,
        hints=formulas.HINTS,
        escape=_escape_cell,
        zone=report.zone,
        kinds=report.kinds,
        messages=translations.messages,
    )


def _pad_labels(label: LabelFunction, width: int) -> LabelFunction:
    """Return a function that pads labels to `width` characters, except empty ones."""

    def padded(status: int, code: str) -> str:
        text = label(status, code)
        return text and text.ljust(width)

    return padded


def _section(name: str, lines: Iterable[str], hint: str = "") -> Iterator[str]:
    yield ""
    yield f"{name.upper()} ({hint})" if hint else name.upper()
    yield "-" * LINE_WIDTH
    yield from lines


def _aligned_lines(pairs: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _value in pairs) + 3
    return (f"{_replace_breaks(name) + ':':<{width}}{_replace_breaks(value)}" for name, value in pairs)


def _totals(report: Report, translations: Translations) -> Iterator[str]:
    for name, count in summary.totals(report, translations):
        yield f"{name:<44}{translations.number(count):>14}{translations.share(count, report.total):>10}"
    for name, milliseconds in summary.percentiles(report, translations):
        yield f"{name:<44}{translations.number(milliseconds):>14}"


def _statuses(report: Report, translations: Translations) -> Iterator[str]:
    for row in report.by_status:
        yield _count_line(row.status, translations.status(row.status), 39, row.count, report.total, translations)


def _reasons(report: Report, translations: Translations) -> Iterator[str]:
    if not report.by_error_code:
        yield ABSENT
    width = max(39, *(len(translations.reason(row.code)) for row in report.by_error_code), 0)
    for row in report.by_error_code:
        name = _replace_breaks(translations.reason(row.code))
        line = _count_line(row.status, name, width, row.count, report.total, translations)
        yield f"{line}  {_replace_breaks(row.code)}"


def _count_line(status: int, name: str, width: int, count: int, total: int, translations: Translations) -> str:
    number, share = translations.number(count), translations.share(count, total)
    return f"{status or ABSENT!s:<5}{name:<{width}}{number:>14}{share:>10}"


def _days(report: Report, translations: Translations) -> Iterator[str]:
    day, weekday, *headers = summary.day_headers(report, translations)
    widths = [max(11, len(header) + 2) for header in headers]
    yield f"{day:<12}{weekday:<12}" + _align_right(headers, widths)
    for bucket in report.series:
        name = f"{translations.day(bucket.since, report.zone):<12}{translations.weekday(bucket.since, report.zone):<12}"
        yield name + _align_right(map(translations.number, summary.day_counts(report, bucket)), widths)
    if report.series:
        total = translations.gettext("Total")
        yield f"{total:<24}" + _align_right(map(translations.number, summary.all_days_counts(report)), widths)


def _align_right(cells: Iterable[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _escape_cell(value: Value, content: str) -> str:
    """Return the text of a cell on one line, with an apostrophe before a formula."""
    cell = formulas.escape_formula(content, is_phone=value is Value.PHONE)
    return _replace_breaks(cell)


def _replace_breaks(value: str) -> str:
    return value if value.isprintable() else _LINE_BREAKING.sub(" ", value)
