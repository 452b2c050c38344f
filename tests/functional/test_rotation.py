"""Rotation of secrets: a former secret is valid as long as it is listed as a fallback."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from config import Config
from project.runtime import get_runtime
from tests.builders import ANNA, IVAN, KEY, csrf_token, log_in, useradd
from tests.conftest import MakeApp, Rows

pytestmark = pytest.mark.slow  # creates several applications for each test

CHOSEN = "lorem-ipsum-korova-77"
NEW = "a-new-secret-of-more-than-32-characters"
Rotated = Callable[..., FlaskClient]


@pytest.fixture
def rotated(make_app: MakeApp, config: Config, client: FlaskClient) -> Rotated:
    """Creates clients of the same service after one of its secrets was changed."""

    def make_client(name: str, *, keep: bool = True, **settings: object) -> FlaskClient:
        former = (getattr(config, name),) if keep else ()
        return make_app(**{name: NEW, f"{name}_fallbacks": former} | settings).test_client()

    return make_client


def copy_session(source: FlaskClient, target: FlaskClient) -> None:
    """Copy the session of a client to another one."""
    cookie = source.get_cookie("session")
    assert cookie
    target.set_cookie("session", cookie.value)


def test_sessions_are_valid_after_a_rotation_of_the_signing_key(reader: FlaskClient, rotated: Rotated) -> None:
    after = rotated("secret_key")
    copy_session(reader, after)

    assert after.get("/results/").status_code == 200


def test_sessions_are_invalid_without_their_signing_key_as_a_fallback(reader: FlaskClient, rotated: Rotated) -> None:
    after = rotated("secret_key", keep=False)
    copy_session(reader, after)

    assert after.get("/results/").status_code == 302


def test_new_sessions_are_signed_with_the_new_key(client: FlaskClient, rotated: Rotated) -> None:
    issued = useradd(client, IVAN).json
    assert issued is not None
    during, later = rotated("secret_key"), rotated("secret_key", keep=False)
    log_in(during, issued["login"], issued["password"])

    copy_session(during, later)

    assert later.get("/results/").status_code == 200


def test_an_open_form_can_be_submitted_after_the_rotation(client: FlaskClient, rotated: Rotated) -> None:
    issued = useradd(client, IVAN).json
    assert issued is not None
    page = client.get("/login/").text
    after = rotated("secret_key")
    copy_session(client, after)

    form = {"login": issued["login"], "password": issued["password"], "csrf_token": csrf_token(page)}

    assert after.post("/login/", data=form).status_code == 302


@pytest.mark.parametrize("scheme", ["hmac-sha256", "argon2id"])
def test_issued_passwords_work_after_the_rotation(client: FlaskClient, rotated: Rotated, scheme: str) -> None:
    before = rotated("secret_key", password_hash=scheme)  # passwords do not depend on this secret
    issued = useradd(before, IVAN).json
    assert issued is not None

    after = rotated("password_secret")

    assert log_in(after, issued["login"], issued["password"]).status_code == 302


def test_a_repeat_after_the_rotation_returns_the_same_password(client: FlaskClient, rotated: Rotated) -> None:
    headers = {"Idempotency-Key": KEY}
    issued = useradd(client, ANNA, headers=headers).json
    assert issued is not None

    repeated = useradd(rotated("password_secret"), ANNA, headers=headers)

    assert repeated.headers["Idempotent-Replayed"] == "true"
    assert repeated.json is not None
    assert repeated.json["password"] == issued["password"]


def test_new_passwords_are_derived_from_the_new_secret(client: FlaskClient, rotated: Rotated) -> None:
    issued = useradd(rotated("password_secret"), IVAN).json
    assert issued is not None

    later = rotated("password_secret", keep=False)

    assert log_in(later, issued["login"], issued["password"]).status_code == 302


def test_a_password_whose_secret_was_removed_is_refused(client: FlaskClient, rotated: Rotated) -> None:
    issued = useradd(client, IVAN).json
    assert issued is not None

    answer = log_in(rotated("password_secret", keep=False), issued["login"], issued["password"])

    assert answer.status_code == 401


def test_a_repeat_whose_secret_was_removed_returns_no_wrong_password(
    client: FlaskClient, rotated: Rotated, rows: Rows
) -> None:
    headers = {"Idempotency-Key": KEY}
    useradd(client, ANNA, headers=headers)

    repeated = useradd(rotated("password_secret", keep=False), ANNA, headers=headers)

    assert repeated.json is not None
    assert (repeated.status_code, repeated.json["code"]) == (409, "credentials_changed")
    assert rows.attempts()[-1]["answered"] == 409


def test_chosen_passwords_do_not_depend_on_the_secret(client: FlaskClient, rotated: Rotated, rows: Rows) -> None:
    issued = useradd(client, IVAN).json
    assert issued is not None
    hashed = get_runtime(client.application).passwords.hash_chosen(CHOSEN)
    rows.query("update users set password_hash = :it", it=hashed)

    assert log_in(rotated("password_secret", keep=False), issued["login"], CHOSEN).status_code == 302
