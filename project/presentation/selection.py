"""Parses query strings that select attempts, and builds query strings for links."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from werkzeug.datastructures import MultiDict

from project.contract.error_codes import FIELD_CODES, OTHER_REASONS, PROBLEMS
from project.domain.attempts import AttemptFilter, Outcome
from project.domain.errors import RefusalError
from project.domain.reports import is_repeated
from project.domain.text import clean
from project.http.query_parameters import check_parameters

PERIODS = ("today", "yesterday", "7d", "last-week", "30d", "last-month", "this-month", "all", "dates")
DEFAULT_PERIOD = "7d"
KNOWN_CODES = frozenset({*FIELD_CODES, *PROBLEMS, *OTHER_REASONS})
CODE_GROUPS = {
    code: frozenset(name for name, field_code in FIELD_CODES.items() if field_code.status == PROBLEMS[code].status)
    for code in ("validation_failed", "conflict")
}
"""Code of a response with field errors -> codes of these errors, which the log of attempts contains instead."""
MAX_TEXT_LENGTH = 200
CLIENT_PARAMETERS = ("address", "client")
"""Parameters that only auditors and administrators may use."""
PARAMETERS = ("period", "from", "to", "result", "code", "status", "q", *CLIENT_PARAMETERS, "tz")
"""The query parameters of a selection, in their order in URLs."""
LIST_PARAMETERS = ("result", "code", "status")
"""Parameters that may be repeated, or have several values separated by commas."""
EXAMPLE_VALUES = {
    "period": "7d",
    "from": "2026-11-17",
    "to": "2026-11-23",
    "result": "rejected",
    "code": "invalid_phone",
    "status": "422",
    "tz": "UTC",
    "before": "01936b4e-2f6a-7c3e-9b1d-5a8f0c2e4d61",
    "limit": "25",
}
"""Parameter -> valid value, shown in the message about an invalid value."""

_YEARS = range(1970, 9000)

T = TypeVar("T")
Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The reader's selection: a filter of attempts, and the URL parameters that define it."""

    filter: AttemptFilter
    period: str
    """The selected one of PERIODS."""
    now: datetime
    """Time of the request, in the display time zone."""
    default: str = DEFAULT_PERIOD
    """The period if the URL contains none."""
    values: Values = field(default_factory=dict)
    """Valid parameters, normalized."""
    ignored: tuple[tuple[str, str], ...] = ()
    """Names and values of invalid parameters; the value is "" if the reader may not use the parameter."""
    is_reversed: bool = False
    """Whether the period does not end after it starts."""
    before: UUID | None = None
    after: UUID | None = None
    """IDs: only attempts older than `before`, or newer than `after`, are listed. `after` takes precedence; None means
    no bound."""
    newer: UUID | None = None
    """ID of the newest attempt on an open page that polls for newer attempts; None if this is no such poll."""
    limit: int = 25
    """Maximum number of attempts to list."""

    @property
    def zone(self) -> ZoneInfo:
        """The display time zone."""
        zone = self.now.tzinfo
        assert isinstance(zone, ZoneInfo)  # noqa: S101 - tells mypy
        return zone

    def first_value(self, name: str) -> str:
        """Return the first value of a parameter, or "" if the query string does not contain it."""
        return next(iter(self.values.get(name, ())), "")

    def input_value(self, name: str) -> str:
        """Return the parameter `from` or `to` as the value of a form field, without UTC offset.

        For a named period, such as `7d`, returns its first or last day, or "" for a period without a start.
        """
        if self.period == "dates":
            return re.sub(r"([+-]\d\d:\d\d$)", "", self.first_value(name))[:23]
        day = self.filter.since if name == "from" else self.filter.until or self.now
        if name == "to" and self.filter.until:
            day = self.filter.until - timedelta(days=1)
        return f"{day:%Y-%m-%d}" if day else ""

    def query_string(self, **changes: str | Sequence[str] | None) -> str:
        """Return the query string, `?...` or "", with some parameters replaced, or removed by None.

        The arguments `since` and `until` stand for `from` and `to`, because `from` is a Python keyword.
        """
        new = {_PARAMETER_NAMES.get(name, name): _as_list(value) for name, value in changes.items()}
        if "from" in new or "to" in new:
            new.setdefault("period", ["dates"] if any((*new.get("from", ()), *new.get("to", ()))) else [])
        merged = {name: new.get(name, self.values.get(name, ())) for name in PARAMETERS}
        if merged["period"] != ["dates"] and "period" in new:
            merged |= {"from": (), "to": ()}
        if list(merged["period"]) == [self.default]:
            merged["period"] = ()
        pairs = [(name, value) for name, values in merged.items() for value in values]
        pairs += [(name, value) for name, values in new.items() if name not in PARAMETERS for value in values]
        return f"?{urlencode(pairs)}" if pairs else ""

    def query_string_without(self, name: str, value: str) -> str:
        """Return the query string without one value of a parameter."""
        return self.query_string(**{name: [other for other in self.values.get(name, ()) if other != value]})

    def query_string_within(self, since: datetime, until: datetime) -> str:
        """Return the query string for the part of the period that lies in [since, until)."""
        since = max(since, self.filter.since or since).astimezone(self.zone)
        until = min(until, self.filter.until or until).astimezone(self.zone)
        if since.time() == until.time() == datetime.min.time():
            return self.query_string(since=f"{since:%Y-%m-%d}", until=f"{until - timedelta(days=1):%Y-%m-%d}")
        return self.query_string(since=_local_time(since), until=_local_time(until))

    def query_string_before(self, until: datetime) -> str:
        """Return the query string for the part of the period before `until`."""
        if self.filter.since is None:
            return self.query_string(since=None, until=_local_time(until.astimezone(self.zone)))
        return self.query_string_within(self.filter.since, until)

    def query_string_of_search(self, text: str, until: datetime) -> str:
        """Return the query string that searches for `text` before `until`.

        Of this selection, it keeps only the time zone.
        """
        values = {name: values for name, values in self.values.items() if name == "tz"}
        return replace(self, values=values).query_string(until=_local_time(until.astimezone(self.zone)), q=text)

    @property
    def previous_period(self) -> tuple[datetime, datetime] | None:
        """Start and end of the period before a named one, for a comparison; otherwise None.

        None for the period `all`, too. If the selected period has not ended, the preceding period ends at the same time
        of day.
        """
        since, until = self.filter.since, self.filter.until
        days = {"today": 1, "yesterday": 1, "7d": 7, "last-week": 7, "30d": 30}
        if since is None:
            return None
        if self.period in days:
            length = timedelta(days=days[self.period])
            return since - length, (until or self.now) - length
        if self.period in {"last-month", "this-month"}:
            before = _month_before(since)
            return before, since if until else min(before + (self.now - since), since)
        return None

    @property
    def is_filtered(self) -> bool:
        """Whether attempts are selected by more than the period."""
        return bool(self.values.keys() - {"period", "from", "to", "tz"})

    def over_all_time(self) -> "Selection":
        """Return this selection with the period `all`."""
        values = {name: given for name, given in self.values.items() if name not in {"from", "to"}}
        unlimited = replace(self.filter, since=None, until=None)
        return replace(self, filter=unlimited, period="all", values=values | {"period": ["all"]}, is_reversed=False)


