"""PostgreSQL may be away: every transaction is bounded by a deadline, and an outage is recognised in one place."""

from project.outage.connecting import connect_in_turn
from project.outage.database import Database, QueryError
from project.outage.deadline import DeadlineError, deadline, install, remaining
from project.outage.errors import is_timeout
from project.outage.replica import Reading
from project.outage.statement import Question, Row, Statement

__all__ = [
    "Database",
    "DeadlineError",
    "QueryError",
    "Question",
    "Reading",
    "Row",
    "Statement",
    "connect_in_turn",
    "deadline",
    "install",
    "is_timeout",
    "remaining",
]
