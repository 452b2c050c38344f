"""Attempts as numbers."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from sqlalchemy import Connection, DateTime, case, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from project.domain.attempts import AttemptFilter, Outcome, first_id
from project.domain.reports import Bucket, CodeCount, Durations, StatusCount
from project.models import Attempt
from project.queries.filters import conditions, kinds, matches, period
from project.queries.rollups import pieces

SAMPLE = 20_000
"""How many attempts tell how long answers take: the last ones of the period."""


def count_all(connection: Connection, chosen: AttemptFilter) -> int:
    """Return how many attempts are chosen."""
    counted = pieces(connection, chosen)
    return int(connection.execute(select(func.coalesce(func.sum(counted.c.number), 0))).scalar_one())


def count_by_status(connection: Connection, chosen: AttemptFilter) -> tuple[StatusCount, ...]:
    """Return the number of attempts for each HTTP status, the most frequent first."""
    counted = pieces(connection, chosen)
    number = func.sum(counted.c.number)
    query = select(counted.c.status, number).group_by(counted.c.status).having(number > 0)
    rows = connection.execute(query.order_by(number.desc(), counted.c.status))
    return tuple(StatusCount(status, int(number)) for status, number in rows)


def count_by_code(connection: Connection, chosen: AttemptFilter) -> tuple[CodeCount, ...]:
    """Return the number of attempts for each reason, the most frequent first."""
    counted = pieces(connection, chosen)
    number = func.sum(counted.c.number)
    query = select(counted.c.code, counted.c.status, number).group_by(counted.c.code, counted.c.status)
    rows = connection.execute(query.having(number > 0).order_by(number.desc(), counted.c.code))
    return tuple(CodeCount(code, status, int(number)) for code, status, number in rows)


def count_by_time(connection: Connection, chosen: AttemptFilter, edges: Sequence[datetime]) -> tuple[Bucket, ...]:
    """Return the number of attempts for each outcome between two neighbouring edges, empty buckets included."""
    counted = pieces(connection, chosen, by_hour=all(_is_whole_hour(edge) for edge in edges))
    place = func.width_bucket(counted.c.at, literal(list(edges), ARRAY(DateTime(timezone=True))))
    outcome = case(
        (counted.c.status == 201, Outcome.CREATED),
        (counted.c.status.between(200, 299), Outcome.UNCHANGED),
        (counted.c.status.between(400, 499), Outcome.REJECTED),
        else_=Outcome.FAILED,
    )
    query = select(place.label("place"), outcome.label("outcome"), func.sum(counted.c.number))
    numbers = {
        (place, outcome): int(number)
        for place, outcome, number in connection.execute(query.group_by("place", "outcome"))
    }
    return tuple(
        Bucket(since, until, **{o.value: numbers.get((number, o.value), 0) for o in Outcome})
        for number, (since, until) in enumerate(pairwise(edges), start=1)
    )


def find_durations(connection: Connection, chosen: AttemptFilter) -> Durations | None:
    """Return how long answers took lately, None when there was none."""
    closed = [] if chosen.newest is None else [Attempt.seq <= chosen.newest]
    latest = (
        select(Attempt).where(*period(chosen), *closed).order_by(Attempt.id.desc()).limit(SAMPLE).subquery("latest")
    )
    wanted = [*kinds(chosen, latest.c.status, latest.c.code), *matches(chosen, latest.c)]
    spread = func.percentile_disc([0.5, 0.95, 0.99]).within_group(latest.c.duration_ms)
    values = connection.execute(select(spread).where(*wanted)).scalar_one()
    return None if values is None else Durations(*values)


def find_first_moment(connection: Connection, chosen: AttemptFilter) -> datetime | None:
    """Return the time of the oldest chosen attempt."""
    query = select(Attempt.received_at).where(*conditions(chosen)).order_by(Attempt.id).limit(1)
    if not chosen.text:
        counted = pieces(connection, chosen)
        since = connection.execute(select(func.min(counted.c.at)).where(counted.c.number > 0)).scalar_one()
        if since is None:
            return None
        query = query.where(Attempt.id >= first_id(since))
    return connection.execute(query).scalar_one_or_none()


def find_newest(connection: Connection) -> int:
    """Return the sequence number of the last recorded attempt, 0 when there is none: it closes a picture."""
    return connection.execute(select(func.coalesce(func.max(Attempt.seq), 0))).scalar_one()


def _is_whole_hour(moment: datetime) -> bool:
    return moment.timestamp() % 3600 == 0
