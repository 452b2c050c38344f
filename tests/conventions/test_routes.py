"""Every address requires authentication except those listed here."""

from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from project.http.guards import is_public
from tests.builders import HTML, csrf_token
from tests.conftest import Rows

PUBLIC = {
    "static",
    "api.useradd",
    "api.useradd_bulk",
    "auth.login",
    "auth.logout",
    "health.livez",
    "health.metrics",  # guarded by METRICS_ALLOW
    "health.readyz",
    "health.state",
    "health.status",
    "pages.index",
    "pages.problem",
    "pages.problems",
    "flasgger.<lambda>",
    "flasgger.apidocs",
    "flasgger.oauth_redirect",
    "flasgger.openapi",
    "flasgger.static",
}
"""Public endpoints. Review what an endpoint shows before you add it."""
REMNANTS = {"flasgger.<lambda>", "flasgger.oauth_redirect", "flasgger.static"}
"""Endpoints of flasgger that must not be reachable."""
ABSENT_ID = UUID("0190b0e5-0000-7000-8000-000000000000")
VALUES = {
    "attempt_id": ABSENT_ID,
    "user_id": ABSENT_ID,
    "key_id": ABSENT_ID,
    "import_id": ABSENT_ID,
    "action": "block",
    "extension": "csv",
    "filename": "x",
    "code": "x",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PROGRAMS = ("/api/", "/results/export.")
"""Beginnings of addresses that programs read."""


def test_exactly_these_endpoints_are_public(app: Flask) -> None:
    assert {endpoint for endpoint in app.view_functions if is_public(app, endpoint)} == PUBLIC


def test_an_unmarked_view_is_not_public() -> None:
    app = Flask("another")
    app.add_url_rule("/x", "x", lambda: "x")

    assert not is_public(app, "x")


def test_every_protected_address_refuses_anonymous_clients(app: Flask, client: FlaskClient) -> None:
    protected = _rules(app, is_protected=True)

    assert {rule.endpoint for rule in protected} == app.view_functions.keys() - PUBLIC
    for rule in protected:
        for method in sorted(rule.methods or ()):
            _check(client, _address(app, rule), method)


@pytest.mark.parametrize("cookie", ["x", "eyJfdXNlcl9pZCI6IjEuMCJ9.aaaaaa.bbbb"])
def test_a_forged_session_cookie_gives_no_access(app: Flask, client: FlaskClient, cookie: str) -> None:
    client.set_cookie("session", cookie)
    client.set_cookie("__Host-session", cookie)

    for rule in _rules(app, is_protected=True):
        _check(client, _address(app, rule), "GET")


def test_unsafe_methods_give_no_access(app: Flask, client: FlaskClient) -> None:
    for rule in _rules(app, is_protected=True):
        for method in {"POST", "PUT", "PATCH", "DELETE"} - (rule.methods or set()):
            assert client.open(_address(app, rule), method=method).status_code == 405, (rule, method)


def test_public_addresses_never_respond_with_a_server_error(app: Flask, client: FlaskClient) -> None:
    for rule in _rules(app, is_protected=False):
        for method in METHODS:
            for headers in ({}, HTML):
                status = client.open(_address(app, rule), method=method, headers=headers, buffered=True).status_code
                assert status < 500, (rule, method)


def test_no_public_address_except_useradd_records_an_attempt(app: Flask, client: FlaskClient, rows: Rows) -> None:
    for rule in _rules(app, is_protected=False):
        if rule.endpoint not in {"api.useradd", "api.useradd_bulk"}:
            for method in METHODS:
                client.open(_address(app, rule), method=method, buffered=True)

    assert rows.attempts() == []


def test_unused_endpoints_of_flasgger_are_not_found(app: Flask, client: FlaskClient) -> None:
    for rule in app.url_map.iter_rules():
        if rule.endpoint in REMNANTS:
            assert client.get(_address(app, rule)).status_code == 404, rule


@pytest.mark.parametrize("address", ["/results", "/login", "/results//", "/RESULTS/", "/./results/", "/api/v1/stats"])
def test_another_spelling_of_an_address_gives_no_access(client: FlaskClient, address: str) -> None:
    response = client.get(address)

    assert response.status_code in {301, 302, 308, 404}
    assert response.headers.get("Location", "/").startswith(("/", "http://localhost/"))
    assert not response.headers.get("Location", "/").startswith("//")


def _rules(app: Flask, *, is_protected: bool) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if is_public(app, rule.endpoint) != is_protected]


def _address(app: Flask, rule: Rule) -> str:
    """Return an address of exactly this rule: an endpoint may have several."""
    values = {name: VALUES[name] for name in rule.arguments}
    built = rule.build(values)
    assert built
    return built[1]


def _check(client: FlaskClient, address: str, method: str) -> None:
    """Assert that pages redirect to the login and that the API responds with 401."""
    form = {"csrf_token": csrf_token(client.get("/login/").text)} if method == "POST" else None
    response = client.open(address, method=method, data=form)
    if address.startswith(PROGRAMS):
        assert (response.status_code, response.mimetype) == (401, "application/problem+json"), (address, method)
    else:
        assert (response.status_code, response.headers["Location"][:7]) == (302, "/login/"), (address, method)