_PARAMETER_NAMES = {"since": "from", "until": "to"}


def _as_list(value: str | Sequence[str] | None) -> Sequence[str]:
    return [value] if isinstance(value, str) else value or []


def _local_time(time: datetime) -> str:
    """Format a local time for an input of a form; add the UTC offset if the time occurs twice."""
    time = time if is_repeated(time) else time.replace(tzinfo=None)
    is_whole_minute = not (time.second or time.microsecond)
    return time.isoformat(timespec="minutes" if is_whole_minute else "auto")


def _period_value(text: str, time: datetime) -> str:
    """Normalize the value of the parameter `from` or `to`: a day, or else `time`."""
    if _can_parse(date.fromisoformat, text):
        return date.fromisoformat(text).isoformat()
    return _local_time(time)


def parse_selection(
    args: MultiDict[str, str], zone: ZoneInfo, now: datetime, default: str = DEFAULT_PERIOD, *, unmasked: bool = False
) -> Selection:
    """Parse the query string of a page; list invalid parameters in `Selection.ignored`.

    `default` is the period if the query string has none. Set `unmasked` for auditors and administrators: for other
    readers, the filters by client address and client program are invalid.
    """
    return _Parser(args, zone, now.astimezone(zone), default, unmasked).parse()


def parse_selection_strictly(
    args: MultiDict[str, str],
    zone: ZoneInfo,
    now: datetime,
    default: str = DEFAULT_PERIOD,
    *,
    unmasked: bool = False,
    known: Sequence[str] = PARAMETERS,
) -> Selection:
    """Parse the query string of an API request or download with the parameters `known`.

    Raises RefusalError for unknown and repeated parameters, invalid values and contradictions.
    """
    check_parameters(args, [name for name in known if unmasked or name not in CLIENT_PARAMETERS], LIST_PARAMETERS)
    selection = parse_selection(args, zone, now, default, unmasked=unmasked)
    for name, value in selection.ignored:
        raise RefusalError("unknown_parameter", "value", name=name, value=value, example=EXAMPLE_VALUES[name])
    _check_period(args)
    if selection.is_reversed:
        raise RefusalError("bad_request", "period")
    return selection


