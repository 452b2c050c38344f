"""The .txt file: totals to read, rows to paste into a spreadsheet, streamed."""

import re
from collections.abc import Iterable, Iterator

from project.domain.attempts import CREATED, Outcome
from project.domain.lines import Column, Layout, Lines, Value
from project.domain.reports import Count, Report
from project.domain.text import BIDI_CONTROLS, INVISIBLE
from project.exporters import summary
from project.exporters.translations import ABSENT, Heading, Translations

MARK = "\ufeff"
"""The byte order mark tells Notepad and Excel that this is UTF-8."""
LINE = "\r\n"
WIDTH = 78

_TAB, _PHONE = "\t", "\x02"
"""Marks; a phone has one of its own, because only there a plus is nothing to be afraid of."""
_UNSEEN = "\x7f-\x9f\ud800-\udfff" + "".join(sorted(BIDI_CONTROLS | INVISIBLE))
_BREAKING = re.compile(f"[\x00-\x1f{_UNSEEN}]")
# Blanks do not make a formula harmless: spreadsheets trim a pasted cell. The wide forms count in Japanese ones.
_START = r"\s*[=+\-@＝＋－＠]"
_FORMULA = re.compile(rf"[\t\r\n\x00]|{_START}")
_DIGITS = r"[\d• ().-]*"
_MASKED_PHONE = re.compile(rf"\+{_DIGITS}")
_ODD = re.compile(rf"[{_UNSEEN}]|{_TAB}{_START}|{_PHONE}(?!\+{_DIGITS}[{_TAB}{_PHONE}]){_START}")
_LEADS = b"\xc2\xd8\xe1\xe3\xef"
"""Of what is unseen, and of blanks and wide signs that may begin a formula."""
_SUSPECTS = (
    re.compile(b"\xe2(?!\x80\xa2)"),  # what begins like the dots of a mask
    re.compile(rf"{_TAB}[ =+@-]".encode()),
    re.compile(rf"{_PHONE}(?!\+[0-9• ().-]*{_TAB})[ =+@-]".encode()),
)


def stream(count: Count, lines: Lines, heading: Heading, translations: Translations) -> Iterator[bytes]:
    """Yield the title at once, then the rest in blocks.

    The last line counts the rows: without it, the download broke off.
    """
    yield _encoded([f"{MARK}{summary.title(translations).upper()} (useradd)", "=" * WIDTH])
    report = count()
    yield _encoded(front(report, heading, translations))
    rows = 0
    for block in lines(layout(report, translations)):
        rows += block.rows
        yield block.content
    yield _encoded(
        ["", translations.ngettext("End: %(rows)s row", "End: %(rows)s rows", rows, rows=translations.number(rows))]
    )


def _encoded(lines: Iterable[str]) -> bytes:
    # A lone surrogate (half of an emoji) has no UTF-8 form; one bad value must not break off the file.
    return "".join(f"{line}{LINE}" for line in lines).encode("utf-8", "replace")


def front(report: Report, heading: Heading, translations: Translations) -> Iterator[str]:
    """Yield all that stands between title and rows, line by line."""
    _ = translations.gettext
    yield from _pairs(summary.heading_lines(heading, report, translations))
    yield from _section(_("Totals"), _totals(report, translations))
    yield from _section(_("HTTP statuses"), _statuses(report, translations))
    yield from _section(_("Why no user was created"), _reasons(report, translations))
    yield from _section(_("By day"), _days(report, translations))
    hint = _("tab-separated columns: paste them into a spreadsheet as they are")
    yield from _section(
        f"{_('Requests')}, {translations.number(report.total)}", ["\t".join(summary.log_heads(translations))], hint
    )


def layout(report: Report, translations: Translations) -> Layout:
    """Return how an attempt is one line, whatever its values hold."""
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
        marks={_TAB: _TAB, _PHONE: _TAB},
        after=LINE,
        leads=_LEADS,
        suspects=_SUSPECTS,
        odd=_ODD,
        escape=lambda value, text: _phone(text) if value is Value.PHONE else _cell(text),
        zone=report.zone,
        ends=report.ends,
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
        yield _counted(row.status, translations.status(row.status), 39, row.count, report.total, translations)


def _reasons(report: Report, translations: Translations) -> Iterator[str]:
    if not report.reasons:
        yield ABSENT
    width = max(39, *(len(translations.reason(row.code)) for row in report.reasons), 0)
    for row in report.reasons:
        line = _counted(row.status, _clean(translations.reason(row.code)), width, row.count, report.total, translations)
        yield f"{line}  {_clean(row.code)}"


def _counted(status: int, name: str, width: int, count: int, total: int, translations: Translations) -> str:
    return (
        f"{status or ABSENT!s:<5}{name:<{width}}{translations.number(count):>14}{translations.share(count, total):>10}"
    )


def _days(report: Report, translations: Translations) -> Iterator[str]:
    heads = summary.day_heads(report, translations)
    widths = [max(11, len(head) + 2) for head in heads[1:]]
    yield f"{heads[0]:<12}" + _right(heads[1:], widths)
    for day in report.series:
        counts = [translations.number(count) for count in summary.day_counts(report, day)]
        yield f"{translations.day(day.since, report.zone):<12}" + _right(counts, widths)


def _right(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _cell(value: str) -> str:
    """Return a value as one cell that no spreadsheet takes for a formula (CWE-1236)."""
    shown = _clean(value)
    return f"'{shown}" if _FORMULA.match(value) or _FORMULA.match(shown) else shown


def _phone(value: str) -> str:
    """Return a masked number: its own plus needs no guard, what somebody typed instead of a number does."""
    return value if _MASKED_PHONE.fullmatch(value) else _cell(value)


def _clean(value: str) -> str:
    return value if value.isprintable() else _BREAKING.sub(" ", value)
