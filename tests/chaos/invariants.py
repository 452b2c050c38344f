"""Invariants that hold after every fault, checked from outside like a Jepsen test.

I1 every answered attempt is recorded, once                 I5 no session idles in a transaction
I2 there is a user for each attempt with 201, and no other  I6 no ERROR without a cause
I3 every returned password works                            I7 no secret in logs, spool, statistics
I4 the recorded response is what the client got
"""

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg2

from tests.chaos.load import KEY_MARK, Answer, Client, summarize
from tests.chaos.processes import eventually
from tests.chaos.service import Service

HIDDEN_S = 1.5
"""Longest outage that retries hide: the deadline of 3 s less 0.5 s for the disk, 0.5 s between two tries, and a
try on a busy machine."""
DRAIN_S = 10.0
"""Time limit for draining the spool into the table."""
IDLE_S = 6.0
"""Time limit for the end of transactions. PostgreSQL ends a session that idles in one for 4 s."""
MAX_SHOWN = 5
"""Maximum number of examples in a message."""
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_DIGITS = re.compile(r"(?=(9\d{9}))")
_RANDOM = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32,}")
"""Matches an ID or a hash: among 80,000 of each some contain the digits of a phone."""
_PASSWORD = re.compile(r"[a-km-np-z2-9]{5}(?:-[a-km-np-z2-9]{5,6})+")


