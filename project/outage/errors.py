"""What an error of psycopg2 means: a defect of ours, a passing trouble, an absent server, a wrong configuration.

psycopg2 often gives no SQLSTATE (for killed, restarted and refused connections): then the class of the error decides.
Codes: PostgreSQL documentation, appendix A.
"""

import psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

Trouble = DBAPIError | psycopg2.Error | PoolTimeoutError
"""SQLAlchemy wraps what psycopg2 raises; a statement that goes past it raises psycopg2's own."""

_PASSING = frozenset({
    "40001", "40P01",  # serialization failure, deadlock
    "55P03", "57014", "25P03",  # lock, statement, idle-in-transaction timeout
})  # fmt: skip
_BROKEN_CLASSES = ("08", "57P")
"""Connection exceptions; shutdown, crash recovery, starting up."""
_AWAY_CLASSES = (*_BROKEN_CLASSES, "25006", "53", "58", "XX")
"""Also read-only (a failover under way); no disk, no memory, no slots; a disk that fails, a server that is damaged:
no fault of the statement."""
_LOCKED_OUT_CLASSES = ("28", "3D")
"""Wrong password, no such database: trying again at once cannot help, an operator can."""
_SCHEMA_CLASS = "42"
"""No such table, function or right: migrations have not run, or not these."""
_LOCKED_OUT_TEXTS = ("authentication failed", "no pg_hba.conf entry", "does not exist")
"""What libpq says while connecting, where psycopg2 gives no code."""


def sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's own code of an error, None when the server did not get to say one."""
    return getattr(_origin(error), "pgcode", None)


def is_timeout(error: BaseException) -> bool:
    """Tell whether the statement itself took too long (57014), the server being well."""
    return sqlstate(error) == "57014"


def is_outage(error: Trouble) -> bool:
    """Tell an outage, whoever is to blame for it, from a defect in a statement of ours."""
    code = sqlstate(error)
    if code is None:
        return _is_nameless(error)
    return code in _PASSING or code.startswith(_AWAY_CLASSES) or is_misconfigured(error)


def is_away(error: Trouble) -> bool:
    """Tell whether the server serves nobody, as opposed to being busy with what this statement wants."""
    code = sqlstate(error)
    if code is None:
        return not isinstance(error, PoolTimeoutError)
    return code.startswith((*_AWAY_CLASSES, *_LOCKED_OUT_CLASSES))


def is_broken(error: Trouble) -> bool:
    """Tell whether the connection was lost, so that what the server did last is not known."""
    code = sqlstate(error)
    if code is None:
        return not isinstance(error, PoolTimeoutError)
    return code.startswith(_BROKEN_CLASSES)


def is_misconfigured(error: Trouble) -> bool:
    """Tell whether only an operator can help: trying again is no use to the request at hand."""
    code = sqlstate(error)
    if code is not None:
        return code.startswith((*_LOCKED_OUT_CLASSES, _SCHEMA_CLASS))
    return any(text in str(_origin(error)) for text in _LOCKED_OUT_TEXTS)


def cause(error: Trouble) -> str:
    """Name an error without its statement and parameters, which hold personal data."""
    origin = _origin(error)
    constraint = getattr(getattr(origin, "diag", None), "constraint_name", None)
    return " ".join(filter(None, (type(origin).__name__, sqlstate(error), constraint)))


def _is_nameless(error: Trouble) -> bool:
    return isinstance(_origin(error), PoolTimeoutError | psycopg2.OperationalError | psycopg2.InterfaceError)


def _origin(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error
