"""Names of downloaded files."""

import re
from datetime import timedelta

from project.domain.reports import Report

_CODE = re.compile(r"[a-z0-9_]{1,60}")


def file_name(report: Report, ending: str) -> str:
    """Return a name like `useradd_2026-11-17_2026-11-23.xlsx`, with a code if it is selected.

    Names are ASCII: others need the encoding of RFC 8187, which old mail programs and proxies garble.
    """
    return f"useradd_{_days(report)}{_reason(report)}.{ending}"


def _days(report: Report) -> str:
    # The end is exclusive, so midnight would name the next day.
    last = (report.until - timedelta(seconds=1)).astimezone(report.zone).date()
    if report.attempt_filter.since is None and report.attempt_filter.until is None:
        return f"all_{last}"
    first = report.since.astimezone(report.zone).date() if report.since else last
    return f"{min(first, last)}_{last}"


def _reason(report: Report) -> str:
    codes = [code for code in report.attempt_filter.codes if _CODE.fullmatch(code)]
    return f"_{codes[0]}" if len(report.attempt_filter.codes) == len(codes) == 1 else ""
