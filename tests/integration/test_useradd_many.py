"""useradd_many() decides a group as its predecessor useradd() decides one by one."""

import hashlib
import json
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg2
import pytest

from project.database import QueryError
from project.domain.attempts import new_id
from project.domain.errors import IdentifiersTakenError
from project.domain.passwords import new_idempotency_key
from project.domain.registration import Credentials, Registration
from project.runtime import Runtime
from project.services import registration
from tests.conftest import Rows
from tests.integration.test_registration import new_attempt, new_user

pytestmark = pytest.mark.slow  # compares random groups, and waits for locks

ARGUMENTS = (
    "id", "received_at", "duration_ms", "method", "phone_masked", "email_masked", "sent", "language", "client_address",
    "user_agent", "client_request_id", "key_hash", "fingerprint", "kid", "name", "username", "username_folded", "phone",
    "email", "email_folded", "birth_date", "password_hash", "is_admin",
)  # fmt: skip
"""Arguments of useradd(), in its order."""
TABLES = {
    "attempts": "to_jsonb(t) - 'seq'",
    "users": "to_jsonb(t)",
    "identifiers": "to_jsonb(t)",
    "idempotency_keys": "to_jsonb(t)",
}
Arguments = dict[str, Any]


class Outcome(NamedTuple):
    """The result of a way to decide, and the rows that it leaves in the tables."""

    decisions: list[tuple[Any, ...]]
    rows: list[list[Any]]


