"""Security headers of every response, and refused host names."""

import socket
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.builders import ADDRESS, ANNA, HTML, useradd
from tests.conftest import MakeApp, Rows

EVIL = {"Origin": "https://evil.example"}
FOREIGN = {"Host": "evil.example"}
JSON = "application/json"
REQUESTS: dict[str, tuple[int, dict[str, Any]]] = {
    "created": (201, {"path": ADDRESS, "method": "POST", "json": ANNA}),
    "dry run": (200, {"path": f"{ADDRESS}?dry_run=1", "method": "POST", "json": ANNA}),
    "no json": (400, {"path": ADDRESS, "method": "POST", "data": b"{", "content_type": JSON}),
    "not allowed": (405, {"path": ADDRESS}),
    "too large": (413, {"path": ADDRESS, "method": "POST", "data": b" " * 20_000, "content_type": JSON}),
    "wrong type": (415, {"path": ADDRESS, "method": "POST", "data": b"{}"}),
    "invalid": (422, {"path": ADDRESS, "method": "POST", "json": {}}),
    "preflight": (405, {"path": ADDRESS, "method": "OPTIONS"}),
    "foreign host": (400, {"path": ADDRESS, "method": "POST", "json": ANNA, "headers": FOREIGN}),
    "page of a foreign host": (400, {"path": "/login/", "headers": HTML | FOREIGN}),
    "missing": (404, {"path": "/nothing"}),
    "missing page": (404, {"path": "/nothing", "headers": HTML}),
    "not allowed page": (405, {"path": ADDRESS, "headers": HTML}),
    "redirect": (302, {"path": "/results/"}),
    "login": (200, {"path": "/login/"}),
    "refused form": (400, {"path": "/login/", "method": "POST"}),
    "health": (200, {"path": "/livez"}),
    "document": (200, {"path": "/openapi.json"}),
    "swagger": (200, {"path": "/swagger/"}),
    "options": (200, {"path": "/login/", "method": "OPTIONS"}),
    "script": (200, {"path": "/static/swagger.js"}),
    "missing file": (404, {"path": "/static/nothing.js"}),
}
REQUIRED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def ask(client: FlaskClient, request: str, **more: Any) -> TestResponse:
    """Send one of the requests from a foreign origin and read the complete response."""
    arguments = REQUESTS[request][1]
    headers = {**arguments.get("headers", {}), **EVIL}
    return client.open(**{**arguments, "headers": headers}, buffered=True, **more)


def check(response: TestResponse) -> None:
    """Assert the headers that all responses over plain HTTP have."""
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert {name: policy[name] for name in ("default-src", "frame-ancestors", "base-uri", "form-action")} == {
        "default-src": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
    }
    assert "unsafe" not in str(policy)
    assert {value for name, value in policy.items()} <= {"'none'", "'self'", "'self' data:"}
    assert {name: response.headers[name] for name in REQUIRED} == REQUIRED
    assert response.headers["X-Request-Id"]
    assert "Strict-Transport-Security" not in response.headers
    assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]
    assert len(response.headers.getlist("Content-Security-Policy")) == 1


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_response_has_the_security_headers_and_allows_no_other_origin(client: FlaskClient, request_: str) -> None:
    response = ask(client, request_)

    assert response.status_code == REQUESTS[request_][0]
    check(response)


@pytest.mark.parametrize("request_", [name for name in REQUESTS if name not in {"script", "missing file"}])
def test_responses_are_not_cacheable(client: FlaskClient, request_: str) -> None:
    response = ask(client, request_)

    assert response.headers["Cache-Control"] == "no-store"


def test_requests_within_one_application_context_have_different_ids(client: FlaskClient) -> None:
    with client.application.app_context():
        answers = [client.get("/livez") for _ in range(2)]

    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 2


def test_an_upgrade_to_websocket_is_ignored(client: FlaskClient) -> None:
    response = client.get("/livez", headers={"Connection": "Upgrade", "Upgrade": "websocket"})

    assert response.status_code == 200


def test_only_static_files_are_cacheable(client: FlaskClient) -> None:
    response = ask(client, "script")

    assert "no-store" not in response.headers.get("Cache-Control", "")
    assert response.headers["ETag"]


@pytest.mark.parametrize("headers", [HTML, {}], ids=["browser", "program"])
def test_an_internal_error_has_the_headers(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("project.services.registration.queries.useradd", fail)

    response = client.post("/useradd", json=ANNA, headers=headers)

    assert response.status_code == 500
    assert response.mimetype == "application/problem+json"
    check(response)
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("headers", [HTML, {}], ids=["browser", "program"])
def test_a_response_without_postgresql_has_the_headers(
    make_app: MakeApp, headers: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg2://u:p@127.0.0.1:{closed.getsockname()[1]}/useradd"
        app = make_app(database_url=url, request_deadline_s=0.5, data_dir=tmp_path)

        response = app.test_client().post("/useradd", json=ANNA, headers=headers)

    assert response.status_code == 503
    check(response)
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("request_", ["created", "missing", "login", "script", "redirect"])
def test_responses_over_https_have_strict_transport_security(client: FlaskClient, request_: str) -> None:
    response = ask(client, request_, base_url="https://localhost")

    assert response.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


def test_with_https_only_every_response_has_strict_transport_security(make_app: MakeApp) -> None:
    client = make_app(https_only=True).test_client()

    response = client.get("/livez")

    assert "Strict-Transport-Security" in response.headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "evil.localhost",
        "127.0.0.1.nip.io",
        "evil..x",
        "a b",
    ],
)
@pytest.mark.parametrize(
    ("address", "headers"), [("/login/", HTML), ("/results/", {}), ("/livez", {}), ("/openapi.json", {}), ("/x", HTML)]
)
def test_a_request_for_a_foreign_host_is_refused(
    client: FlaskClient, address: str, headers: dict[str, str], host: str
) -> None:
    response = client.get(address, headers={**headers, "Host": host})

    assert response.status_code == 400
    assert response.text.count(host) == 1, "the text names it, and no link does"
    assert "TRUSTED_HOSTS" in response.text
    assert "Location" not in response.headers


