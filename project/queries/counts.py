"""Attempts as numbers."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from sqlalchemy import Connection, DateTime, case, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from project.domain.attempts import AttemptFilter, Outcome
from project.domain.reports import Bucket, CodeCount, Durations, StatusCount
from project.models import Attempt
from project.queries.filters import conditions


def count_by_status(connection: Connection, chosen: AttemptFilter) -> tuple[StatusCount, ...]:
    """Return the number of attempts for each HTTP status, the most frequent first."""
    count = func.count()
    query = select(Attempt.status, count).where(*conditions(chosen)).group_by(Attempt.status)
    rows = connection.execute(query.order_by(count.desc(), Attempt.status))
    return tuple(StatusCount(status, number) for status, number in rows)


def count_by_code(connection: Connection, chosen: AttemptFilter) -> tuple[CodeCount, ...]:
    """Return the number of attempts for each reason, the most frequent first."""
    count = func.count()
    query = select(Attempt.code, Attempt.status, count).where(*conditions(chosen))
    rows = connection.execute(query.group_by(Attempt.code, Attempt.status).order_by(count.desc(), Attempt.code))
    return tuple(CodeCount(code, status, number) for code, status, number in rows)


def count_by_time(connection: Connection, chosen: AttemptFilter, edges: Sequence[datetime]) -> tuple[Bucket, ...]:
    """Return the number of attempts for each outcome between two neighbouring edges, empty buckets included."""
    place = func.width_bucket(Attempt.received_at, literal(list(edges), ARRAY(DateTime(timezone=True))))
    outcome = case(
        (Attempt.status == 201, Outcome.CREATED),
        (Attempt.status.between(200, 299), Outcome.UNCHANGED),
        (Attempt.status.between(400, 499), Outcome.REJECTED),
        else_=Outcome.FAILED,
    )
    query = select(place.label("place"), outcome.label("outcome"), func.count()).where(*conditions(chosen))
    counted = {
        (place, outcome): number for place, outcome, number in connection.execute(query.group_by("place", "outcome"))
    }
    return tuple(
        Bucket(since, until, **{o.value: counted.get((number, o.value), 0) for o in Outcome})
        for number, (since, until) in enumerate(pairwise(edges), start=1)
    )


def find_durations(connection: Connection, chosen: AttemptFilter) -> Durations | None:
    """Return how long answers took, None when there was none."""
    spread = func.percentile_disc([0.5, 0.95, 0.99]).within_group(Attempt.duration_ms)
    values = connection.execute(select(spread).where(*conditions(chosen))).scalar_one()
    return None if values is None else Durations(*values)


def find_first_moment(connection: Connection, chosen: AttemptFilter) -> datetime | None:
    """Return the time of the oldest chosen attempt."""
    query = select(Attempt.received_at).where(*conditions(chosen)).order_by(Attempt.id).limit(1)
    return connection.execute(query).scalar_one_or_none()


def find_newest(connection: Connection) -> int:
    """Return the sequence number of the last recorded attempt, 0 when there is none: it closes a picture."""
    return connection.execute(select(func.coalesce(func.max(Attempt.seq), 0))).scalar_one()
