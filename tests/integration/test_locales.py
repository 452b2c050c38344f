"""Letter case means the same whatever the locale of the database."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import flask_migrate
import pytest
from flask import Flask
from psycopg2.errors import FeatureNotSupported
from sqlalchemy import Connection, text

from project.domain.attempts import AttemptFilter
from project.domain.errors import RuleError
from project.domain.usernames import check_username, fold_username
from project.extensions import db
from project.queries import attempts
from project.runtime import get_runtime
from tests.builders import IVAN, log_in, useradd
from tests.conftest import MakeApp, administer

pytestmark = pytest.mark.slow  # creates databases

LOCALES = {
    "C": "lc_collate 'C' lc_ctype 'C' locale_provider libc",
    "Turkish": "lc_collate 'C' lc_ctype 'C' locale_provider icu icu_locale 'tr'",
}
OF_ONE_PERSON = (
    *({"username": "İlyas.IVANOV", "name": "İlyas IVANOV"}, {"username": "ЁЛКИН.Пётр", "name": "ЁЛКИН Пётр"}),
    {"username": "Straße.ÉMILE", "name": "Émile Straße"},
)


@pytest.fixture(params=LOCALES)
def located_app(
    request: pytest.FixtureRequest, make_app: MakeApp, postgres_url: str, tmp_path: Path
) -> Iterator[Flask]:
    """The service on a database of this locale."""
    name = f"locale_{request.param.lower()}_{os.getpid()}"
    server = postgres_url.rpartition("/")[0]
    try:
        administer(postgres_url, f"create database {name} template template0 encoding 'UTF8' {LOCALES[request.param]}")
    except FeatureNotSupported:
        pytest.skip("PostgreSQL is built without ICU")
    app = make_app(
        database_url=f"{server}/{name}".replace("postgresql://", "postgresql+psycopg2://"), data_dir=tmp_path
    )
    get_runtime(app).upkeep.ensure_running = lambda: None  # type: ignore[method-assign]
    with app.app_context():
        flask_migrate.upgrade()
    yield app
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()
    get_runtime(app).stop()
    administer(postgres_url, f"drop database {name} with (force)")


def find(app: Flask, sought: str, client_program: str = "") -> list[str | None]:
    """Return the usernames of the attempts that an administrator finds."""
    attempt_filter = AttemptFilter(text=sought, unmasked=True, client_program=client_program)
    found = get_runtime(app).read_database.read_transaction(attempts.find_attempts, attempt_filter, 50)
    return [attempt.username for attempt in found]


@pytest.mark.parametrize("person", OF_ONE_PERSON, ids=lambda person: person["username"])
def test_registration_login_and_searches_ignore_letter_case_in_any_locale(
    located_app: Flask, person: dict[str, str]
) -> None:
    browser, username = located_app.test_client(), person["username"]
    agent = {"User-Agent": "WINDOWS-Import/1"}

    created = useradd(browser, IVAN | person | {"email": "Юля@почта.рф"}, headers=agent).json
    assert created is not None
    again = useradd(
        browser, IVAN | person | {"username": fold_username(username), "email": "ЮЛЯ@почта.рф"}, headers=agent
    )

    assert again.status_code == 409
    assert log_in(browser, fold_username(username), created["password"]).status_code == 302
    assert log_in(located_app.test_client(), username.upper(), created["password"]).status_code == 302
    both = [fold_username(username), username]
    assert find(located_app, f"={username.upper()}") == both
    assert find(located_app, f"={fold_username(username)}") == both
    for word in person["name"].split():
        assert find(located_app, word.lower().replace("\u0307", "")) == both
    assert find(located_app, "юлЯ@почта.рф") == both
    assert find(located_app, "", client_program="windows-import") == both
    page = browser.get(f"/results/{created['attempt_id']}/?lang=en").text
    assert f"/results/{again.headers['X-Request-Id']}/" in page.partition("This person later")[2]


def test_postgresql_folds_every_allowed_letter_like_the_service(app: Flask) -> None:
    letters = [letter for code in range(sys.maxunicode) if _is_allowed(letter := chr(code))]

    def fold_there(connection: Connection) -> list[str]:
        query = text(
            "select fold_login(letter) from unnest(cast(:letters as text[])) with ordinality l (letter, n) order by n"
        )
        return list(connection.scalars(query, {"letters": letters}))

    assert get_runtime(app).database.read_transaction(fold_there) == list(map(fold_username, letters))
    assert len(letters) > 900


def _is_allowed(letter: str) -> bool:
    try:
        return letter.isalpha() and check_username(letter) == letter
    except RuleError:
        return False