def _check_period(args: MultiDict[str, str]) -> None:
    """Raise RefusalError if `period` contradicts `from` and `to`."""
    period = args.get("period", "").strip()
    given = [name for name in ("from", "to") if args.get(name, "").strip()]
    if given and period not in {"", "dates"}:
        raise RefusalError("bad_request", "two_periods", name=given[0])
    if period == "dates" and not given:
        raise RefusalError("bad_request", "no_dates")


@dataclass
class _Parser:
    args: MultiDict[str, str]
    zone: ZoneInfo
    now: datetime
    default: str
    unmasked: bool
    ignored: list[tuple[str, str]] = field(default_factory=list)
    values: dict[str, Sequence[str]] = field(default_factory=dict)

    def parse(self) -> Selection:
        outcomes = frozenset(self._parse_all("result", Outcome))
        codes = frozenset[str]().union(
            *(CODE_GROUPS.get(code, {code}) for code in self._parse_all("code", _choice_parser(KNOWN_CODES)))
        )
        statuses = frozenset(self._parse_all("status", _integer_parser(r"0|[1-5]\d\d")))
        text = self._parse_text("q")
        address, program = map(self._parse_text if self.unmasked else self._ignore_parameter, CLIENT_PARAMETERS)
        self._parse_one("tz", _choice_parser({"UTC"}))
        period, since, until = self._parse_period(text)
        attempt_filter = AttemptFilter(since=since, until=until, outcomes=outcomes, codes=codes, statuses=statuses)
        return Selection(
            filter=replace(
                attempt_filter, text=text, client_address=address, client_program=program, unmasked=self.unmasked
            ),
            period=period,
            now=self.now,
            default=self.default,
            values=self.values,
            is_reversed=since is not None and until is not None and since >= until,
            before=self._parse_one("before", UUID, is_stored=False),
            after=self._parse_one("after", UUID, is_stored=False),
            newer=self._parse_one("newer", UUID, is_stored=False),
            limit=self._parse_one("limit", _integer_parser(r"[1-9]\d?|100"), is_stored=False) or 25,
            ignored=tuple(self.ignored),
        )

    def _parse_period(self, text: str) -> tuple[str, datetime | None, datetime | None]:
        period = self._parse_one("period", _choice_parser(PERIODS))
        if _can_parse(UUID, text):
            return "all", None, None  # a search for a request ID includes all periods
        if period in {None, "dates"} and any(self.args.get(name, "").strip() for name in ("from", "to")):
            since = self._parse_one("from", partial(_parse_time, zone=self.zone, end=False))
            until = self._parse_one("to", partial(_parse_time, zone=self.zone, end=True))
            for name, time in (("from", since), ("to", until)):
                if time is not None:
                    self.values[name] = [_period_value(self.values[name][0], time)]
            if since or until:
                self.values["period"] = ["dates"]
                return "dates", since, until
        if period == "dates" and not any(self.args.get(name, "").strip() for name in ("from", "to")):
            self.values["period"] = ["all"]
            return "all", None, None  # somebody has emptied both fields
        if period in {None, "dates"}:
            period = self.default
            self.values.pop("period", None)
        return period, *_period_bounds(period, self.now)

    def _parse_text(self, name: str) -> str:
        text = clean(self.args.get(name, "").strip(), MAX_TEXT_LENGTH)
        if text:
            self.values[name] = [text]
        return text

    def _ignore_parameter(self, name: str) -> str:
        if self.args.get(name, "").strip():
            self.ignored.append((name, ""))
        return ""

    def _parse_one(self, name: str, parse: Callable[[str], T], *, is_stored: bool = True) -> T | None:
        """Return the first value of a parameter, parsed; None if the value is absent or invalid.

        With `is_stored`, links of the page contain the parameter, see Selection.values.
        """
        texts = [text.strip() for text in self.args.getlist(name) if text.strip()]
        return next(iter(self._parse_values(name, texts[:1], parse, is_stored=is_stored)), None)

    def _parse_all(self, name: str, parse: Callable[[str], T]) -> list[T]:
        """Return the valid values of a parameter of LIST_PARAMETERS, parsed."""
        return self._parse_values(name, _split(self.args.getlist(name)), parse, is_stored=True)

    def _parse_values(self, name: str, texts: Iterable[str], parse: Callable[[str], T], *, is_stored: bool) -> list[T]:
        valid: dict[str, T] = {}
        for text in texts:
            try:
                valid[text] = parse(text)
            except (ValueError, OverflowError):
                self.ignored.append((name, clean(text, 60)))
        if valid and is_stored:
            self.values[name] = list(valid)
        return list(valid.values())


