"""The reader's choice as the URL tells it, and the URL of a choice: every state of a page is an address."""

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
from project.domain.text import clean

PERIODS = ("today", "7d", "30d", "all", "dates")
DAYS = {"today": 1, "7d": 7, "30d": 30}
DEFAULT = "7d"
KNOWN_CODES = frozenset({*FIELD_CODES, *PROBLEMS, *OTHER_REASONS})
MAX_TEXT = 200
CLIENT_PARAMETERS = ("address", "client")
"""Filters for administrators only."""
PARAMETERS = ("period", "from", "to", "result", "code", "status", "q", *CLIENT_PARAMETERS, "tz")
"""What makes a choice, in the order in which addresses have them."""

_YEARS = range(1970, 9000)

T = TypeVar("T")
Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the reader wants to see: the filter, and the words by which the URL asked for it."""

    filter: AttemptFilter
    period: str
    now: datetime
    """In the zone in which times are shown."""
    default: str = DEFAULT
    """The period of an address that names none."""
    values: Values = field(default_factory=dict)
    """The parameters that were understood, in their normal form."""
    ignored: tuple[tuple[str, str], ...] = ()
    """Name and value of what was not."""
    is_reversed: bool = False
    """The end does not lie after the start: nothing can be shown."""
    before: UUID | None = None
    after: UUID | None = None
    newer: UUID | None = None
    """The newest attempt that a page shows: what came since shall be offered."""
    limit: int = 25

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which times are shown."""
        zone = self.now.tzinfo
        assert isinstance(zone, ZoneInfo)  # noqa: S101 - tells mypy
        return zone

    def first(self, name: str) -> str:
        """Return the value of a parameter, "" if it has none."""
        return next(iter(self.values.get(name, ())), "")

    def query(self, **changes: str | Sequence[str] | None) -> str:
        """Return the query of this choice with some values changed, None taking one away: "" or `?...`.

        `since` and `until` stand for `from` and `to`, the first of which is a word of Python.
        """
        new = {_NAMES.get(name, name): _listed(value) for name, value in changes.items()}
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

    def without(self, name: str, value: str) -> str:
        """Return the query without one value of one parameter."""
        left = [one for one in self.values.get(name, ()) if one != value]
        return self.query(**{name: left})

    def within(self, since: datetime, until: datetime) -> str:
        """Return the query of a stretch of time inside this choice."""
        since = max(since, self.filter.since or since).astimezone(self.zone)
        until = min(until, self.filter.until or until).astimezone(self.zone)
        if since.time() == until.time() == datetime.min.time():
            return self.query(since=f"{since:%Y-%m-%d}", until=f"{until - timedelta(days=1):%Y-%m-%d}")
        return self.query(since=_wall(since), until=_wall(until))

    def of_everything(self) -> "Selection":
        """Return the same choice over all time."""
        values = {name: given for name, given in self.values.items() if name not in {"from", "to"}}
        whole = replace(self.filter, since=None, until=None)
        return replace(self, filter=whole, period="all", values=values | {"period": ["all"]}, is_reversed=False)


_NAMES = {"since": "from", "until": "to"}


def _listed(value: str | Sequence[str] | None) -> Sequence[str]:
    return [value] if isinstance(value, str) else value or []


def _wall(when: datetime) -> str:
    """Return a time as clocks in the shown zone tell it, no finer than it needs to be."""
    text = f"{when:%Y-%m-%dT%H:%M}"
    if when.second or when.microsecond:
        text = when.replace(tzinfo=None).isoformat()
    return text


def parse_selection(
    args: MultiDict[str, str], zone: ZoneInfo, now: datetime, default: str = DEFAULT, *, with_client: bool = False
) -> Selection:
    """Return what the query asks for. What cannot be understood is left out and named in `ignored`.

    Without `with_client` the filters for client address and client program are left out, unnamed.
    """
    return _Reader(args, zone, now, default, with_client=with_client).read()