def test_an_attempt_with_a_foreign_host_is_recorded(client: FlaskClient, rows: Rows) -> None:
    response = useradd(client, ANNA, headers={"Host": "evil.example"})

    assert (response.status_code, response.json["code"]) == (400, "unknown_host")  # type: ignore[index]
    assert rows.outcomes() == [(400, "unknown_host")]
    assert rows.of("users") == []


def test_the_name_of_a_foreign_host_is_shown_harmlessly(client: FlaskClient) -> None:
    page = client.get("/login/", headers={**HTML, "Host": "<script>alert(1)</script>" + "x" * 500}).text

    assert "<script>alert" not in page
    assert "x" * 100 not in page


def test_a_foreign_host_is_logged_with_the_setting_once_a_minute(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_app().test_client()

    for host in ("vm.local", "vm.local", *(f"scanner{number}.example" for number in range(20))):
        client.get("/livez", headers={"Host": host})

    lines = [record for record in caplog.records if "TRUSTED_HOSTS" in record.getMessage()]
    assert [line.host for line in lines] == ["vm.local", *(f"scanner{number}.example" for number in range(9))]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "127.0.0.1:8000",
        "LocalHost:8000",
        "LOCALHOST",
        "localhost.",
        "LOCALHOST.:8000",
        "[::1]",
        "[::1]:8000",
        "[0:0:0:0:0:0:0:1]",
    ],
)
def test_local_host_names_are_accepted(client: FlaskClient, host: str) -> None:
    response = client.get("/livez", headers={"Host": host})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("listen", "host", "status"),
    [
        ("0.0.0.0", "127.0.0.2:8000", 200),  # noqa: S104 - nothing listens
        ("::", "127.0.0.2", 200),
        ("::", "[::1]:8000", 200),
        ("::", "[fe80::dead:beef]", 400),
        ("0.0.0.0", "203.0.113.9", 400),  # noqa: S104
        ("0.0.0.0", "0.0.0.0", 200),  # noqa: S104
        ("0.0.0.0", "evil.example", 400),  # noqa: S104
        ("0.0.0.0", "2130706433", 400),  # noqa: S104
        ("::1", "[::1]:8000", 200),
        ("::1", "[0:0:0:0:0:0:0:1]", 200),
        ("127.0.0.1", "127.0.0.2", 400),
    ],
)
def test_every_address_of_the_machine_is_accepted_if_the_service_listens_on_all(
    make_app: MakeApp, listen: str, host: str, status: int
) -> None:
    client = make_app(host=listen).test_client()

    assert client.get("/livez", headers={"Host": host}).status_code == status


def test_only_the_beginning_of_accept_headers_is_parsed(client: FlaskClient) -> None:
    """16 KB of Accept or Accept-Encoding take 20 ms of a core."""
    near, far = (client.get("/x", headers={"Accept": f"{'a/b,' * number}text/html"}) for number in (50, 200))

    assert (near.mimetype, far.mimetype) == ("text/html", "application/problem+json")


def test_configured_hosts_are_compared_without_letter_case(make_app: MakeApp) -> None:
    client = make_app(trusted_hosts=("Example.ORG", ".Пример.рф", "fd00::1"), host="0.0.0.0").test_client()  # noqa: S104

    hosts = ["example.org", "EXAMPLE.org:8000", "a.XN--E1AFMKFD.xn--p1ai", "[FD00::1]", "127.0.0.2"]
    statuses = [client.get("/livez", headers={"Host": host}).status_code for host in hosts]

    assert statuses == [200, 200, 200, 200, 400]


def test_only_the_configured_hosts_are_accepted(make_app: MakeApp) -> None:
    client = make_app(trusted_hosts=("useradd.example.org", ".example.net")).test_client()

    hosts = ["useradd.example.org", "a.example.net", "example.org", "localhost"]
    statuses = [client.get("/livez", headers={"Host": host}).status_code for host in hosts]

    assert statuses == [200, 200, 400, 400]


def test_parts_of_files_are_not_sent(client: FlaskClient) -> None:
    part, whole = (
        client.get("/static/app.css", headers=headers, buffered=True) for headers in ({"Range": "bytes=0-9"}, {})
    )

    assert (part.status_code, part.data) == (200, whole.data)
