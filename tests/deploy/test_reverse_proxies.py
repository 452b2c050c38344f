"""deploy/nginx.conf, haproxy.cfg, 503.html and 503.json with real proxies and clients."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psutil
import pytest

from tests.chaos.load import Load, new_body, summarize
from tests.chaos.processes import HOST, eventually
from tests.chaos.service import Service
from tests.deploy.conftest import Database
from tests.deploy.reverse_proxies import CLIENT_ADDRESS, Haproxy, Nginx, ProxyClient, ReverseProxy

ROWS, WIDTH = 10_000, 2_000
"""A download of 20 MB: more than all buffers between service and client."""
MANY = """
    insert into attempts (id, received_at, status, code, method, duration_ms, username, language, client_address,
                          user_agent, sent)
    select gen_random_uuid(), now(), 422, 'invalid_phone', 'POST', 1, 'u' || n, 'en', '::1', '',
           jsonb_build_object('name', repeat('x', %(width)s))
      from generate_series(1, %(rows)s) n
"""
SLOW_CLIENTS = 30


@pytest.fixture(scope="module", params=[Nginx, Haproxy], ids=["nginx", "haproxy"])
def shared_reverse_proxy(request: pytest.FixtureRequest, shared_instances: list[Service]) -> Iterator[ReverseProxy]:
    """A reverse proxy with the configuration of deploy/."""
    reverse_proxy: ReverseProxy = request.param(shared_instances)
    yield reverse_proxy
    reverse_proxy.close()


@pytest.fixture
def reverse_proxy(shared_reverse_proxy: ReverseProxy, instances: list[Service]) -> ReverseProxy:
    """A reverse proxy that uses both instances."""
    shared_reverse_proxy.await_ready()
    return shared_reverse_proxy


@pytest.fixture
def client(reverse_proxy: ReverseProxy) -> Iterator[ProxyClient]:
    """A client of the reverse proxy."""
    client = ProxyClient(reverse_proxy)
    yield client
    client.close()


def test_a_user_is_created_and_the_clients_address_is_recorded(client: ProxyClient, database: Database) -> None:
    answer = client.create()

    addresses = database.execute("select client_address from attempts where id = %s", [answer.attempt_id])
    assert (answer.status, addresses) == (201, [(CLIENT_ADDRESS,)])
    assert answer.json["links"]["login"].startswith("https://")
    assert answer.headers["Strict-Transport-Security"]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_clients_with_ipv6_are_served_and_redirected(reverse_proxy: ReverseProxy) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with closing(http.client.HTTPSConnection("::1", reverse_proxy.port, timeout=10, context=context)) as connection:
        connection.request("GET", "/livez", headers={"Host": "localhost"})
        served = connection.getresponse().status
    with closing(http.client.HTTPConnection("::1", reverse_proxy.plain_port, timeout=10)) as connection:
        connection.request("GET", "/livez", headers={"Host": "localhost"})
        redirected = connection.getresponse().status

    assert (served, redirected) == (200, 308)


def test_forwarding_headers_of_a_client_are_ignored(reverse_proxy: ReverseProxy, database: Database) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "Content-Type": "application/json"}

    with closing(reverse_proxy.open(source=CLIENT_ADDRESS)) as connection:
        connection.request("POST", "/useradd", json.dumps(new_body()), forged)
        document = json.load(connection.getresponse())

    assert database.execute("select client_address from attempts where id = %s", [document["attempt_id"]]) == [
        (CLIENT_ADDRESS,)
    ]
    assert document["links"]["login"].startswith("https://")


def test_a_session_is_valid_on_both_instances(client: ProxyClient, reverse_proxy: ReverseProxy) -> None:
    answer = client.create()

    logged_in = client.log_in(answer.json["login"], answer.json["password"])

    assert logged_in
    assert [client.get("/account/")[0] for _ in range(4)] == [200] * 4


def test_http_redirects_to_https_and_keeps_method_and_body(reverse_proxy: ReverseProxy) -> None:
    with closing(http.client.HTTPConnection(HOST, reverse_proxy.plain_port, timeout=10)) as connection:
        connection.request("POST", "/useradd?dry_run=1", b"{}")
        response = connection.getresponse()

    assert response.status == 308
    assert response.headers["Location"].startswith("https://")
    assert response.headers["Location"].endswith("/useradd?dry_run=1")


def test_http_2_is_negotiated_and_tls_below_1_2_is_refused(reverse_proxy: ReverseProxy) -> None:
    assert _negotiated_protocol(reverse_proxy, ssl.TLSVersion.TLSv1_3) == "h2"
    assert _negotiated_protocol(reverse_proxy, ssl.TLSVersion.TLSv1_2) == "h2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, ConnectionResetError)):
        _negotiated_protocol(reverse_proxy, ssl.TLSVersion.TLSv1_1)


def _negotiated_protocol(reverse_proxy: ReverseProxy, version: ssl.TLSVersion) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(reverse_proxy.folder / "certificate.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.maximum_version = version
    with (
        socket.create_connection((HOST, reverse_proxy.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        return secure.selected_alpn_protocol()


@pytest.mark.parametrize(
    "path", ["/metrics", "/status", "/status/", "/%73tatus", "//status", "/metrics?x=1", "/results/../metrics"]
)
def test_operator_pages_are_not_reachable_from_outside(reverse_proxy: ReverseProxy, path: str) -> None:
    response, body = reverse_proxy.get(path)

    assert response.status == 404
    assert b"spool" not in body


def test_readyz_is_reachable_from_outside(reverse_proxy: ReverseProxy) -> None:
    assert reverse_proxy.get("/readyz")[0].status == 200


def test_an_oversized_body_is_refused_by_the_proxy(reverse_proxy: ReverseProxy, database: Database) -> None:
    before = database.execute("select count(*) from attempts")
    with closing(reverse_proxy.open()) as connection:
        connection.putrequest("POST", "/useradd")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(10 * 2**20))
        connection.endheaders()
        status = connection.getresponse().status

    assert status == 413
    assert database.execute("select count(*) from attempts") == before


def test_a_body_below_the_proxys_limit_but_too_large_for_the_service_is_recorded(
    reverse_proxy: ReverseProxy, database: Database
) -> None:
    with closing(reverse_proxy.open()) as connection:
        body = json.dumps(new_body() | {"name": "x" * 20_000})
        connection.request("POST", "/useradd", body, {"Content-Type": "application/json"})
        document = json.load(connection.getresponse())

    assert document["code"] == "body_too_large"
    assert database.execute("select status from attempts where id = %s", [document["attempt_id"]]) == [(413,)]


def test_slow_clients_do_not_occupy_connections_to_the_service(
    reverse_proxy: ReverseProxy, client: ProxyClient, instances: list[Service]
) -> None:
    with ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            slow = stack.enter_context(closing(reverse_proxy.open(source=CLIENT_ADDRESS)))
            slow.putrequest("POST", "/useradd")
            slow.putheader("Content-Type", "application/json")
            slow.putheader("Content-Length", "200")
            slow.endheaders(b'{"name": "Ann', encode_chunked=False)
        answer = client.create()
        is_idle = eventually(lambda: _is_idle(instances), 5, "slow clients hold connections to the service")

    assert answer.status == 201
    assert is_idle


def _is_idle(instances: list[Service]) -> bool:
    """Return whether the instances have no connections except health checks."""
    pids = [pid for instance in instances for pid in instance.workers()]
    connections = [
        connection
        for pid in pids
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED
        and connection.laddr.port in {instance.port for instance in instances}
    ]
    return len(connections) <= len(instances)


def test_a_request_without_a_key_is_not_retried(
    reverse_proxy: ReverseProxy, client: ProxyClient, instances: list[Service], database: Database
) -> None:
    """A frozen instance has received the request: the proxy answers `outcome_unknown`.

    At most one attempt exists.
    """
    for instance in instances:
        instance.freeze()
    body = new_body()
    with closing(reverse_proxy.open(source=CLIENT_ADDRESS)) as connection:
        connection.request("POST", "/useradd", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        document = json.load(response)
    for instance in instances:
        instance.thaw()
    reverse_proxy.await_ready()

    assert (response.status, document["code"], response.headers["Retry-After"]) == (503, "outcome_unknown", "2")
    assert all(client.create().status == 201 for _ in range(4))  # waiting requests have finished by now
    assert _attempts_of(database, body) in ([], [(201,)])


def _attempts_of(database: Database, body: dict[str, str]) -> list[tuple[object, ...]]:
    return database.execute("select status from attempts where username = %s", [body["username"]])


def test_requests_with_keys_do_not_fail_when_an_instance_is_killed(
    reverse_proxy: ReverseProxy, instances: list[Service]
) -> None:
    with Load(reverse_proxy, clients=6, client=ProxyClient) as load:
        load.await_answers(30)
        instances[0].kill()
        load.await_answers(len(load.answers) + 60)
    answers = load.answers

    assert {answer.status for answer in answers} == {201}, summarize(answers)


def test_a_download_is_streamed_and_an_interrupted_one_is_an_error(
    reverse_proxy: ReverseProxy, client: ProxyClient, instances: list[Service], database: Database
) -> None:
    database.execute(MANY, {"width": WIDTH, "rows": ROWS})
    reader = client.create()
    assert client.log_in(reader.json["login"], reader.json["password"])
    with closing(reverse_proxy.open(source=CLIENT_ADDRESS)) as connection:
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.request("GET", "/results/export.csv?period=all", headers={"Cookie": client._cookie})
        response = connection.getresponse()
        first = response.read(WIDTH + 1000)
        for instance in instances:
            instance.kill()
        with pytest.raises((http.client.IncompleteRead, OSError)):
            response.read()
    database.execute("delete from attempts where username ~ '^u[0-9]+$' and code = 'invalid_phone'")

    assert response.status == 200
    assert first.count(b"\n") >= 2


def test_without_any_instance_browsers_get_a_page_and_api_clients_a_problem_document(
    shared_reverse_proxy: ReverseProxy, shared_instances: list[Service]
) -> None:
    for instance in shared_instances:
        instance.kill()

    page, html = shared_reverse_proxy.get("/results/")
    with closing(ProxyClient(shared_reverse_proxy)) as client:
        answer = client.create()

    assert (page.status, page.headers["Content-Type"], page.headers["Retry-After"]) == (503, "text/html", "2")
    assert "Сервис сейчас не отвечает" in html.decode()
    assert (answer.status, answer.code, answer.json["recorded"]) == (503, "outcome_unknown", False)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "2"
