"""What must be true after every fault, checked from outside (the idea of Jepsen).

I1 every attempt that was answered is recorded, once        I5 nobody idles in a transaction
I2 there is a user for each attempt with 201, and no other  I6 no ERROR without a cause
I3 every password that was answered opens its login         I7 no secret in logs, spool, statistics
I4 what is recorded as answered is what the client saw
"""

import random
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg2

from tests.chaos.load import KEY_MARK, Answer, Client, summary
from tests.chaos.processes import eventually
from tests.chaos.service import Service

HIDDEN_S = 2.0
"""An absence that no request notices: shorter than the deadline by the longest pause between two tries."""
DRAIN_S = 10.0
"""How long the spool may take until everything is in the table."""
IDLE_S = 6.0
"""PostgreSQL itself ends a session that idles in a transaction for 4 s."""
SHOWN = 5
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_DIGITS = re.compile(r"(?=(9\d{9}))")
_PASSWORD = re.compile(r"[a-km-np-z2-9]{5}(?:-[a-km-np-z2-9]{5,6})+")


class Tables(Protocol):
    """A PostgreSQL, whichever: what it keeps, and what it said."""

    @property
    def log(self) -> Path:
        """What the server said."""

    def execute(self, sql: str, parameters: object = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""


@dataclass(frozen=True)
class _Row:
    """An attempt as it is recorded."""

    status: int
    answered: int | None
    code: str
    via: str


def check(
    postgres: Tables,
    service: Service,
    answers: Iterable[Answer],
    *,
    allowed_errors: Collection[str] = (),
    drain_s: float = DRAIN_S,
    logins: int = 5,
) -> None:
    """Raise AssertionError unless I1 to I7 hold. `allowed_errors` are texts of ERROR lines that the fault explains."""
    answers = list(answers)
    _recorded_as_answered(postgres, service, answers, drain_s)
    _users_are_created_attempts(postgres, answers)
    _passwords_open(postgres, service, answers, logins)
    _nobody_idles(postgres)
    _no_unexplained_errors(service, allowed_errors)
    _no_secrets(postgres, service, answers)


def _recorded_as_answered(postgres: Tables, service: Service, answers: Sequence[Answer], drain_s: float) -> None:
    """I1 and I4."""
    answered = [answer for answer in answers if answer.attempt_id]
    nameless = [answer for answer in answers if answer.status is not None and not answer.attempt_id]
    assert not nameless, f"I1: answers without attempt_id: {summary(nameless)}: {nameless[0].json}"
    twice = [number for number, count in Counter(answer.attempt_id for answer in answered).items() if count > 1]
    assert not twice, f"I1: attempt ids that were given to two requests: {twice[:SHOWN]}"
    _logged(service, [answer for answer in answered if answer.json.get("recorded") is False])
    due = {str(answer.attempt_id): answer for answer in answered if answer.json.get("recorded") is not False}
    found: list[str] = []

    def differences() -> list[str]:
        rows = _rows(postgres, list(due))
        found[:] = [fault for number, answer in due.items() if (fault := _difference(answer, rows.get(number)))]
        return found

    try:
        eventually(lambda: not differences(), drain_s, "")
    except AssertionError:
        shown = "\n".join(found[:SHOWN])
        raise AssertionError(
            f"I1/I4: {len(found)} of {len(due)} attempts are not recorded as answered, {drain_s} s later:\n{shown}"
        ) from None


def _rows(postgres: Tables, numbers: list[str]) -> dict[str, _Row]:
    question = "select id::text, status, answered, code, via from attempts where id = any(%s::uuid[])"
    return {number: _Row(*rest) for number, *rest in postgres.execute(question, [numbers])}


def _difference(answer: Answer, row: _Row | None) -> str | None:
    """Say what is wrong with the record of an answer, if anything is."""
    if row is None:
        return f"{answer.attempt_id} answered {answer.status} {answer.code}: I1, not recorded"
    happened = 200 if answer.is_replay else answer.status
    may_differ = answer.code == "outcome_unknown"
    if row.answered == answer.status and (row.status == happened or may_differ):
        return None
    return f"{answer.attempt_id} answered {answer.status} {answer.code}: I4, recorded as {row}"


def _logged(service: Service, answers: list[Answer]) -> None:
    """An attempt that could not be recorded anywhere says so in its answer and stands in the log (promise P2)."""
    logged = {line.get("attempt_id") for line in service.log_lines() if line.get("level") == "ERROR"}
    missing = [answer.attempt_id for answer in answers if answer.attempt_id not in logged]
    assert not missing, f"I1: neither recorded nor in an ERROR line of the log: {missing[:SHOWN]}"


def _users_are_created_attempts(postgres: Tables, answers: Sequence[Answer]) -> None:
    """I2, for the whole tables; and what the clients were told is among it."""
    odd = postgres.execute(
        "select coalesce(a.id, u.id)::text, a.status, u.username from attempts a full join users u on u.id = a.id"
        " where (a.status is not distinct from 201) <> (u.id is not null)"
    )
    assert not odd, f"I2: {len(odd)} attempts with 201 without user, or users without such an attempt: {odd[:SHOWN]}"
    told = {answer.json["user"]["id"]: answer.json["login"] for answer in answers if answer.status == 201}
    question = "select id::text, username from users where id = any(%s::uuid[])"
    kept: dict[str, str] = dict(postgres.execute(question, [list(told)]))
    lost = [number for number, login in told.items() if kept.get(number) != login]
    assert not lost, f"I2: {len(lost)} users were answered with 201 and do not exist: {lost[:SHOWN]}"
    doubled = postgres.execute("select lower(username) from users group by 1 having count(*) > 1")
    assert not doubled, f"I2: usernames of two users: {doubled[:SHOWN]}"


def _passwords_open(postgres: Tables, service: Service, answers: Sequence[Answer], logins: int) -> None:
    """I3: all of them by the rule that checks passwords, some through the form."""
    issued = sorted({(answer.json["login"], answer.json["password"]) for answer in answers if answer.status == 201})
    question = "select username, password_hash from users where username = any(%s)"
    kept: dict[str, str] = dict(postgres.execute(question, [[login for login, _ in issued]]))
    passwords = service.passwords
    shut = [login for login, password in issued if not passwords.verify(password, kept.get(login, ""))]
    assert not shut, f"I3: {len(shut)} answered passwords do not open their login: {shut[:SHOWN]}"
    client = Client(service)
    try:
        some = random.sample(issued, min(logins, len(issued)))
        shut = [login for login, password in some if not client.log_in(login, password)]
    finally:
        client.close()
    assert not shut, f"I3: answered passwords that do not open their login at /login/: {shut}"


def _nobody_idles(postgres: Tables) -> None:
    """I5."""
    question = "select pid, application_name, query from pg_stat_activity where state like 'idle in transaction%'"
    eventually(lambda: not postgres.execute(question), IDLE_S, "I5: sessions idle in a transaction")


def _no_unexplained_errors(service: Service, allowed: Collection[str]) -> None:
    """I6. What is no JSON (a traceback, a warning of Python) counts as an error."""
    errors = [line for line in service.log_lines() if line.get("level") in {"ERROR", "CRITICAL", "TEXT"}]
    odd = [line for line in errors if not any(text in str(line) for text in allowed)]
    assert not odd, f"I6: {len(odd)} unexplained errors in the log: {odd[:SHOWN]}"


def _no_secrets(postgres: Tables, service: Service, answers: Sequence[Answer]) -> None:
    """I7: passwords, keys, full e-mails and phones, and the secrets of the service."""
    secrets = _secrets(answers)
    places = service.texts() | {str(postgres.log): postgres.log.read_text(errors="replace")}
    places |= {"table attempts": _dump(postgres, answers)}
    for place, text in places.items():
        candidates = {*_EMAIL.findall(text), *_DIGITS.findall(text), *_PASSWORD.findall(text)}
        shown = sorted(candidates & secrets)
        assert not shown, f"I7: {len(shown)} secrets in {place}: {shown[:SHOWN]}"
        own = [secret for secret in service.own_secrets() | {KEY_MARK} if secret in text]
        assert not own, f"I7: {own} in {place}"


def _secrets(answers: Iterable[Answer]) -> set[str]:
    found: set[Any] = set()
    for answer in answers:
        found |= {answer.sent.get("email"), answer.sent.get("phone", "")[-10:], answer.json.get("password")}
    return found - {None, ""}


def _dump(postgres: Tables, answers: Iterable[Answer]) -> str:
    numbers = [answer.attempt_id for answer in answers if answer.attempt_id]
    question = "select row_to_json(a)::text from attempts a where id = any(%s::uuid[])"
    try:
        return "\n".join(text for (text,) in postgres.execute(question, [numbers]))
    except psycopg2.Error as error:
        raise AssertionError(f"I7: the attempts cannot be read: {error}") from error
