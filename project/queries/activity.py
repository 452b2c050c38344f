"""Writes last logins, last uses of API keys, and audit entries that Activity has queued."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from project.domain.audit import NewEntry
from project.queries.audit import add_entry

_SET_LAST_LOGIN = text("""
    update users set last_login_at = greatest(last_login_at, clock_timestamp() - make_interval(secs => :age_s))
     where id = :id
""")
_SET_LAST_USE = text("""
    update api_keys
       set last_used_at = clock_timestamp() - make_interval(secs => :age_s),
           last_used = (clock_timestamp() - make_interval(secs => :age_s)) at time zone 'UTC'
     where id = :id and (last_used_at is null or last_used_at < clock_timestamp() - interval '1 minute')
""")
"""Sets the time of the last use of an API key, and `last_used`, which the previous version of the service reads."""


def save_activity(
    connection: Connection,
    entries: Sequence[tuple[NewEntry, float]],
    logins: Mapping[UUID, float],
    uses: Mapping[UUID, float],
) -> None:
    """Write audit entries, last logins and last uses of API keys.

    `logins` maps IDs of users, `uses` maps IDs of keys, to the age of the event in seconds; an entry is paired with its
    age.
    """
    for entry, age_s in entries:
        add_entry(connection, entry, age_s)
    for statement, ages in ((_SET_LAST_LOGIN, logins), (_SET_LAST_USE, uses)):
        for row_id, age_s in sorted(ages.items()):  # in the order of IDs, so that processes do not deadlock
            connection.execute(statement, {"id": row_id, "age_s": age_s})
