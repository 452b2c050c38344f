"""F1 to F7, F40: PostgreSQL or one of its sessions is unavailable.

It is unavailable briefly, or for longer than a request waits. Retries hide outages shorter than the deadline. In longer
ones every request is answered with 503 in time, and every attempt is in the table soon after PostgreSQL is back
(promises P1, P2, P8, P9).
"""

import http.client
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from urllib.parse import urlencode

import pytest

from tests.builders import HTML, csrf_token
from tests.chaos.invariants import HIDDEN_S, check_invariants
from tests.chaos.load import Answer, Client, Load, burst, new_body, new_key, summarize
from tests.chaos.networks import REMOTE_ADDRESS, Host
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6
BACK_WITHIN_S = 10.0
"""Time until all attempts are recorded and users are created again."""
HALF_WITHIN_S, ALL_WITHIN_S = 0.5, 3.0
"""Limits of the median and the longest response that does not wait for PostgreSQL: usually 2 to 4 ms, but the machine
may be busy. A request that waits for PostgreSQL waits until the deadline, 3 s.
"""
WORKERS = 2
READERS = 20
TRIES = 10
SILENCES: dict[str, Callable[[Proxy], None]] = {"swallowed": Proxy.blackhole, "held up": Proxy.hold}
"""Partitions: data and connections are lost, or data arrives when the partition ends."""


# --- Expectations ---------------------------------------------------------------------------------------------------


