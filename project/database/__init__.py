"""Access to PostgreSQL: deadline, retries, circuit breaker, prepared statements, replica."""

from project.database.database import Database, QueryError
from project.database.deadline import DeadlineError, deadline, install_wait_callback, remaining_seconds, reserve_seconds
from project.database.group_commit import Member
from project.database.hosts import install_host_failover
from project.database.prepared import PreparedQuery, PreparedStatement, Row
from project.database.replica import ReadDatabase

__all__ = [
    "Database",
    "DeadlineError",
    "Member",
    "PreparedQuery",
    "PreparedStatement",
    "QueryError",
    "ReadDatabase",
    "Row",
    "deadline",
    "install_host_failover",
    "install_wait_callback",
    "remaining_seconds",
    "reserve_seconds",
]
