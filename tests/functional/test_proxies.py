"""The client address: forwarded headers count only if a trusted proxy sent them (S65)."""

from ipaddress import ip_network
from typing import Any
from wsgiref.types import WSGIEnvironment

import pytest
from flask.testing import FlaskClient

from project.http.proxies import UNTRUSTED_PROXY, TrustedProxyMiddleware
from tests.builders import ANNA, useradd
from tests.conftest import MakeApp, Rows

PROXY, FAR_PROXY, CLIENT, UNTRUSTED = "10.0.0.5", "10.0.0.7", "203.0.113.9", "198.51.100.1"
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def seen_through(peer: str, **headers: str) -> WSGIEnvironment:
    """Return the environ that the service gets for a request of this peer."""
    seen: list[WSGIEnvironment] = []

    def service(environ: WSGIEnvironment, _: Any) -> list[bytes]:
        seen.append(environ)
        return []

    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"} | {
        f"HTTP_{name}": value for name, value in headers.items()
    }
    TrustedProxyMiddleware(service, TRUSTED)(environ, lambda *_: lambda _: None)
    return seen[0]


@pytest.fixture
def behind_proxies(make_app: MakeApp, client: FlaskClient) -> FlaskClient:
    """A client of a service that trusts the proxies, on empty tables."""
    return make_app(trusted_proxies=TRUSTED).test_client()


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (CLIENT, CLIENT),
        (f" {CLIENT} ", CLIENT),
        (f"{UNTRUSTED}, {CLIENT}", CLIENT),
        (f"{UNTRUSTED},{UNTRUSTED},{CLIENT}", CLIENT),
        (f"{CLIENT}, {FAR_PROXY}", CLIENT),
        (f"{UNTRUSTED}, {CLIENT}, {FAR_PROXY}", CLIENT),
        (f"10.9.9.9, {FAR_PROXY}", "10.9.9.9"),
        (f"{CLIENT}, garbage", PROXY),
        (f"garbage, {FAR_PROXY}", FAR_PROXY),
        (f"garbage, {CLIENT}", CLIENT),
        (f"{CLIENT}:4711", PROXY),
        (f"{CLIENT}, ", PROXY),
        ("unknown", PROXY),
        ("203.0.113.9\r\nX: y", PROXY),
        ("<script>", PROXY),
        ("", PROXY),
        (",", PROXY),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1, fd00::7", "2001:db8::1"),
        ("[2001:db8::1]", PROXY),
        ("127.0.0.1, " * 500 + CLIENT, CLIENT),
    ],
    ids=lambda value: value[:40],
)
def test_the_client_is_the_rightmost_forwarded_address_that_is_not_a_trusted_proxy(
    forwarded: str, address: str
) -> None:
    environ = seen_through(PROXY, X_FORWARDED_FOR=forwarded)

    assert environ["REMOTE_ADDR"] == address


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ({}, True),
        ({"X_FORWARDED_FOR": CLIENT}, True),
        ({"X_FORWARDED_FOR": FAR_PROXY}, True),
        ({"X_FORWARDED_FOR": f"{CLIENT}:4711"}, False),
        ({"X_FORWARDED_FOR": f"unknown, {FAR_PROXY}"}, False),
        ({"X_FORWARDED_PROTO": "https"}, False),
    ],
)
def test_a_request_through_a_trusted_proxy_without_a_client_address_is_marked_untrusted(
    headers: dict[str, str], is_known: bool
) -> None:
    environ = seen_through(PROXY, **headers)

    assert (UNTRUSTED_PROXY not in environ) is is_known


@pytest.mark.parametrize("peer", [UNTRUSTED, "2001:db8::1", "11.0.0.5", "", "unix:", "::ffff:198.51.100.1"])
def test_an_untrusted_peer_is_the_client_and_its_forwarded_headers_are_ignored(peer: str) -> None:
    environ = seen_through(peer, X_FORWARDED_FOR=f"{CLIENT}, {PROXY}", X_FORWARDED_PROTO="https")

    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (peer, "http")


@pytest.mark.parametrize("peer", [PROXY, UNTRUSTED])
def test_forwarded_headers_are_removed(peer: str) -> None:
    environ = seen_through(peer, X_FORWARDED_FOR=CLIENT, X_FORWARDED_PROTO="https")

    assert not [name for name in environ if "FORWARDED" in name]


@pytest.mark.parametrize("peer", [PROXY, "fd00::5"])
def test_a_trusted_proxy_may_use_ipv4_or_ipv6(peer: str) -> None:
    environ = seen_through(peer, X_FORWARDED_FOR=CLIENT, X_FORWARDED_PROTO="https")

    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (CLIENT, "https")


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        ("https", "https"),
        ("http", "http"),
        ("javascript", "http"),
        ("HTTPS ", "http"),
        ("https,http", "http"),
        ("", "http"),
    ],
)
def test_only_an_exact_scheme_of_a_trusted_proxy_is_accepted(proto: str, scheme: str) -> None:
    environ = seen_through(PROXY, X_FORWARDED_PROTO=proto)

    assert environ["wsgi.url_scheme"] == scheme


def test_an_attempt_is_recorded_with_the_address_of_the_client(behind_proxies: FlaskClient, rows: Rows) -> None:
    headers = {"X-Forwarded-For": f"{UNTRUSTED}, {CLIENT}, {FAR_PROXY}", "X-Forwarded-Proto": "https"}

    response = useradd(behind_proxies, ANNA, headers=headers, environ_base={"REMOTE_ADDR": PROXY})

    assert rows.attempts()[0]["client_address"] == CLIENT
    assert response.json is not None
    assert response.json["links"]["login"] == "https://localhost/login/"
    assert "Strict-Transport-Security" in response.headers


@pytest.mark.parametrize("peer", [UNTRUSTED, PROXY])
def test_without_trusted_proxies_forwarded_headers_are_ignored(client: FlaskClient, rows: Rows, peer: str) -> None:
    headers = {"X-Forwarded-For": CLIENT, "X-Forwarded-Proto": "https"}

    response = useradd(client, ANNA, headers=headers, environ_base={"REMOTE_ADDR": peer})

    assert rows.attempts()[0]["client_address"] == peer
    assert "Strict-Transport-Security" not in response.headers


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Forwarded-Server", "X-Forwarded-Port", "X-Forwarded-Prefix"])
def test_a_trusted_proxy_cannot_change_host_or_path(behind_proxies: FlaskClient, header: str) -> None:
    response = useradd(behind_proxies, ANNA, headers={header: "/evil.example"}, environ_base={"REMOTE_ADDR": PROXY})

    assert response.json is not None
    assert response.json["links"]["login"] == "http://localhost/login/"
