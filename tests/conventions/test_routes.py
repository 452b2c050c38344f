"""Every address is closed to strangers, but for those that stand here."""

from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from project.http.guards import is_public
from tests.builders import HTML, csrf_token
from tests.conftest import Rows

OPEN = {
    "static",
    "api.useradd",
    "auth.login",
    "auth.logout",
    "health.livez",
    "health.metrics",  # guarded by METRICS_ALLOW
    "health.readyz",
    "health.status",
    "pages.front",
    "pages.problem",
    "pages.problems",
    "flasgger.<lambda>",
    "flasgger.apidocs",
    "flasgger.oauth_redirect",
    "flasgger.openapi",
    "flasgger.static",
}
"""What strangers may see. Whoever adds a name here answers for what it shows."""
REMNANTS = {"flasgger.<lambda>", "flasgger.oauth_redirect", "flasgger.static"}
"""What flasgger brings and we do not want."""
NUMBER = UUID("0190b0e5-0000-7000-8000-000000000000")
VALUES = {
    "attempt_id": NUMBER,
    "user_id": NUMBER,
    "key_id": NUMBER,
    "action": "block",
    "ending": "csv",
    "filename": "x",
    "code": "x",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
JSON = ("/api/v1/stats/", "/api/v1/attempts/")


def test_exactly_these_endpoints_are_open(app: Flask) -> None:
    assert {endpoint for endpoint in app.view_functions if is_public(app, endpoint)} == OPEN


def test_a_view_that_nobody_marked_is_closed() -> None:
    app = Flask("another")
    app.add_url_rule("/x", "x", lambda: "x")

    assert not is_public(app, "x")


def test_every_closed_address_turns_strangers_away(app: Flask, client: FlaskClient) -> None:
    closed = _rules(app, is_closed=True)

    assert {rule.endpoint for rule in closed} == app.view_functions.keys() - OPEN
    for rule in closed:
        for method in sorted(rule.methods or ()):
            _check(client, _address(app, rule), method)


@pytest.mark.parametrize("kept", ["x", "eyJfdXNlcl9pZCI6IjEuMCJ9.aaaaaa.bbbb"])
def test_a_made_up_session_opens_nothing(app: Flask, client: FlaskClient, kept: str) -> None:
    client.set_cookie("session", kept)
    client.set_cookie("__Host-session", kept)

    for rule in _rules(app, is_closed=True):
        _check(client, _address(app, rule), "GET")


def test_an_unsafe_method_gets_nobody_in(app: Flask, client: FlaskClient) -> None:
    for rule in _rules(app, is_closed=True):
        for method in {"POST", "PUT", "PATCH", "DELETE"} - (rule.methods or set()):
            assert client.open(_address(app, rule), method=method).status_code == 405, (rule, method)


def test_open_addresses_answer_strangers_without_a_defect(app: Flask, client: FlaskClient) -> None:
    for rule in _rules(app, is_closed=False):
        for method in METHODS:
            for headers in ({}, HTML):
                status = client.open(_address(app, rule), method=method, headers=headers, buffered=True).status_code
                assert status < 500, (rule, method)


def test_no_other_open_address_leaves_an_attempt(app: Flask, client: FlaskClient, rows: Rows) -> None:
    for rule in _rules(app, is_closed=False):
        if rule.endpoint != "api.useradd":
            for method in METHODS:
                client.open(_address(app, rule), method=method, buffered=True)

    assert rows.attempts() == []


def test_what_is_left_of_flasgger_is_not_there(app: Flask, client: FlaskClient) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint in REMNANTS:
            assert client.get(_address(app, rule)).status_code == 404, rule


@pytest.mark.parametrize("address", ["/results", "/login", "/results//", "/RESULTS/", "/./results/", "/api/v1/stats"])
def test_another_spelling_of_an_address_opens_nothing(client: FlaskClient, address: str) -> None:
    response = client.get(address)

    assert response.status_code in {301, 302, 308, 404}
    assert response.headers.get("Location", "/").startswith(("/", "http://localhost/"))
    assert not response.headers.get("Location", "/").startswith("//")


def _rules(app: Flask, *, is_closed: bool) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if is_public(app, rule.endpoint) != is_closed]


def _address(app: Flask, rule: Rule) -> str:
    """Return an address of this very rule: one endpoint may have several."""
    values = {name: VALUES[name] for name in rule.arguments}
    built = rule.build(values)
    assert built
    return built[1]


def _check(client: FlaskClient, address: str, method: str) -> None:
    """Assert that a page sends strangers to the login, and that a program is told."""
    form = {"csrf_token": csrf_token(client.get("/login/").text)} if method == "POST" else None
    response = client.open(address, method=method, data=form)
    if address.startswith(JSON):
        assert (response.status_code, response.mimetype) == (401, "application/problem+json"), (address, method)
    else:
        assert (response.status_code, response.headers["Location"][:7]) == (302, "/login/"), (address, method)