class World:
    """A connection whose transaction is never committed, and the random attempts in it."""

    def __init__(self, url: str, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - the same attempts in each run
        self._connection = psycopg2.connect(url)
        self.known: list[Arguments] = []

    def close(self) -> None:
        """Roll everything back."""
        self._connection.close()

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement and return its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def fill(self) -> None:
        """Process some attempts; change passwords and let keys expire."""
        self.known = [self.attempt() for _ in range(30)]
        for arguments in self.known:
            self._useradd(arguments)
        replayed = [
            arguments | {"id": str(new_id(datetime.now(UTC)))} for arguments in self.random.sample(self.known, 6)
        ]
        for arguments in replayed:
            self._useradd(arguments)
        self.known += replayed
        self.query("update users set password_changed_at = now() where random() < 0.3")
        self.query("update idempotency_keys set expires_at = now() where random() < 0.2")

    def attempt(self) -> Arguments:
        """Return the arguments of a random attempt, whose values have often been used."""
        number = self.random.randrange(40)
        phone = self.random.choice([None, f"+7999{self.random.randrange(40):07}"])
        email = (
            f"{self.random.randrange(40)}@Example.org"
            if phone is None
            else self.random.choice([None, f"{number}@example.net"])
        )
        now = datetime.now(UTC)
        return {
            "id": str(new_id(now)),
            "received_at": now.isoformat(),
            "duration_ms": number,
            "method": "POST",
            "phone_masked": phone and "+7 999 •••-••-67",
            "email_masked": email and "i•••@example.org",
            "sent": {"name": "Анна Ли", "username": f"User{number}"},
            "language": "ru",
            "client_address": "192.0.2.1",
            "user_agent": "test",
            "client_request_id": self.random.choice([None, "r1"]),
            "key_hash": hashlib.sha256(b"%d" % self.random.randrange(60)).hexdigest(),
            "fingerprint": hashlib.sha256(b"%d" % number).hexdigest(),
            "kid": "kid",
            "name": "Анна Ли",
            "username": f"User{number}",
            "username_folded": f"user{number}",
            "phone": phone,
            "email": email,
            "email_folded": email and email.lower(),
            "birth_date": self.random.choice([None, "1990-12-31"]),
            "password_hash": "x",
            "is_admin": self.random.random() < 0.1,
        }

    def group(self, size: int) -> list[Arguments]:
        """Return up to `size` new and repeated attempts that claim nothing in common."""
        group: list[Arguments] = []
        claimed: set[tuple[str, str]] = set()
        for _ in range(size):
            arguments = self.attempt()
            choice = self.random.random()
            if choice < 0.2:
                arguments = self.random.choice(self.known)
            elif choice < 0.5:
                known = self.random.choice(self.known)
                arguments |= {"key_hash": known["key_hash"], "fingerprint": known["fingerprint"]}
            claims = {
                (name, arguments[name]) for name in ("id", "key_hash", "username_folded", "phone", "email_folded")
            }
            claims = {claim for claim in claims if claim[1]}
            if not claims & claimed:
                claimed |= claims
                group.append(arguments)
        return group

    def decide(self, *, together: bool, group: Sequence[Arguments]) -> Outcome:
        """Process a group; return the result and roll back."""
        self.query("savepoint before")
        decisions = self._useradd_many(group) if together else [self._useradd(arguments) for arguments in group]
        rows = [
            [row for (row,) in self.query(f"select {row} from {table} t order by 1")]  # noqa: S608 - constant names
            for table, row in TABLES.items()
        ]
        self.query("rollback to before")
        return Outcome(decisions, rows)

    def decide_and_commit(self, group: Sequence[Arguments]) -> list[str]:
        """Decide a group and return the codes."""
        decisions = self._useradd_many(group)
        self.query("commit")
        return [decision[1] for decision in decisions]

    def _useradd(self, arguments: Arguments) -> tuple[Any, ...]:
        values = [json.dumps(value) if isinstance(value, dict) else value for value in map(arguments.get, ARGUMENTS)]
        for place in (ARGUMENTS.index("key_hash"), ARGUMENTS.index("fingerprint")):
            values[place] = bytes.fromhex(str(values[place]))
        [decision] = self.query(f"select * from useradd({', '.join(['%s'] * len(ARGUMENTS))})", *values)  # noqa: S608
        return _normalized(decision)

    def _useradd_many(self, group: Sequence[Arguments]) -> list[tuple[Any, ...]]:
        return [_normalized(decision) for decision in self.query("select * from useradd_many(%s)", json.dumps(group))]


def _normalized(decision: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a decision with None for no clashes."""
    return tuple(value or None for value in decision)


@pytest.fixture
def url(runtime: Runtime, postgres_url: str) -> str:
    """The address of empty tables."""
    return postgres_url


@pytest.fixture(params=range(40))
def world(request: pytest.FixtureRequest, url: str) -> Iterator[World]:
    """A filled world of its own seed."""
    with closing(World(url, request.param)) as world:
        world.query("select setseed(%s)", request.param / 40)
        world.fill()
        yield world


def test_a_group_is_decided_as_its_attempts_are_one_by_one(world: World) -> None:
    for size in (1, 2, 5, 30, 60):
        group = world.group(size)

        together = world.decide(together=True, group=group)

        assert together == world.decide(together=False, group=group)


def test_the_random_groups_contain_every_kind_of_decision(url: str) -> None:
    found = set()
    for seed in range(20):
        with closing(World(url, seed)) as world:
            world.fill()
            group = world.group(60)
            ids = {arguments["id"] for arguments in world.known}
            decisions = world.decide(together=True, group=group).decisions
            found |= {
                (decision[1], arguments["id"] in ids) for decision, arguments in zip(decisions, group, strict=True)
            }

    assert found >= {
        (code, is_known)
        for code in ("created", "replayed", "username_taken", "phone_taken", "idempotency_key_reused")
        for is_known in (False, True)
    } | {("credentials_changed", False), ("email_taken", False)}


@pytest.mark.parametrize("commits", [True, False])
def test_a_group_waits_for_an_undecided_attempt_with_its_key_and_decides_by_its_outcome(
    url: str, rows: Rows, commits: bool
) -> None:
    with closing(World(url, 1)) as first, closing(World(url, 2)) as second:
        attempt, other = (
            first.attempt(),
            second.attempt() | {"username_folded": "other", "phone": "+79990000099", "email_folded": None},
        )
        first._useradd(attempt)
        again = attempt | {"id": str(new_id(datetime.now(UTC)))}
        with ThreadPoolExecutor() as threads:
            future = threads.submit(second._useradd_many, [other, again])
            while not rows.query("select from pg_locks where not granted"):
                pass
            first.query("commit" if commits else "rollback")

            assert [decision[1] for decision in future.result()] == ["created", "replayed" if commits else "created"]


def test_groups_that_want_the_same_in_another_order_wait_instead_of_deadlocking(url: str, rows: Rows) -> None:
    def wanting(world: World, number: int) -> Arguments:
        name, email = f"user{number}", f"{number}@example.com"
        named = {"username": name, "username_folded": name, "phone": None, "email": email, "email_folded": email}
        return world.attempt() | named | {"key_hash": hashlib.sha256(new_idempotency_key().encode()).hexdigest()}

    with closing(World(url, 1)) as holder, closing(World(url, 2)) as first, closing(World(url, 3)) as second:
        holder._useradd(wanting(holder, 5))
        numbers = list(range(10))
        with ThreadPoolExecutor() as threads:
            waiting = [
                threads.submit(world.decide_and_commit, [wanting(world, number) for number in order])
                for world, order in ((first, numbers), (second, numbers[::-1]))
            ]
            while len(rows.query("select from pg_locks where not granted")) < 2:
                pass
            holder.query("rollback")
            results = [future.result() for future in waiting]

    assert sorted(map(set, results), key=str) == [{"created"}, {"username_taken"}]


def test_overlapping_groups_never_deadlock_and_each_identifier_has_one_owner(
    runtime: Runtime, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """Each round, all threads want the same users, in another order."""
    rounds, start = 25, threading.Barrier(4)

    def compete(seed: int) -> list[Credentials | Exception]:
        shuffle, results = random.Random(seed).shuffle, []  # noqa: S311
        for number in range(rounds):
            wanted = [
                Registration(
                    attempt=new_attempt(key := new_idempotency_key()),
                    key=key,
                    new_user=new_user(username=f"user-{number}-{index}", email=f"{number}-{index + shift}@example.org"),
                )
                for shift in (0, 1)
                for index in range(0, 20, 2)
            ]
            shuffle(wanted)
            start.wait()
            results += registration.register_many(runtime.database, runtime.passwords, wanted)
        return results

    with ThreadPoolExecutor(4) as threads:
        results = [result for results in threads.map(compete, range(4)) for result in results]

    assert {type(result) for result in results} == {Credentials, IdentifiersTakenError}
    assert "DeadlockDetected" not in caplog.text
    users = [result for result in results if isinstance(result, Credentials)]
    assert len(users) == len({user.login for user in users}) == len(rows.of("users"))
    assert len(rows.attempts()) == len(results)
    for index in range(0, 20, 2):  # nobody was refused in favour of a user that does not exist
        assert any(user.login.endswith(f"-{index}") for user in users)
    assert len(users) == rounds * 10


def test_attempts_of_one_call_are_decided_in_order_even_if_they_claim_the_same(runtime: Runtime, rows: Rows) -> None:
    key = new_idempotency_key()
    wanted = [
        Registration(attempt=new_attempt(one), key=one, new_user=user)
        for one, user in [
            (key, new_user()),
            (new_idempotency_key(), new_user(username="other")),
            (new_idempotency_key(), new_user(username="other", email="other@example.org")),
            (key, new_user()),
        ]
    ]

    first, clash, other, again = registration.register_many(runtime.database, runtime.passwords, wanted)

    assert isinstance(first, Credentials)
    assert isinstance(clash, IdentifiersTakenError)
    assert isinstance(other, Credentials)
    assert isinstance(again, Credentials)
    assert (again.replayed, again.password, again.user.id) == (True, first.password, first.user.id)
    assert sorted(rows.outcomes()) == [(200, "replayed"), (201, "created"), (201, "created"), (409, "email_taken")]


def test_an_attempt_that_postgresql_rejects_costs_no_other_one_its_user(runtime: Runtime, rows: Rows) -> None:
    wanted = [
        Registration(
            attempt=new_attempt(key := new_idempotency_key()),
            key=key,
            new_user=new_user(username=f"user{index}", email=None if index == 1 else f"{index}@example.org"),
        )
        for index in range(3)
    ]

    results = registration.register_many(runtime.database, runtime.passwords, wanted)

    assert [type(result) for result in results] == [Credentials, QueryError, Credentials]
    assert {UUID(str(row["id"])) for row in rows.of("users")} == {wanted[0].attempt.id, wanted[2].attempt.id}
    assert rows.outcomes() == [(201, "created"), (201, "created")]
