"""Pages of other origins (CORS): closed, except for the origins of CORS_ORIGINS."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from project.api.routes import PATHS
from project.runtime import get_runtime
from project.services import api_keys
from tests.builders import ANNA, useradd
from tests.conftest import MakeApp, Rows, reset_service

SHOP = "https://shop.example.org"
ORIGINS = (SHOP, "http://localhost:3000", "http://[::1]:3000", "capacitor://localhost")
OPEN = (*PATHS, "/api/v1/stats/", "/api/v1/attempts/", "/api/v1/attempts/0190b0e5-0000-7000-8000-000000000000/")
CLOSED = ("/results/", "/login/", "/results/export.csv", "/status", "/openapi.json", "/admin/", "/api/v1/download-txt/")


@pytest.fixture(scope="module")
def shop_app(app: Flask, make_app_once: MakeApp) -> Flask:
    """A service that is open to some origins; `app` has migrated its tables."""
    shop_app = make_app_once(cors_origins=ORIGINS)
    get_runtime(shop_app).upkeep.ensure_running = lambda: None  # type: ignore[method-assign]
    return shop_app


@pytest.fixture
def shop(shop_app: Flask) -> FlaskClient:
    """A client of that service, on empty tables."""
    reset_service(shop_app)
    return shop_app.test_client()


def preflight(client: FlaskClient, address: str, origin: str, method: str = "POST") -> tuple[int, dict[str, str]]:
    """Return the status and the CORS headers of the answer to a preflight request."""
    asked = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,idempotency-key,x-a",
    }
    response = client.options(address, headers={"Origin": origin, **asked})
    return response.status_code, cors_headers(response.headers)


def cors_headers(headers: object) -> dict[str, str]:
    """Return the CORS headers of a response."""
    return {name: value for name, value in dict(headers).items() if name.startswith("Access-Control")}  # type: ignore[call-overload]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("address", PATHS)
def test_a_preflight_of_an_allowed_origin_is_answered_and_is_no_attempt(
    shop: FlaskClient, rows: Rows, address: str, origin: str
) -> None:
    status, headers = preflight(shop, address, origin)

    assert status == 204
    assert headers["Access-Control-Allow-Origin"] == origin
    assert headers["Access-Control-Allow-Methods"] == "POST"
    assert headers["Access-Control-Allow-Headers"] == "content-type, idempotency-key"
    assert "Access-Control-Allow-Credentials" not in headers
    assert rows.attempts() == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://shop.example.org",
        "https://shop.example.org.evil.example",
        "https://shop-example.org",
        "https://a.shop.example.org",
        "https://shop.example.org:8443",
        "http://localhost",
        "null",
        "",
    ],
)
@pytest.mark.parametrize("address", OPEN)
def test_another_origin_gets_nothing(shop: FlaskClient, rows: Rows, address: str, origin: str) -> None:
    _, headers = preflight(shop, address, origin)
    answer = shop.open(address, method="POST" if "useradd" in address else "GET", json={}, headers={"Origin": origin})

    assert headers == cors_headers(answer.headers) == {}
    assert len(rows.attempts()) == ("useradd" in address)


def test_an_allowed_origin_reads_the_answer_with_its_headers(shop: FlaskClient) -> None:
    created = useradd(shop, ANNA, headers={"Origin": SHOP})
    refused = useradd(shop, {}, headers={"Origin": SHOP})
    unknown_host = useradd(shop, {}, headers={"Origin": SHOP, "Host": "vm.local"})

    assert [answer.status_code for answer in (created, refused, unknown_host)] == [201, 422, 400]
    for answer in (created, refused, unknown_host):
        assert answer.headers["Access-Control-Allow-Origin"] == SHOP
        assert "X-Request-Id" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" in answer.headers.getlist("Vary")


def test_an_allowed_origin_reads_the_statistics_with_a_key_but_never_with_a_cookie(
    shop: FlaskClient, app: Flask
) -> None:
    with app.app_context():
        key = api_keys.issue_key(get_runtime().database, "shop", None).key

    status, headers = preflight(shop, "/api/v1/stats/", SHOP, "GET")
    answer = shop.get("/api/v1/stats/", headers={"Origin": SHOP, "Authorization": f"Bearer {key}"})

    assert (status, headers["Access-Control-Allow-Methods"]) == (204, "GET")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, SHOP)
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("address", CLOSED)
def test_other_addresses_stay_closed(shop: FlaskClient, address: str) -> None:
    _, headers = preflight(shop, address, SHOP, "GET")
    with shop.get(address, headers={"Origin": SHOP}) as answer:
        assert headers == cors_headers(answer.headers) == {}


def test_an_options_request_that_is_no_preflight_stays_an_attempt(shop: FlaskClient, rows: Rows) -> None:
    assert shop.options("/useradd", headers={"Origin": SHOP}).status_code == 405
    assert rows.outcomes() == [(405, "method_not_allowed")]


@pytest.mark.parametrize("address", OPEN)
def test_by_default_no_origin_is_allowed(client: FlaskClient, address: str) -> None:
    status, headers = preflight(client, address, SHOP)

    assert status in {401, 405}
    assert headers == cors_headers(client.get(address, headers={"Origin": SHOP}).headers) == {}
