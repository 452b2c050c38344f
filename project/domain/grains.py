"""Grains: the lengths of the periods for which attempts are aggregated."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

EARLIEST, LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Substitutes for a missing start or end of a period. Both are period starts in every grain."""


class Grain(StrEnum):
    """The length of an aggregated period; the longest comes first.

    All UTC offsets in use are multiples of the shortest, so that a day of any time zone consists of whole periods.
    """

    MONTH = "month"
    DAY = "day"
    HOUR = "hour"
    QUARTER = "15min"

    def floor(self, moment: datetime) -> datetime:
        """Return the start of the period of this length that contains `moment`."""
        moment = moment.astimezone(UTC)
        match self:
            case Grain.MONTH:
                return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            case Grain.DAY:
                return moment.replace(hour=0, minute=0, second=0, microsecond=0)
            case Grain.HOUR:
                return moment.replace(minute=0, second=0, microsecond=0)
            case Grain.QUARTER:
                return moment.replace(minute=moment.minute - moment.minute % 15, second=0, microsecond=0)

    def ceil(self, moment: datetime) -> datetime:
        """Return the first start of a period of this length at or after `moment`."""
        start = self.floor(moment)
        return start if start == moment else self.floor(start + _MAX_LENGTH[self])


_MAX_LENGTH = {
    Grain.MONTH: timedelta(days=31),
    Grain.DAY: timedelta(days=1),
    Grain.HOUR: timedelta(hours=1),
    Grain.QUARTER: timedelta(minutes=15),
}


@dataclass(frozen=True, slots=True)
class Span:
    """The time [since, until): whole periods of `grain`. None means a part of a period."""

    grain: Grain | None
    since: datetime
    until: datetime


def split_into_spans(since: datetime, until: datetime, grains: tuple[Grain, ...] = tuple(Grain)) -> Iterator[Span]:
    """Yield the fewest spans that cover [since, until), in chronological order."""
    if since >= until:
        return
    if not grains:
        yield Span(None, since, until)
        return
    grain, finer = grains[0], grains[1:]
    first, last = grain.ceil(since), grain.floor(until)
    if first < last:
        yield from split_into_spans(since, first, finer)
        yield Span(grain, first, last)
        yield from split_into_spans(last, until, finer)
    else:
        yield from split_into_spans(since, until, finer)
