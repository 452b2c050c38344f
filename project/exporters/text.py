"""Exports a .txt file: totals for people, and rows to paste into a spreadsheet."""

import re
from collections.abc import Iterable, Iterator

from project.domain.attempts import CREATED, Outcome
from project.domain.lines import Column, Layout, Lines, Value
from project.domain.reports import CountAttempts, Report
from project.domain.text import BIDI_CONTROLS, INVISIBLE
from project.exporters import summary
from project.exporters.translations import ABSENT, Heading, Translations

BYTE_ORDER_MARK = "\ufeff"
"""Notepad and Excel recognize UTF-8 by it."""
LINE = "\r\n"
WIDTH = 78

_TAB, _PHONE = "\t", "\x02"
"""Separators in raw lines. Phone numbers have one of their own, because only they may begin with a plus."""
_INVISIBLE = "\x7f-\x9f\ud800-\udfff" + "".join(sorted(BIDI_CONTROLS | INVISIBLE))
_BREAKING = re.compile(f"[\x00-\x1f{_INVISIBLE}]")
# Spreadsheets trim pasted cells, so a leading space does not prevent a formula. Japanese ones accept full-width signs.
_START = r"\s*[=+\-@＝＋－＠]"
_FORMULA = re.compile(rf"[\t\r\n\x00]|{_START}")
_DIGITS = r"[\d• ().-]*"
_MASKED_PHONE = re.compile(rf"\+{_DIGITS}")
_UNSAFE = re.compile(rf"[{_INVISIBLE}]|{_TAB}{_START}|{_PHONE}(?!\+{_DIGITS}[{_TAB}{_PHONE}]){_START}")
_LEAD_BYTES = b"\xc2\xd8\xe1\xe3\xef"
"""Lead bytes of invisible characters, spaces and full-width signs: the last two may begin a formula."""
_HINTS = (
    re.compile(b"\xe2(?!\x80\xa2)"),  # the lead byte of the dots in masks, which are safe
    re.compile(rf"{_TAB}[ =+@-]".encode()),
    re.compile(rf"{_PHONE}(?!\+[0-9• ().-]*{_TAB})[ =+@-]".encode()),
)


def stream(count: CountAttempts, lines: Lines, heading: Heading, translations: Translations) -> Iterator[bytes]:
    """Yield the title before attempts are counted, then the rest in blocks.

    The last line is the number of rows; without it the download is incomplete.
    """
    yield _encoded([f"{BYTE_ORDER_MARK}{summary.title(translations).upper()} (useradd)", "=" * WIDTH])
    report = count()
    yield _encoded(sections(report, heading, translations))
    rows = 0
    for block in lines(layout(report, translations)):
        rows += block.rows
        yield block.content
    end = translations.ngettext("End: %(rows)s row", "End: %(rows)s rows", rows, rows=translations.number(rows))
    yield _encoded(["", end])


def _encoded(lines: Iterable[str]) -> bytes:
    # Lone surrogates cannot be encoded in UTF-8; one of them must not abort the file.
    return "".join(f"{line}{LINE}" for line in lines).encode("utf-8", "replace")


def sections(report: Report, heading: Heading, translations: Translations) -> Iterator[str]:
    """Yield the lines between the title and the rows."""
    _ = translations.gettext
    yield from _pairs(summary.heading_lines(heading, report, translations))
    yield from _section(_("Totals"), _totals(report, translations))
    yield from _section(_("HTTP statuses"), _statuses(report, translations))
    yield from _section(_("Why no user was created"), _reasons(report, translations))
    yield from _section(_("By day"), _days(report, translations))
    hint = _("tab-separated columns: paste them into a spreadsheet as they are")
    name = f"{_('Requests')}, {translations.number(report.total)}"
    yield from _section(name, ["\t".join(summary.log_heads(translations))], hint)


def layout(report: Report, translations: Translations) -> Layout:
    outcomes = summary.log_outcomes(translations)
    return Layout(
        columns=(
            Column(Value.LOCAL_TIME),
            Column(lambda status, _code: outcomes[Outcome.of(status)], _TAB),
            Column(lambda status, _code: str(status or ABSENT), _TAB),
            Column(lambda _status, code: "" if code == CREATED else code, _TAB),
            Column(lambda _status, code: "" if code == CREATED else _clean(translations.reason(code)), _TAB),
            Column(Value.USERNAME, _TAB),
            Column(Value.NAME, _TAB),
            Column(Value.PHONE, _PHONE),
            Column(Value.EMAIL, _TAB),
            Column(Value.DURATION, _TAB),
            Column(Value.ID, _TAB),
        ),
        separators={_TAB: _TAB, _PHONE: _TAB},
        suffix=LINE,
        unsafe=_UNSAFE,
        lead_bytes=_LEAD_BYTES,
        hints=_HINTS,
        escape=_cell,
        zone=report.zone,
        kinds=report.kinds,
    )


def _section(name: str, lines: Iterable[str], hint: str = "") -> Iterator[str]:
    yield ""
    yield f"{name.upper()} ({hint})" if hint else name.upper()
    yield "-" * WIDTH
    yield from lines


def _pairs(pairs: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _value in pairs) + 3
    return (f"{_clean(name) + ':':<{width}}{_clean(value)}" for name, value in pairs)


def _totals(report: Report, translations: Translations) -> Iterator[str]:
    for name, count in summary.totals(report, translations):
        yield f"{name:<44}{translations.number(count):>14}{translations.share(count, report.total):>10}"
    for name, milliseconds in summary.durations(report, translations):
        yield f"{name:<44}{translations.number(milliseconds):>14}"


def _statuses(report: Report, translations: Translations) -> Iterator[str]:
    for row in report.by_status:
        yield _count_line(row.status, translations.status(row.status), 39, row.count, report.total, translations)


def _reasons(report: Report, translations: Translations) -> Iterator[str]:
    if not report.by_error_code:
        yield ABSENT
    width = max(39, *(len(translations.reason(row.code)) for row in report.by_error_code), 0)
    for row in report.by_error_code:
        name = _clean(translations.reason(row.code))
        line = _count_line(row.status, name, width, row.count, report.total, translations)
        yield f"{line}  {_clean(row.code)}"


def _count_line(status: int, name: str, width: int, count: int, total: int, translations: Translations) -> str:
    number, share = translations.number(count), translations.share(count, total)
    return f"{status or ABSENT!s:<5}{name:<{width}}{number:>14}{share:>10}"


def _days(report: Report, translations: Translations) -> Iterator[str]:
    heads = summary.day_heads(report, translations)
    widths = [max(11, len(head) + 2) for head in heads[1:]]
    yield f"{heads[0]:<12}" + _right(heads[1:], widths)
    for day in report.series:
        counts = [translations.number(count) for count in summary.day_counts(report, day)]
        yield f"{translations.day(day.since, report.zone):<12}" + _right(counts, widths)


def _right(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _cell(value: Value, content: str) -> str:
    """Return the text of a cell, which no spreadsheet interprets as a formula (CWE-1236)."""
    if value is Value.PHONE and _MASKED_PHONE.fullmatch(content):
        return content
    text = _clean(content)
    return f"'{text}" if _FORMULA.match(content) or _FORMULA.match(text) else text


def _clean(value: str) -> str:
    return value if value.isprintable() else _BREAKING.sub(" ", value)
