"""Use cases of users: one administrator always remains, and logins are unambiguous."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text

from project.database import Database
from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import RefusalError
from project.domain.passwords import hash_idempotency_key, new_idempotency_key
from project.domain.registration import NewUser, Role
from project.runtime import Runtime
from project.services import registration
from project.services import users as service

NOBODY = UUID("0190b0e5-0000-7000-8000-000000000000")


def create(
    runtime: Runtime, username: str, *, is_admin: bool = False, phone: str | None = None, email: str = ""
) -> UUID:
    """Create a user and return the id."""
    now = datetime.now(UTC)
    key = new_idempotency_key()
    attempt = NewAttempt(
        id=new_id(now),
        received_at=now,
        started=0.0,
        method="POST",
        language="en",
        client_address="",
        user_agent="",
        client_request_id=None,
        key_hash=hash_idempotency_key(key),
    )
    email = email or f"{username.replace('@', '.')}@example.org"
    new_user = NewUser(name=username, username=username, phone=phone, email=email, birth_date=None)
    registration.register(runtime.database, runtime.passwords, attempt, key, new_user, is_admin=is_admin)
    return attempt.id


def states(runtime: Runtime) -> dict[str, tuple[bool, bool, int]]:
    """Return for each user: active, administrator, session epoch."""
    statement = text("select username, is_active, is_admin, epoch from users")
    rows = runtime.database.read_transaction(lambda connection: list(connection.execute(statement)))
    return {row.username: (row.is_active, row.is_admin, row.epoch) for row in rows}


def grant_administrator(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Make a user an administrator."""
    return service.grant_role(database, user_id, Role.ADMINISTRATOR, by)


def make_auditor(database: Database, user_id: UUID, by: UUID | None) -> str:
    """Make a user an auditor."""
    return service.grant_role(database, user_id, Role.AUDITOR, by)


@pytest.mark.parametrize("action", [service.block_user, service.revoke_role, make_auditor])
def test_the_last_administrator_cannot_be_blocked_or_demoted(runtime: Runtime, action: Callable[..., str]) -> None:
    boss = create(runtime, "boss", is_admin=True)
    blocked = create(runtime, "former", is_admin=True)
    service.block_user(runtime.database, blocked, by=boss)
    before = states(runtime)

    with pytest.raises(RefusalError) as caught:
        action(runtime.database, boss, by=None)

    assert (caught.value.code, caught.value.variant) == ("forbidden", "last_admin")
    assert states(runtime) == before


@pytest.mark.parametrize("action", [service.block_user, service.revoke_role, make_auditor])
def test_one_of_two_administrators_can_be_blocked_or_demoted(runtime: Runtime, action: Callable[..., str]) -> None:
    create(runtime, "boss", is_admin=True)
    other = create(runtime, "other", is_admin=True)

    action(runtime.database, other, by=None)

    assert states(runtime)["boss"] == (True, True, 0)
    assert states(runtime)["other"] in {(False, True, 1), (True, False, 1)}


def test_one_administrator_is_left_when_two_demote_each_other_at_once(runtime: Runtime) -> None:
    results: list[str] = []
    for _ in range(5):
        names = f"a{len(results)}", f"b{len(results)}"
        runtime.database.write_transaction(
            lambda connection: connection.execute(text("update users set is_admin = false"))
        )
        first, second = (create(runtime, name, is_admin=True) for name in names)
        barrier = threading.Barrier(2)

        def withdraw(victim: UUID, by: UUID, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                results.append(service.revoke_role(runtime.database, victim, by=by))
            except RefusalError as error:
                results.append(error.variant)

        threads = [threading.Thread(target=withdraw, args=pair) for pair in ((first, second), (second, first))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = [name for name, (_, is_admin, _) in states(runtime).items() if is_admin]
        assert len(left) == 1

    assert results.count("last_admin") == 5


@pytest.mark.parametrize("action", [service.block_user, service.unblock_user, grant_administrator, service.revoke_role])
def test_every_change_of_a_user_ends_the_sessions(runtime: Runtime, action: Callable[..., str]) -> None:
    create(runtime, "boss", is_admin=True)
    user = create(runtime, "somebody")

    assert action(runtime.database, user, by=None) == "somebody"

    assert states(runtime)["somebody"][2] == 1
    assert states(runtime)["boss"][2] == 0


@pytest.mark.parametrize("action", [service.block_user, service.unblock_user, grant_administrator, service.revoke_role])
def test_changing_an_unknown_user_is_refused(runtime: Runtime, action: Callable[..., str]) -> None:
    with pytest.raises(RefusalError) as caught:
        action(runtime.database, NOBODY, by=None)

    assert caught.value.code == "not_found"


@pytest.mark.parametrize("role", Role)
def test_a_role_replaces_the_former_one_and_the_flag_of_the_previous_version_follows(
    runtime: Runtime, role: Role
) -> None:
    create(runtime, "boss", is_admin=True)
    other = create(runtime, "other", is_admin=True)

    service.grant_role(runtime.database, other, role, by=None)

    (user,) = service.find_users_by_login(runtime.database, "other", "RU")
    assert user.role is role
    assert states(runtime)["other"][1] == (role is Role.ADMINISTRATOR)


@pytest.mark.parametrize(
    ("before", "statement", "after"),
    [
        ("user", "is_admin = true", "administrator"),
        ("administrator", "is_admin = false", "user"),
        ("auditor", "is_admin = true", "administrator"),
        ("auditor", "is_admin = false", "auditor"),
        ("administrator", "is_admin = true, is_active = false", "administrator"),
        ("user", "role = 'administrator', is_admin = false", "administrator"),
        ("administrator", "role = 'auditor', is_admin = true", "auditor"),
    ],
)
def test_the_previous_version_can_change_administrators_while_both_run(
    runtime: Runtime, before: str, statement: str, after: str
) -> None:
    create(runtime, "somebody")
    change = "with changed as (update users set {} returning role, is_admin) select * from changed"

    def run(values: str) -> list[tuple[object, ...]]:
        sql = text(change.format(values))
        return runtime.database.write_transaction(lambda connection: list(map(tuple, connection.execute(sql))))

    assert run(f"role = '{before}'") == [(before, before == "administrator")]
    assert run(statement) == [(after, after == "administrator")]


def test_resetting_the_password_of_an_unknown_user_is_refused(runtime: Runtime) -> None:
    with pytest.raises(RefusalError, match="not_found"):
        service.reset_password(runtime.database, runtime.passwords, NOBODY, by=None)


def test_a_login_finds_every_user_that_has_it(runtime: Runtime) -> None:
    anna = create(runtime, "anna", phone="+79125550141", email="boris@example.org")
    boris = create(runtime, "boris@example.org")
    region = runtime.config.phone_region

    def found(login: str) -> list[UUID]:
        return [user.id for user in service.find_users_by_login(runtime.database, login, region)]

    assert found("ANNA") == found("8 (912) 555-01-41") == found(f"id:{anna}") == [anna]
    assert found("boris@example.org") == [anna, boris], "the username of one, the e-mail of the other"
    assert found("nobody") == found("") == found("id:nobody") == found(f"id:{NOBODY}") == []