def _period_bounds(period: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return the start and end of a named period, such as `7d`. Weeks begin on Monday.

    The start is None for `all`; the end is None if the period has not ended.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight.replace(day=1)
    monday = midnight - timedelta(days=midnight.weekday())
    match period:
        case "today":
            return midnight, None
        case "yesterday":
            return midnight - timedelta(days=1), midnight
        case "7d":
            return midnight - timedelta(days=6), None
        case "last-week":
            return monday - timedelta(days=7), monday
        case "30d":
            return midnight - timedelta(days=29), None
        case "last-month":
            return _month_before(first), first
        case "this-month":
            return first, None
        case _:
            return None, None


def _month_before(first: datetime) -> datetime:
    return (first - timedelta(days=1)).replace(day=1)


def _split(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _choice_parser(choices: Iterable[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


def _integer_parser(pattern: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(text)
        return int(text)

    return parse


def _parse_time(text: str, zone: ZoneInfo, *, end: bool) -> datetime:
    """Parse a day or time in `zone`. A day becomes the midnight before it, or after if `end`.

    Raises ValueError.
    """
    time = datetime.fromisoformat(text)
    if time.year not in _YEARS:
        raise ValueError(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
    if end and _can_parse(date.fromisoformat, text):
        time += timedelta(days=1)
    return time.astimezone(UTC).astimezone(zone)


def _can_parse(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True
