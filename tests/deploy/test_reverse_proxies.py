"""deploy/nginx.conf, haproxy.cfg, 503.html and 503.json with real proxies and clients."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psutil
import psycopg2
import pytest

from project.admin import imports
from project.api import bulk
from project.contract.import_runner import MAX_FILE_BYTES
from project.server import BODY_ALLOWANCE
from tests.builders import csrf_token
from tests.chaos.load import Load, new_body, new_key, summarize
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
OF_THE_SAME_REQUEST = """
    select count(*) from attempts where client_request_id = (select client_request_id from attempts where id = %s)
"""
WAITING = """
    select client_port from pg_stat_activity
     where wait_event_type = 'Lock' and query like '%useradd_many%' and datname = current_database()
"""
"""The connections that wait for a lock to create users. Upkeep may wait for it, too."""
SLOW_CLIENTS = 30
LARGE = [
    *((path, bulk.MAX_BULK_BODY_BYTES + BODY_ALLOWANCE) for path in bulk.PATHS),
    (imports.UPLOAD_PATH, MAX_FILE_BYTES + BODY_ALLOWANCE),
]
"""Paths that accept more than 256 KiB, and the largest body that the service reads."""


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


@pytest.mark.parametrize(("path", "limit"), [("/useradd", 256 * 1024), ("/useradd/bulk/x", 256 * 1024), *LARGE])
def test_an_oversized_body_is_refused_by_the_proxy(
    reverse_proxy: ReverseProxy, database: Database, path: str, limit: int
) -> None:
    before = database.execute("select count(*) from attempts")
    with closing(reverse_proxy.open()) as connection:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(limit + 1))
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()

    assert response.status == 413
    assert "X-Request-ID" not in response.headers  # the service has not seen the request
    if path in bulk.PATHS:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert json.loads(body) == {
            "type": "/problems/body_too_large",
            "title": "The request is too large",
            "status": 413,
            "code": "body_too_large",
            "detail": f"At most {bulk.MAX_BULK_BODY_BYTES // 1024} KB are accepted: split the list.",
            "recorded": False,
        }
    assert database.execute("select count(*) from attempts") == before


def _post_bulk(
    connection: http.client.HTTPSConnection, lines: list[dict[str, str]], path: str = "/useradd/bulk", key: str = ""
) -> None:
    body = "".join(json.dumps(line) + "\n" for line in lines)
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key or new_key()}
    connection.request("POST", path, body, headers)


@pytest.mark.parametrize("path", bulk.PATHS)
def test_a_bulk_request_of_1_mb_passes(reverse_proxy: ReverseProxy, path: str) -> None:
    lines = [new_body()] + [new_body() | {"name": "x" * 10_000} for _ in range(99)]

    with closing(reverse_proxy.open(source=CLIENT_ADDRESS)) as connection:
        _post_bulk(connection, lines, path)
        response = connection.getresponse()
        results = [json.loads(line) for line in response]

    assert response.status == 200
    assert [result["status"] for result in results] == [201] + [422] * 99


def test_the_lines_of_a_bulk_response_are_streamed(
    reverse_proxy: ReverseProxy, instances: list[Service], database: Database
) -> None:
    """Every result that the service has sent arrives while the request continues."""
    with closing(reverse_proxy.open(source=CLIENT_ADDRESS)) as connection:
        _post_bulk(connection, [new_body() for _ in range(bulk.MAX_USERS)])
        response = connection.getresponse()
        first = json.loads(response.readline())
        with _attempts_locked(database):
            eventually(lambda: database.execute(WAITING), 10, "the request has ended before its response was read")
            for instance in instances:
                instance.freeze()
            [(sent,)] = database.execute(OF_THE_SAME_REQUEST, [first["attempt_id"]])
            assert isinstance(sent, int)
            rest = [json.loads(response.readline()) for _ in range(sent - 1)]
            for instance in instances:
                instance.kill()  # it would create the other users during the next test

    assert {result["status"] for result in [first, *rest]} == {201}


@contextmanager
def _attempts_locked(database: Database) -> Iterator[None]:
    """Prevent all transactions from writing attempts."""
    with closing(psycopg2.connect(database.url)) as connection, connection.cursor() as cursor:
        cursor.execute("lock table attempts in share mode")
        yield


def test_a_bulk_request_is_not_retried_once_it_was_sent(
    reverse_proxy: ReverseProxy, instances: list[Service], database: Database
) -> None:
    """Not even with an Idempotency-Key. Large requests could not be."""
    with closing(reverse_proxy.open(source=CLIENT_ADDRESS)) as connection, _attempts_locked(database):
        _post_bulk(connection, [new_body()])
        [(port,)] = eventually(lambda: database.execute(WAITING), 10, "no instance has received the request")
        [serving] = [instance for instance in instances if port in _local_ports(instance)]
        serving.kill()
        response = connection.getresponse()
        document = json.load(response)

    assert (response.status, document["code"], response.headers["Retry-After"]) == (503, "outcome_unknown", "2")


def _local_ports(instance: Service) -> set[int]:
    return {
        connection.laddr.port
        for pid in (instance.pid, *instance.workers())
        for connection in psutil.Process(pid).net_connections("tcp")
    }


def test_an_import_file_of_1_mb_can_be_uploaded(
    reverse_proxy: ReverseProxy, client: ProxyClient, database: Database
) -> None:
    administrator = client.create()
    database.execute("update users set is_admin = true where username = %s", [administrator.sent["username"]])
    assert client.log_in(administrator.json["login"], administrator.json["password"])
    _, page = client.get(imports.UPLOAD_PATH)
    file = "Name,Username,Phone\n" + f"{'x' * 1000},someone,12\n" * 1000
    body = (
        f'--x\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{csrf_token(page)}\r\n'
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="people.csv"\r\n\r\n{file}\r\n--x--\r\n'
    )
    headers = {
        "Content-Type": "multipart/form-data; boundary=x",
        "Referer": f"https://{reverse_proxy.host}:{reverse_proxy.port}{imports.UPLOAD_PATH}",
    }

    response, _ = client._send("POST", imports.UPLOAD_PATH, body, headers, 10)

    assert response.status == 302
    import_id = response.headers["Location"].strip("/").split("/")[-1]
    counting = "select count(*) from import_rows where import_id = %s"
    assert eventually(lambda: database.execute(counting, [import_id]) == [(1000,)], 30, "the file is not checked")


def test_a_body_below_the_proxys_limit_but_too_large_for_the_service_is_recorded(
    reverse_proxy: ReverseProxy, database: Database
) -> None:
    with closing(reverse_proxy.open()) as connection:
        body = json.dumps(new_body() | {"name": "x" * 20_000})
        connection.request("POST", "/useradd", body, {"Content-Type": "application/json"})
        document = json.load(connection.getresponse())

    assert document["code"] == "body_too_large"
    assert database.execute("select status from attempts where id = %s", [document["attempt_id"]]) == [(413,)]


@pytest.mark.parametrize("path", bulk.PATHS)
def test_a_bulk_body_below_the_proxys_limit_but_too_large_for_the_service_is_recorded(
    reverse_proxy: ReverseProxy, database: Database, path: str
) -> None:
    with closing(reverse_proxy.open()) as connection:
        connection.request("POST", path, b"\n" * (bulk.MAX_BULK_BODY_BYTES + 1), {"Content-Type": "application/json"})
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
    # nginx reads the whole body first. HAProxy answers while a client is still sending a large one.
    length = 300_000 if isinstance(shared_reverse_proxy, Nginx) else 1000
    for instance in shared_instances:
        instance.kill()

    page, html = shared_reverse_proxy.get("/results/")
    with closing(ProxyClient(shared_reverse_proxy)) as client:
        answer = client.create()
    with closing(shared_reverse_proxy.open()) as connection:
        _post_bulk(connection, [new_body() | {"name": "x" * length}])
        response = connection.getresponse()
        document = json.load(response)
    with closing(shared_reverse_proxy.open()) as connection:
        connection.request("POST", imports.UPLOAD_PATH, b"x" * length)
        upload = connection.getresponse()
        upload_html = upload.read()

    assert (page.status, page.headers["Content-Type"], page.headers["Retry-After"]) == (503, "text/html", "2")
    assert "Сервис сейчас не отвечает" in html.decode()
    assert (answer.status, answer.code, answer.json["recorded"]) == (503, "outcome_unknown", False)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "2"
    assert (response.status, document) == (503, answer.json)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "2"
    assert (upload.status, upload_html) == (503, html)