class Tables(Protocol):
    """Access to the tables and the log of a PostgreSQL server or cluster."""

    @property
    def log(self) -> Path:
        """The server's log file."""

    def execute(self, sql: str, parameters: object = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""


@dataclass(frozen=True)
class _Row:
    """A recorded attempt."""

    status: int
    answered: int | None
    code: str
    via: str


def check_invariants(
    postgres: Tables,
    service: Service,
    answers: Iterable[Answer],
    *,
    allowed_errors: Collection[str] = (),
    drain_s: float = DRAIN_S,
    logins: int = 5,
) -> None:
    """Raise AssertionError unless the invariants I1 to I7 hold.

    `allowed_errors` are texts of ERROR lines that the fault explains.
    """
    answers = list(answers)
    _check_attempts_match_answers(postgres, service, answers, drain_s)
    _check_users_match_attempts(postgres, answers)
    _check_passwords(postgres, service, answers, logins)
    _check_no_idle_transaction(postgres)
    _check_log(service, allowed_errors)
    _check_no_secrets(postgres, service, answers)


def _check_attempts_match_answers(
    postgres: Tables, service: Service, answers: Sequence[Answer], drain_s: float
) -> None:
    """Check I1 and I4 for the answers of a test."""
    answered = [answer for answer in answers if answer.attempt_id]
    without_id = [answer for answer in answers if answer.status is not None and not answer.attempt_id]
    assert not without_id, f"I1: answers without attempt_id: {summarize(without_id)}: {without_id[0].json}"
    counts = Counter(answer.attempt_id for answer in answered)
    duplicates = [attempt_id for attempt_id, count in counts.items() if count > 1]
    assert not duplicates, f"I1: attempt IDs that were given to two requests: {duplicates[:MAX_SHOWN]}"
    _check_unrecorded_are_logged(service, [answer for answer in answered if answer.json.get("recorded") is False])
    expected = {str(answer.attempt_id): answer for answer in answered if answer.json.get("recorded") is not False}
    found: list[str] = []

    def differences() -> list[str]:
        rows = _rows(postgres, list(expected))
        found[:] = [
            difference
            for attempt_id, answer in expected.items()
            if (difference := _difference(answer, rows.get(attempt_id)))
        ]
        return found

    try:
        eventually(lambda: not differences(), drain_s, "")
    except AssertionError:
        shown = "\n".join(found[:MAX_SHOWN])
        raise AssertionError(
            f"I1/I4: {len(found)} of {len(expected)} attempts are not recorded as answered after {drain_s} s:\n{shown}"
        ) from None


def _rows(postgres: Tables, attempt_ids: list[str]) -> dict[str, _Row]:
    query = "select id::text, status, answered, code, via from attempts where id = any(%s::uuid[])"
    return {attempt_id: _Row(*values) for attempt_id, *values in postgres.execute(query, [attempt_ids])}


def _difference(answer: Answer, row: _Row | None) -> str | None:
    """Describe the difference between an answer and its record; return None if there is none."""
    if row is None:
        return f"{answer.attempt_id} answered {answer.status} {answer.code}: I1, not recorded"
    expected = 200 if answer.is_replay else answer.status
    may_differ = answer.code == "outcome_unknown"
    if row.answered == answer.status and (row.status == expected or may_differ):
        return None
    return f"{answer.attempt_id} answered {answer.status} {answer.code}: I4, recorded as {row}"


def _check_unrecorded_are_logged(service: Service, answers: list[Answer]) -> None:
    """Check that attempts answered with `recorded: false` are in the log (promise P2)."""
    logged = {line.get("attempt_id") for line in service.log_lines() if line.get("level") == "ERROR"}
    missing = [answer.attempt_id for answer in answers if answer.attempt_id not in logged]
    assert not missing, f"I1: neither recorded nor in an ERROR line of the log: {missing[:MAX_SHOWN]}"


def _check_users_match_attempts(postgres: Tables, answers: Sequence[Answer]) -> None:
    """Check I2 for the whole tables.

    The tables must also contain the users that were confirmed to clients.
    """
    unmatched = postgres.execute(
        "select coalesce(a.id, u.id)::text, a.status, u.username from attempts a full join users u on u.id = a.id"
        " where (a.status is not distinct from 201) <> (u.id is not null)"
    )
    assert not unmatched, f"I2: {len(unmatched)} attempts with 201 without user, or vice versa: {unmatched[:MAX_SHOWN]}"
    logins = {answer.json["user"]["id"]: answer.json["login"] for answer in answers if answer.status == 201}
    query = "select id::text, username from users where id = any(%s::uuid[])"
    stored: dict[str, str] = dict(postgres.execute(query, [list(logins)]))
    lost = [user_id for user_id, login in logins.items() if stored.get(user_id) != login]
    assert not lost, f"I2: {len(lost)} users were answered with 201 and do not exist: {lost[:MAX_SHOWN]}"
    duplicates = postgres.execute("select lower(username) from users group by 1 having count(*) > 1")
    assert not duplicates, f"I2: usernames of two users: {duplicates[:MAX_SHOWN]}"


def _check_passwords(postgres: Tables, service: Service, answers: Sequence[Answer], logins: int) -> None:
    """Check I3: all passwords against their hashes, some through the login form."""
    issued = sorted({(answer.json["login"], answer.json["password"]) for answer in answers if answer.status == 201})
    query = "select username, password_hash from users where username = any(%s)"
    hashes: dict[str, str] = dict(postgres.execute(query, [[login for login, _ in issued]]))
    passwords = service.passwords
    rejected = [login for login, password in issued if not passwords.verify(password, hashes.get(login, ""))]
    assert not rejected, f"I3: {len(rejected)} returned passwords do not match their hash: {rejected[:MAX_SHOWN]}"
    client = Client(service)
    try:
        sample = random.sample(issued, min(logins, len(issued)))
        rejected = [login for login, password in sample if not client.log_in(login, password)]
    finally:
        client.close()
    assert not rejected, f"I3: returned passwords that /login/ rejects: {rejected}"


def _check_no_idle_transaction(postgres: Tables) -> None:
    """Check I5 within IDLE_S."""
    query = "select pid, application_name, query from pg_stat_activity where state like 'idle in transaction%'"
    eventually(lambda: not postgres.execute(query), IDLE_S, "I5: sessions idle in a transaction")


OUTAGE_AT_START = "PostgreSQL is unavailable: "
"""The plain line that a service writes before its greeting when it starts in an outage."""


def _check_log(service: Service, allowed: Collection[str]) -> None:
    """Check I6; a line that is no JSON (a traceback, a Python warning) counts as an error."""
    errors = [line for line in service.log_lines() if line.get("level") in {"ERROR", "CRITICAL", "TEXT"}]
    explained = [*allowed, OUTAGE_AT_START]
    unexplained = [line for line in errors if not any(text in str(line) for text in explained)]
    assert not unexplained, f"I6: {len(unexplained)} unexplained errors in the log: {unexplained[:MAX_SHOWN]}"


def _check_no_secrets(postgres: Tables, service: Service, answers: Sequence[Answer]) -> None:
    """Check I7: passwords, keys, full e-mails and phones, and the secrets of the service."""
    secrets = _secrets(answers)
    sources = service.texts() | {str(postgres.log): postgres.log.read_text(errors="replace")}
    sources |= {"table attempts": _dump(postgres, answers)}
    for source, text in sources.items():
        numbers = _DIGITS.findall(_RANDOM.sub("", text))
        candidates = {*_EMAIL.findall(text), *numbers, *_PASSWORD.findall(text)}
        leaked = sorted(candidates & secrets)
        assert not leaked, f"I7: {len(leaked)} secrets in {source}: {leaked[:MAX_SHOWN]}"
        own = [secret for secret in service.own_secrets() | {KEY_MARK} if secret in text]
        assert not own, f"I7: {own} in {source}"


def _secrets(answers: Iterable[Answer]) -> set[str]:
    found: set[Any] = set()
    for answer in answers:
        found |= {answer.sent.get("email"), answer.sent.get("phone", "")[-10:], answer.json.get("password")}
    return found - {None, ""}


def _dump(postgres: Tables, answers: Iterable[Answer]) -> str:
    attempt_ids = [answer.attempt_id for answer in answers if answer.attempt_id]
    query = "select row_to_json(a)::text from attempts a where id = any(%s::uuid[])"
    try:
        return "\n".join(text for (text,) in postgres.execute(query, [attempt_ids]))
    except psycopg2.Error as error:
        raise AssertionError(f"I7: the attempts cannot be read: {error}") from error