def parse_selection_strictly(
    args: MultiDict[str, str], zone: ZoneInfo, now: datetime, default: str = DEFAULT, *, with_client: bool = False
) -> Selection:
    """Return what the query asks for, or refuse: a program or a file has no place to say what was left out."""
    selection = parse_selection(args, zone, now, default, with_client=with_client)
    if selection.is_reversed:
        raise RefusalError("bad_request", "period")
    unusable = [name for name, _ in selection.ignored]
    if not with_client:
        unusable += [name for name in CLIENT_PARAMETERS if args.get(name, "").strip()]
    for name in unusable:
        raise RefusalError("bad_request", "parameter", name=name)
    return selection


class _Reader:
    """Reads one query, and remembers what it could not read."""

    def __init__(
        self, args: MultiDict[str, str], zone: ZoneInfo, now: datetime, default: str, *, with_client: bool
    ) -> None:
        self._args = args
        self._with_client = with_client
        self._zone = zone
        self._now = now.astimezone(zone)
        self._default = default
        self._ignored: list[tuple[str, str]] = []
        self._values: dict[str, Sequence[str]] = {}

    def read(self) -> Selection:
        outcomes = self._all("result", Outcome)
        codes = self._all("code", _one_of(KNOWN_CODES))
        statuses = self._all("status", _status)
        text = self._text("q")
        address, program = map(self._text, CLIENT_PARAMETERS) if self._with_client else ("", "")
        self._one("tz", _one_of({"UTC"}))
        period, since, until = self._period(text)
        return Selection(
            filter=AttemptFilter(
                since=since,
                until=until,
                outcomes=frozenset(outcomes),
                codes=frozenset(codes),
                statuses=frozenset(statuses),
                text=text,
                client_address=address,
                client_program=program,
            ),
            period=period,
            now=self._now,
            default=self._default,
            values=self._values,
            is_reversed=since is not None and until is not None and since >= until,
            before=self._one("before", UUID, keep=False),
            after=self._one("after", UUID, keep=False),
            newer=self._one("newer", UUID, keep=False),
            limit=self._one("limit", _limit, keep=False) or 25,
            ignored=tuple(self._ignored),
        )

    def _period(self, text: str) -> tuple[str, datetime | None, datetime | None]:
        period = self._one("period", _one_of(PERIODS))
        if _is_id(text):
            return "all", None, None  # one request: it is looked for wherever it is
        if period in {None, "dates"} and any(self._args.get(name, "").strip() for name in ("from", "to")):
            since = self._one("from", partial(_moment, zone=self._zone, end=False))
            until = self._one("to", partial(_moment, zone=self._zone, end=True))
            if since or until:
                self._values["period"] = ["dates"]
                return "dates", since, until
        if period in {None, "dates"}:
            period = self._default
            self._values.pop("period", None)
        if period == "all":
            return period, None, None
        midnight = self._now.replace(hour=0, minute=0, second=0, microsecond=0)
        return period, midnight - timedelta(days=DAYS[period] - 1), None

    def _text(self, name: str) -> str:
        text = clean(self._args.get(name, "").strip(), MAX_TEXT)
        if text:
            self._values[name] = [text]
        return text

    def _one(self, name: str, read: Callable[[str], T], *, keep: bool = True) -> T | None:
        return next(iter(self._all(name, read, keep=keep)), None)

    def _all(self, name: str, read: Callable[[str], T], *, keep: bool = True) -> list[T]:
        """Return the values of a parameter, given more than once or with commas."""
        understood: dict[str, T] = {}
        for given in _parts(self._args.getlist(name)):
            try:
                understood[given] = read(given)
            except (ValueError, OverflowError):
                self._ignored.append((name, clean(given, 60)))
        if understood and keep:
            self._values[name] = list(understood)
        return list(understood.values())


def _parts(given: Iterable[str]) -> list[str]:
    return [part.strip() for text in given for part in text.split(",") if part.strip()]


def _one_of(known: Iterable[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError(text)
        return text

    return read


def _status(text: str) -> int:
    if not re.fullmatch(r"0|[1-5]\d\d", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _limit(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d?|100", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _moment(text: str, zone: ZoneInfo, *, end: bool) -> datetime:
    """Return the moment that a day or a time on the shown clocks means; the end of a day is the next midnight."""
    when = datetime.fromisoformat(text)
    if when.year not in _YEARS:
        raise ValueError(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=zone)
    if end and _is_day(text):
        when += timedelta(days=1)
    return when.astimezone(UTC).astimezone(zone)


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
