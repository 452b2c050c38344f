"""Classifies errors of psycopg2: transient, server unavailable, misconfigured, or a bug.

psycopg2 often has no SQLSTATE, for example if a connection was killed or refused; such errors are classified by their
Python class. SQLSTATEs are listed in appendix A of the PostgreSQL documentation.
"""

import psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from project.database.deadline import DeadlineError
from project.database.hosts import ConnectError

DriverError = DBAPIError | psycopg2.Error | PoolTimeoutError
"""Errors of database operations. SQLAlchemy wraps those of psycopg2, unless a statement bypasses SQLAlchemy."""

_TRANSIENT = frozenset({
    "40001", "40P01",  # serialization failure, deadlock
    "55P03", "57014", "25P03",  # lock, statement, idle-in-transaction timeout
})  # fmt: skip
_QUERY_TIMEOUT = "57014"
_BROKEN_CLASSES = ("08", "57P")
"""Prefixes of SQLSTATEs of lost connections: connection exception, server is shutting down or starting up."""
_REFUSING_CLASSES = ("25006", "53", "58", "XX")
"""Prefixes of SQLSTATEs of a server that cannot write, whatever the statement: read-only transaction (during a
failover), insufficient resources, I/O error, corruption."""
_UNAVAILABLE_CLASSES = (*_BROKEN_CLASSES, *_REFUSING_CLASSES)
_LOCKED_OUT_CLASSES = ("28", "3D")
"""Prefixes of SQLSTATEs for an invalid password or unknown database: an operator has to act, a retry is pointless."""
_SCHEMA_CLASS = "42"
"""Prefix of SQLSTATEs for a missing table, function or privilege: the schema is of another version or missing."""
_LOCKED_OUT_TEXTS = (
    "authentication failed", "no pg_hba.conf entry", "does not exist", "is not permitted to log in",
    "не прошёл проверку подлинности", "в pg_hba.conf нет записи", "не существует", "вход запрещён",
)  # fmt: skip
"""Parts of the server's messages about refused connections, for which psycopg2 has no SQLSTATE, in the languages of
lc_messages: English and Russian."""


def get_sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error, or None if the server sent none."""
    return getattr(_origin(error), "pgcode", None)


def is_query_timeout(error: BaseException) -> bool:
    """Return whether PostgreSQL cancelled the statement (57014), normally by statement_timeout."""
    return get_sqlstate(error) == _QUERY_TIMEOUT


def is_timeout_or_conflict(error: DriverError) -> bool:
    """Return whether a timeout, a deadline or another transaction made the statement fail."""
    return get_sqlstate(error) in _TRANSIENT or is_deadline_exceeded(error)


def is_deadline_exceeded(error: BaseException) -> bool:
    """Return whether PostgreSQL did not answer before a deadline."""
    return isinstance(_origin(error), DeadlineError)


def refuses_writes(error: DriverError) -> bool:
    """Return whether the server answers but cannot write."""
    return (get_sqlstate(error) or "").startswith(_REFUSING_CLASSES)


def is_outage(error: DriverError) -> bool:
    """Return whether an error is due to load, an outage or misconfiguration, not to a bug.

    SQLSTATE class 42 counts as misconfiguration, because it contains missing tables and privileges.
    """
    code = get_sqlstate(error)
    if code is None:
        origin = _origin(error)
        is_without_message = type(origin) is psycopg2.DatabaseError  # libpq has lost the result of a statement
        return is_without_message or isinstance(
            origin, PoolTimeoutError | psycopg2.OperationalError | psycopg2.InterfaceError
        )
    return code in _TRANSIENT or code.startswith(_UNAVAILABLE_CLASSES) or is_misconfigured(error)


def is_unavailable(error: DriverError) -> bool:
    """Return whether the server is unreachable, refuses the login, or cannot write.

    Other statements would then fail, too, except that a server that cannot write may still answer queries.
    """
    return _is_lost_or_in_class(error, (*_UNAVAILABLE_CLASSES, *_LOCKED_OUT_CLASSES))


def is_connection_lost(error: DriverError) -> bool:
    """Return whether the connection was lost, so that the state of its transaction is unknown."""
    return _is_lost_or_in_class(error, _BROKEN_CLASSES)


def is_misconfigured(error: DriverError) -> bool:
    """Return whether only an operator can fix the cause, so that a retry is pointless."""
    code = get_sqlstate(error)
    if code is not None:
        return code.startswith((*_LOCKED_OUT_CLASSES, _SCHEMA_CLASS))
    return any(text in str(_origin(error)) for text in _LOCKED_OUT_TEXTS)


def describe(error: DriverError) -> str:
    """Describe an error by class, SQLSTATE and constraint; by its message if connecting failed.

    The messages of other errors may contain personal data.
    """
    origin = _origin(error)
    if isinstance(origin, ConnectError):
        return str(origin)
    constraint = getattr(getattr(origin, "diag", None), "constraint_name", None)
    return " ".join(filter(None, (type(origin).__name__, get_sqlstate(error), constraint)))


def _is_lost_or_in_class(error: DriverError, classes: tuple[str, ...]) -> bool:
    code = get_sqlstate(error)
    return not isinstance(error, PoolTimeoutError) if code is None else code.startswith(classes)


def _origin(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error