def _only_created(answers: Sequence[Answer]) -> None:
    assert {answer.code for answer in answers} == {"created"}, summarize(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S, summarize(answers)


def _hidden_if_short(answers: Sequence[Answer], outage_s: float) -> None:
    """Check that the outage was hidden, unless it lasted longer than a request waits.

    It may last long on a busy machine.
    """
    (_only_created if outage_s < HIDDEN_S else _answered_in_time)(answers)


def _answered_in_time(answers: Sequence[Answer]) -> None:
    """Check P1: answers in time, with codes that an outage of PostgreSQL explains."""
    explained = {"created", "database_unavailable", "outcome_unknown", "overloaded"}
    assert {answer.code for answer in answers} <= explained, summarize(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S, summarize(answers)


def _refused_at_once(service: Service, answers: Sequence[Answer]) -> None:
    """Check that requests were refused without trying to connect, because the breaker was open."""
    lines = [line for line in service.log_lines() if line["message"] == "database unavailable"]
    tried = {line["request_id"] for line in lines if "request_id" in line}  # others are of the check
    assert not tried & {answer.attempt_id for answer in answers}
    assert {(answer.status, answer.code) for answer in answers} == {(503, "database_unavailable")}, summarize(answers)
    assert {answer.headers["Retry-After"] for answer in answers} <= {"1", "2", "3"}
    _quick([answer.seconds for answer in answers])


def _quick(seconds: Sequence[float]) -> None:
    assert statistics.median(seconds) < HALF_WITHIN_S, sorted(seconds)
    assert max(seconds) < ALL_WITHIN_S, sorted(seconds)


def _await_noticed(service: Service) -> None:
    """Wait until the breaker of each worker is open."""
    event = ("database unavailable: breaker opened", "writing")

    def open_breakers() -> int:
        return sum((line.get("message"), line.get("breaker")) == event for line in service.log_lines())

    eventually(lambda: open_breakers() >= WORKERS, 10, "not every worker opened its breaker")


def _await_back(postgres: Postgres, client: Client, answers: Sequence[Answer]) -> list[Answer]:
    """Check P2 and P9, and return further answers.

    All attempts are recorded and users are created again without a restart.
    """
    began = time.monotonic()
    attempt_ids = [answer.attempt_id for answer in answers]
    query = "select count(*) from attempts where id = any(%s::uuid[]) and answered is not null"

    def missing() -> int:
        return len(attempt_ids) - int(postgres.execute(query, [attempt_ids])[0][0])

    eventually(lambda: not missing(), BACK_WITHIN_S, f"P2: not all of {len(attempt_ids)} attempts are recorded")
    later: list[Answer] = []

    def creates() -> bool:
        later.append(client.create())
        return later[-1].status == 201

    eventually(creates, max(0, began + BACK_WITHIN_S - time.monotonic()), "P9: no user is created")
    return later


# --- Clients --------------------------------------------------------------------------------------------------------


class Browser(Client):
    """A client that requests HTML pages as a browser does.

    It has the session of another client if `cookie` is given.
    """

    def __init__(self, service: Service, cookie: str = "") -> None:
        super().__init__(service)
        self._cookie = cookie

    @property
    def cookie(self) -> str:
        """The session cookie."""
        return self._cookie

    def _send(
        self, method: str, path: str, body: str | None, headers: dict[str, str], timeout: float
    ) -> tuple[http.client.HTTPResponse, str]:
        return super()._send(method, path, body, headers | HTML, timeout)

    def visit(self, path: str, **form: str) -> tuple[int, str, float]:
        """Open a page or send a form; return status, media type and seconds."""
        method, body = ("POST", urlencode(form)) if form else ("GET", None)
        began = time.monotonic()
        response, _ = self._send(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"}, 10)
        return response.status, response.headers.get_content_type(), time.monotonic() - began


@contextmanager
def _repeated(action: Callable[[], object], parallel: int = 1, pause_s: float = 0.0) -> Iterator[None]:
    """Repeat an action in `parallel` threads while the block runs; re-raise its exceptions."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(pause_s):
            action()

    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(work) for _ in range(parallel)]
        try:
            yield
        finally:
            stopped.set()
    for future in futures:
        future.result()


@contextmanager
def _polled_livez(service: Service) -> Iterator[list[float]]:
    """Request /livez repeatedly while the block runs; yield the list of durations in seconds."""
    durations: list[float] = []

    def poll() -> None:
        began = time.monotonic()
        assert service.get("/livez", timeout=10) == 200
        durations.append(time.monotonic() - began)

    with _repeated(poll, pause_s=0.05):
        yield durations


# --- Outages shorter than the deadline ------------------------------------------------------------------------------


def test_a_killed_session_and_crash_recovery_are_hidden_by_retries(postgres: Postgres, service: Service) -> None:
    """F3."""
    _check_two_short_outages(postgres, service, postgres.crash)


def test_a_restart_of_postgres_is_hidden_by_retries(postgres: Postgres, service: Service) -> None:
    """F4."""
    _check_two_short_outages(postgres, service, postgres.restart)


def _check_two_short_outages(postgres: Postgres, service: Service, interrupt: Callable[[], float]) -> None:
    """Check that retries hide two outages. `interrupt` returns the duration of one in seconds."""
    outages_s = []
    with Load(service, clients=6) as load:
        for _ in range(2):
            load.await_answers(len(load.answers) + 50)
            outages_s.append(interrupt())
        load.await_answers(len(load.answers) + 50)

    _hidden_if_short(load.answers, max(outages_s))
    check_invariants(postgres, service, load.answers)


# --- Longer outages -------------------------------------------------------------------------------------------------


def test_the_service_starts_without_postgres_and_recovers_when_it_is_available(
    postgres: Postgres, new_service: Callable[..., Service]
) -> None:
    """F1."""
    postgres.stop()
    service = new_service(postgres.url(), WORKERS=str(WORKERS)).start()
    children = service.workers()  # and the process that checks the database
    with _polled_livez(service) as durations:
        with Load(service, clients=8, pause_s=0.05, is_reconnecting=True) as load:
            _await_noticed(service)
        refused = burst(service, requests=30, parallel=4)

    _answered_in_time(load.answers)
    _refused_at_once(service, refused)
    _quick(durations)
    answers = load.answers + refused
    assert {answer.status for answer in answers} == {503}
    postgres.start()
    client = Client(service)
    answers += _await_back(postgres, client, answers)
    client.close()
    eventually(lambda: _only_first_workers(service, children), 10, "a worker was replaced, or the check did not end")
    check_invariants(postgres, service, answers)


def _only_first_workers(service: Service, children: list[int]) -> bool:
    """Return whether the workers are the only processes and none was replaced.

    The process that checks the database is started again until PostgreSQL is available.
    """
    running = service.workers()
    return len(running) == WORKERS and set(running) <= set(children)


def test_a_killed_postgres_opens_the_breaker_and_users_are_created_when_it_is_back(
    postgres: Postgres, service: Service, client: Client
) -> None:
    """F2."""
    with Load(service, clients=8, pause_s=0.02, is_reconnecting=True) as load:
        load.await_answers(50)
        postgres.kill()
        _await_noticed(service)
    refused = burst(service, requests=40, parallel=20)

    _answered_in_time(load.answers)
    _refused_at_once(service, refused)
    answers = load.answers + refused
    postgres.start()
    answers += _await_back(postgres, client, answers)
    check_invariants(postgres, service, answers)


def _load_through_silence(
    service: Service, silence: Callable[[], None], *, clients: int = 8, pause_s: float = 0.02
) -> list[Answer]:
    """Make PostgreSQL silent under load and return the answers.

    Checks that no request waits longer than promised.
    """
    with _polled_livez(service) as durations:
        with Load(service, clients=clients, pause_s=pause_s, is_reconnecting=True) as load:
            load.await_answers(50)
            silence()
            _await_noticed(service)
        refused = burst(service, requests=40, parallel=20)

    _answered_in_time(load.answers)
    _refused_at_once(service, refused)
    _quick(durations)
    return load.answers + refused


def test_a_frozen_postgres_does_not_block_requests(postgres: Postgres, service: Service, client: Client) -> None:
    """F5."""
    answers = _load_through_silence(service, postgres.freeze, clients=40, pause_s=0.2)
    postgres.thaw()
    answers += _await_back(postgres, client, answers)
    check_invariants(postgres, service, answers)


@pytest.mark.parametrize("silence", SILENCES)
def test_a_network_partition_does_not_block_requests(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client, silence: str
) -> None:
    """F7."""
    answers = _load_through_silence(service, lambda: SILENCES[silence](proxy))
    proxy.pass_through()
    answers += _await_back(postgres, client, answers)
    check_invariants(postgres, service, answers)


def test_unacknowledged_packets_do_not_block_requests(
    postgres: Postgres, remote_host: Host, new_service: Callable[..., Service]
) -> None:
    """F7 at the level of packets, which are lost without an acknowledgement."""
    proxy = Proxy(postgres.port, remote_host.listen())
    service = new_service(postgres.url(port=proxy.port, host=REMOTE_ADDRESS), WORKERS=str(WORKERS)).start()
    answers = _load_through_silence(service, remote_host.cut)
    remote_host.restore()
    with closing(Client(service)) as client:
        answers += _await_back(postgres, client, answers)
    check_invariants(postgres, service, answers)
    service.terminate()
    proxy.close()


def test_invalid_data_is_answered_422_during_an_outage_and_recorded_later(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client
) -> None:
    """P8 while PostgreSQL is unavailable."""
    invalid = new_body() | {"phone": "12", "birth_date": "1990-02-30"}
    before = client.post(invalid, new_key())
    proxy.blackhole()
    with Load(service, clients=4, pause_s=0.02, is_reconnecting=True) as load:
        _await_noticed(service)
    during = [client.post(invalid, new_key()) for _ in range(50)]

    assert {answer.status for answer in [before, *during]} == {422}, summarize(during)
    assert all(answer.json["errors"] == before.json["errors"] for answer in during)
    assert not any("recorded" in answer.json for answer in during)
    _quick([answer.seconds for answer in during])
    answers = [before, *load.answers, *during]
    proxy.pass_through()
    answers += _await_back(postgres, client, answers)
    check_invariants(postgres, service, answers)


def test_pages_answer_503_during_an_outage_and_sessions_stay_valid(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client
) -> None:
    """F40."""
    user = client.create()
    credentials = {"login": user.json["login"], "password": user.json["password"]}
    reader, visitor = Browser(service), Browser(service)
    assert reader.log_in(**credentials)
    proxy.refuse()

    token = csrf_token(visitor.get("/login/")[1])
    pages = [
        page for _ in range(3) for page in (reader.visit("/results/"), reader.visit(f"/results/{user.attempt_id}/"))
    ]
    pages += [visitor.visit("/login/", csrf_token=token, **credentials) for _ in range(3)]

    assert {page[:2] for page in pages} == {(503, "text/html")}
    assert max(seconds for _, _, seconds in pages) < ANSWERED_WITHIN_S
    proxy.pass_through()
    eventually(lambda: reader.visit("/results/")[0] == 200, BACK_WITHIN_S, "the reader was logged out")
    eventually(lambda: visitor.visit("/login/", csrf_token=token, **credentials)[0] == 302, BACK_WITHIN_S, "no login")
    assert visitor.visit("/results/")[0] == 200
    reader.close()
    visitor.close()
    check_invariants(postgres, service, [user])


# --- Partial outages ------------------------------------------------------------------------------------------------


def test_a_frozen_session_fails_only_the_request_that_it_serves(
    postgres: Postgres, service: Service, client: Client
) -> None:
    """F6: the session is idle when it is frozen.

    One that holds an internal latch would block all others.
    """
    answers: list[Answer] = []
    for _ in range(TRIES):  # sometimes upkeep, not a request, gets the frozen session
        answers.append(client.create())  # one at a time, so that no other request uses a session after it
        last_used = postgres.execute(
            "select pid from pg_stat_activity where application_name = 'useradd' and query like '%execute useradd%'"
            " order by state_change desc limit 1"
        )
        if not last_used:
            continue  # upkeep has used the session since
        frozen = postgres.freeze_backend(last_used[0][0])  # the pool gives it to the next request
        with Load(service, clients=8, is_reconnecting=True) as load:
            load.await_answers(200)
        postgres.thaw_backend(frozen)
        answers += load.answers
        if any(answer.status != 201 for answer in answers):
            break

    _answered_in_time(answers)
    assert len([answer for answer in answers if answer.status != 201]) == 1, summarize(answers)
    check_invariants(postgres, service, answers)


@pytest.mark.parametrize("stuck", [False, True], ids=["quick", "stuck"])
def test_many_readers_of_statistics_do_not_block_the_creation_of_users(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client, *, stuck: bool
) -> None:
    """Bulkhead: readers have their own permits and connections, which may all be stuck."""
    user = client.create()
    statuses: list[int] = []

    def read() -> None:
        with closing(Browser(service, cookie)) as browser:
            statuses.append(browser.visit("/results/")[0])

    with closing(Browser(service)) as reader:
        assert reader.log_in(user.json["login"], user.json["password"])
        cookie = reader.cookie
    if stuck:
        proxy.freeze_statement("READ ONLY", is_lasting=True)  # every transaction of a reader begins with it
    with _repeated(read, parallel=READERS), Load(service, clients=6, is_reconnecting=True) as load:
        eventually(lambda: len(statuses) >= 200, 20, "the pages are not answered")
        load.await_answers(100)
    proxy.pass_through()

    assert set(statuses) == ({503} if stuck else {200, 503})
    _only_created(load.answers)
    check_invariants(postgres, service, [user, *load.answers])
