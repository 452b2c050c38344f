"""Names of downloaded files."""

import re
from datetime import timedelta

from project.domain.attempts import AttemptFilter, Outcome
from project.domain.reports import Report

MAX_STATUSES = 5
"""Maximum number of statuses in a file name: more would make it too long."""

_CODE = re.compile(r"[a-z0-9_]{1,60}")


def file_name(report: Report, ending: str) -> str:
    """Return a name with the period and filters: `useradd_2026-11-17_2026-11-23_rejected.xlsx`.

    The name is ASCII. Other names need the encoding of RFC 8187, which old mail programs and proxies garble.
    """
    return "_".join(["useradd", _days(report), *_filter_words(report.attempt_filter)]) + f".{ending}"


def _days(report: Report) -> str:
    # The end is exclusive, so midnight would name the next day.
    last = (report.until - timedelta(seconds=1)).astimezone(report.zone).date()
    if report.attempt_filter.since is None and report.attempt_filter.until is None:
        return f"all_{last}"
    first = report.since.astimezone(report.zone).date() if report.since else last
    return f"{min(first, last)}_{last}"


def _filter_words(attempt_filter: AttemptFilter) -> list[str]:
    """Return the words of a file name that describe the filters.

    Several codes are `codes`. A search for text is `search`, because the text may be personal data.
    """
    codes = [code for code in attempt_filter.codes if _CODE.fullmatch(code)]
    return [
        *(outcome for outcome in Outcome if outcome in attempt_filter.outcomes),
        *(codes if len(codes) == 1 else ["codes"] if codes else []),
        *map(str, sorted(attempt_filter.statuses)[:MAX_STATUSES]),
        *(["search"] if attempt_filter.is_search else []),
    ]
