"""deploy/nginx.conf, haproxy.cfg, 503.html and 503.json: the proxies as they are shipped, driven by real clients."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psutil
import pytest

from tests.chaos.load import Load, new_body, summary
from tests.chaos.processes import HOST, eventually
from tests.chaos.service import Service
from tests.deploy.conftest import Database
from tests.deploy.fronts import FAR, FarClient, Front, Haproxy, Nginx

ROWS, WIDTH = 10_000, 2_000
"""A download of 20 MB: more than all buffers on the way hold."""
MANY = """
    insert into attempts (id, received_at, status, code, method, duration_ms, username, language, client_address,
                          user_agent, sent)
    select gen_random_uuid(), now(), 422, 'invalid_phone', 'POST', 1, 'u' || n, 'en', '::1', '',
           jsonb_build_object('name', repeat('x', %(width)s))
      from generate_series(1, %(rows)s) n
"""
SLOW_CLIENTS = 30


@pytest.fixture(scope="module", params=[Nginx, Haproxy], ids=["nginx", "haproxy"])
def shared_front(request: pytest.FixtureRequest, shared_instances: list[Service]) -> Iterator[Front]:
    """A proxy with the configuration of deploy/."""
    front: Front = request.param(shared_instances)
    yield front
    front.close()


@pytest.fixture
def front(shared_front: Front, instances: list[Service]) -> Front:
    """A proxy that uses both instances."""
    shared_front.ready()
    return shared_front


@pytest.fixture
def client(front: Front) -> Iterator[FarClient]:
    """A client by way of the proxy."""
    client = FarClient(front)
    yield client
    client.close()


def test_a_user_is_created_and_the_clients_own_address_arrives(client: FarClient, database: Database) -> None:
    answer = client.create()

    addresses = database.ask("select client_address from attempts where id = %s", [answer.attempt_id])
    assert (answer.status, addresses) == (201, [(FAR,)])
    assert answer.json["links"]["login"].startswith("https://")
    assert answer.headers["Strict-Transport-Security"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_what_a_client_says_of_its_address_does_not_count(front: Front, database: Database) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "Content-Type": "application/json"}

    with closing(front.open(source=FAR)) as connection:
        connection.request("POST", "/useradd", json.dumps(new_body()), forged)
        told = json.load(connection.getresponse())

    assert database.ask("select client_address from attempts where id = %s", [told["attempt_id"]]) == [(FAR,)]
    assert told["links"]["login"].startswith("https://")


def test_whoever_logs_in_stays_logged_in_on_either_instance(client: FarClient, front: Front) -> None:
    answer = client.create()

    opened = client.log_in(answer.json["login"], answer.json["password"])

    assert opened
    assert [client.get("/account/")[0] for _ in range(4)] == [200] * 4


def test_http_leads_to_https_and_keeps_method_and_body(front: Front) -> None:
    with closing(http.client.HTTPConnection(HOST, front.plain_port, timeout=10)) as connection:
        connection.request("POST", "/useradd?dry_run=1", b"{}")
        response = connection.getresponse()

    assert response.status == 308
    assert response.headers["Location"].startswith("https://")
    assert response.headers["Location"].endswith("/useradd?dry_run=1")


def test_http_2_is_spoken_and_old_tls_is_not(front: Front) -> None:
    assert _agreed(front, ssl.TLSVersion.TLSv1_3) == "h2"
    assert _agreed(front, ssl.TLSVersion.TLSv1_2) == "h2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises((ssl.SSLError, ConnectionResetError)):
        _agreed(front, ssl.TLSVersion.TLSv1_1)


def _agreed(front: Front, version: ssl.TLSVersion) -> str | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(front.folder / "certificate.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.maximum_version = version
    with (
        socket.create_connection((HOST, front.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secure,
    ):
        return secure.selected_alpn_protocol()


@pytest.mark.parametrize(
    "path", ["/metrics", "/status", "/status/", "/%73tatus", "//status", "/metrics?x=1", "/results/../metrics"]
)
def test_what_is_for_operators_cannot_be_reached_from_outside(front: Front, path: str) -> None:
    response, body = front.get(path)

    assert response.status == 404
    assert b"spool" not in body


def test_health_is_there_for_whoever_watches_from_outside(front: Front) -> None:
    assert front.get("/readyz")[0].status == 200


def test_an_oversized_body_is_refused_at_the_door(front: Front, database: Database) -> None:
    before = database.ask("select count(*) from attempts")
    with closing(front.open()) as connection:
        connection.putrequest("POST", "/useradd")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(10 * 2**20))
        connection.endheaders()
        status = connection.getresponse().status

    assert status == 413
    assert database.ask("select count(*) from attempts") == before


def test_a_body_that_is_too_large_for_the_service_alone_is_recorded(front: Front, database: Database) -> None:
    with closing(front.open()) as connection:
        body = json.dumps(new_body() | {"name": "x" * 20_000})
        connection.request("POST", "/useradd", body, {"Content-Type": "application/json"})
        told = json.load(connection.getresponse())

    assert told["code"] == "body_too_large"
    assert database.ask("select status from attempts where id = %s", [told["attempt_id"]]) == [(413,)]


def test_slow_clients_cost_the_service_nothing(front: Front, client: FarClient, instances: list[Service]) -> None:
    with ExitStack() as stack:
        for _ in range(SLOW_CLIENTS):
            slow = stack.enter_context(closing(front.open(source=FAR)))
            slow.putrequest("POST", "/useradd")
            slow.putheader("Content-Type", "application/json")
            slow.putheader("Content-Length", "200")
            slow.endheaders(b'{"name": "Ann', encode_chunked=False)
        answer = client.create()
        taken = eventually(lambda: _idle(instances), 5, "slow clients hold connections to the service")

    assert answer.status == 201
    assert taken


def _idle(instances: list[Service]) -> bool:
    """Tell whether nobody is connected to the instances but for a health check or two."""
    pids = [pid for instance in instances for pid in instance.workers()]
    taken = [
        connection
        for pid in pids
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED
        and connection.laddr.port in {instance.port for instance in instances}
    ]
    return len(taken) <= len(instances)


def test_without_a_key_nothing_is_sent_twice(
    front: Front, client: FarClient, instances: list[Service], database: Database
) -> None:
    """A frozen instance has the bytes: the proxy says that it knows nothing, and one attempt at the most is there."""
    for instance in instances:
        instance.freeze()
    body = new_body()
    with closing(front.open(source=FAR)) as connection:
        connection.request("POST", "/useradd", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        told = json.load(response)
    for instance in instances:
        instance.thaw()
    front.ready()

    assert (response.status, told["code"], response.headers["Retry-After"]) == (503, "outcome_unknown", "2")
    assert all(client.create().status == 201 for _ in range(4))  # whatever waited in the instances is done by now
    assert _attempts_of(database, body) in ([], [(201,)])


def _attempts_of(database: Database, body: dict[str, str]) -> list[tuple[object, ...]]:
    return database.ask("select status from attempts where username = %s", [body["username"]])


def test_a_killed_instance_costs_clients_with_keys_no_error(front: Front, instances: list[Service]) -> None:
    with Load(front, clients=6, client=FarClient) as load:
        load.await_answers(30)
        instances[0].kill()
        load.await_answers(len(load.answers) + 60)
    front_answers = load.answers

    assert {answer.status for answer in front_answers} == {201}, summary(front_answers)


def test_a_download_streams_and_one_that_breaks_off_is_seen_as_broken(
    front: Front, client: FarClient, instances: list[Service], database: Database
) -> None:
    database.ask(MANY, {"width": WIDTH, "rows": ROWS})
    reader = client.create()
    assert client.log_in(reader.json["login"], reader.json["password"])
    with closing(front.open(source=FAR)) as connection:
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.request("GET", "/results/export.csv?period=all", headers={"Cookie": client._cookie})
        response = connection.getresponse()
        first = response.read(WIDTH + 1000)
        for instance in instances:
            instance.kill()
        with pytest.raises((http.client.IncompleteRead, OSError)):
            response.read()
    database.ask("delete from attempts where username ~ '^u[0-9]+$' and code = 'invalid_phone'")

    assert response.status == 200
    assert first.count(b"\n") >= 2


def test_without_any_instance_people_get_a_page_and_programs_a_problem(
    shared_front: Front, shared_instances: list[Service]
) -> None:
    for instance in shared_instances:
        instance.kill()

    page, html = shared_front.get("/results/")
    with closing(FarClient(shared_front)) as client:
        answer = client.create()

    assert (page.status, page.headers["Content-Type"], page.headers["Retry-After"]) == (503, "text/html", "2")
    assert "Сервис сейчас не отвечает" in html.decode()
    assert (answer.status, answer.code, answer.json["recorded"]) == (503, "outcome_unknown", False)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "2"
