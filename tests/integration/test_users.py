"""What use cases promise of users, whoever asks for them: an administrator is always left, nobody is mistaken."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text

from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import RefusalError
from project.domain.passwords import hash_key, new_key
from project.domain.registration import NewUser
from project.runtime import Runtime
from project.services import registration
from project.services import users as service

NOBODY = UUID("0190b0e5-0000-7000-8000-000000000000")


def create(
    runtime: Runtime, username: str, *, is_admin: bool = False, phone: str | None = None, email: str = ""
) -> UUID:
    """Create a user; return the number."""
    now = datetime.now(UTC)
    key = new_key()
    attempt = NewAttempt(
        id=new_id(now),
        received_at=now,
        started=0.0,
        method="POST",
        language="en",
        client_address="",
        user_agent="",
        client_request_id=None,
        key_hash=hash_key(key),
    )
    email = email or f"{username.replace('@', '.')}@example.org"
    new_user = NewUser(name=username, username=username, phone=phone, email=email, birth_date=None)
    registration.register(runtime.database, runtime.passwords, attempt, key, new_user, is_admin=is_admin)
    return attempt.id


def standing(runtime: Runtime) -> dict[str, tuple[bool, bool, int]]:
    """Return whether each user can log in and is an administrator, and how often the sessions ended."""
    question = text("select username, is_active, is_admin, epoch from users")
    rows = runtime.database.read_transaction(lambda connection: list(connection.execute(question)))
    return {row.username: (row.is_active, row.is_admin, row.epoch) for row in rows}


@pytest.mark.parametrize("deed", [service.block, service.revoke_admin])
def test_the_last_administrator_stays(runtime: Runtime, deed: Callable[..., str]) -> None:
    boss = create(runtime, "boss", is_admin=True)
    blocked = create(runtime, "former", is_admin=True)
    service.block(runtime.database, blocked, by=boss)
    before = standing(runtime)

    with pytest.raises(RefusalError) as caught:
        deed(runtime.database, boss, by=None)

    assert (caught.value.code, caught.value.variant) == ("forbidden", "last_admin")
    assert standing(runtime) == before


@pytest.mark.parametrize("deed", [service.block, service.revoke_admin])
def test_one_of_two_administrators_may_go(runtime: Runtime, deed: Callable[..., str]) -> None:
    create(runtime, "boss", is_admin=True)
    other = create(runtime, "other", is_admin=True)

    deed(runtime.database, other, by=None)

    assert standing(runtime)["boss"] == (True, True, 0)
    assert standing(runtime)["other"] in {(False, True, 1), (True, False, 1)}


def test_two_administrators_who_withdraw_each_others_rights_at_once_leave_one(runtime: Runtime) -> None:
    ends: list[str] = []
    for _ in range(5):
        names = f"a{len(ends)}", f"b{len(ends)}"
        runtime.database.write_transaction(
            lambda connection: connection.execute(text("update users set is_admin = false"))
        )
        first, second = (create(runtime, name, is_admin=True) for name in names)
        begin = threading.Barrier(2)

        def withdraw(victim: UUID, by: UUID, begin: threading.Barrier = begin) -> None:
            begin.wait()
            try:
                ends.append(service.revoke_admin(runtime.database, victim, by=by))
            except RefusalError as error:
                ends.append(error.variant)

        threads = [threading.Thread(target=withdraw, args=pair) for pair in ((first, second), (second, first))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        left = [name for name, (_, is_admin, _) in standing(runtime).items() if is_admin]
        assert len(left) == 1

    assert ends.count("last_admin") == 5


@pytest.mark.parametrize("deed", [service.block, service.unblock, service.grant_admin, service.revoke_admin])
def test_every_change_ends_the_sessions(runtime: Runtime, deed: Callable[..., str]) -> None:
    create(runtime, "boss", is_admin=True)
    user = create(runtime, "somebody")

    assert deed(runtime.database, user, by=None) == "somebody"

    assert standing(runtime)["somebody"][2] == 1
    assert standing(runtime)["boss"][2] == 0


@pytest.mark.parametrize("deed", [service.block, service.unblock, service.grant_admin, service.revoke_admin])
def test_nobody_is_changed_who_is_not_there(runtime: Runtime, deed: Callable[..., str]) -> None:
    with pytest.raises(RefusalError) as caught:
        deed(runtime.database, NOBODY, by=None)

    assert caught.value.code == "not_found"


def test_no_password_is_issued_to_who_is_not_there(runtime: Runtime) -> None:
    with pytest.raises(RefusalError, match="not_found"):
        service.reset_password(runtime.database, runtime.passwords, NOBODY, by=None)


def test_a_user_is_meant_by_username_first_then_by_phone_or_email(runtime: Runtime) -> None:
    anna = create(runtime, "anna", phone="+79125550141", email="boris@example.org")
    boris = create(runtime, "boris@example.org")
    region = runtime.config.phone_region

    def found(login: str) -> UUID | None:
        account = service.find_by_login(runtime.database, login, region)
        return None if account is None else account.id

    assert found("ANNA") == found("8 (912) 555-01-41") == anna
    assert found("boris@example.org") == boris, "a username wins over another's e-mail"
    assert found("nobody") is found("") is None
