"""F1 to F7, F40: PostgreSQL is away, for a moment or for longer than a request waits, all of it or one session.

Outages shorter than the deadline are hidden. In longer ones every request is answered 503 in time, and every attempt
is in the table soon after PostgreSQL is back (promises P1, P2, P8, P9).
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
from tests.chaos.invariants import HIDDEN_S, check
from tests.chaos.load import Answer, Client, Load, burst, new_body, new_key, summary
from tests.chaos.networks import THERE, Host
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6
BACK_WITHIN_S = 2.0
"""After which all is recorded and users are created again."""
HALF_WITHIN_S, ALL_WITHIN_S = 0.5, 3.0
"""What half of the answers, and all, may take that wait for nobody: 2 to 4 ms, but the machine has other work, too. Who
waits for PostgreSQL waits until the deadline, 3 s.
"""
WORKERS = 2
READERS = 20
TRIES = 10
SILENCES: dict[str, Callable[[Proxy], None]] = {"swallowed": Proxy.blackhole, "held up": Proxy.hold}
"""Partitions: what is sent is lost, and so are the connections; or it arrives when the partition ends."""


# --- What is expected -----------------------------------------------------------------------------------------------


def _only_created(answers: Sequence[Answer]) -> None:
    assert {answer.code for answer in answers} == {"created"}, summary(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S, summary(answers)


def _hidden_if_short(answers: Sequence[Answer], away_s: float) -> None:
    """Only created, unless PostgreSQL took longer than a request waits: a machine may have much other work."""
    (_only_created if away_s < HIDDEN_S else _answered_in_time)(answers)


def _answered_in_time(answers: Sequence[Answer]) -> None:
    """P1, by nothing but what the absence of PostgreSQL explains."""
    explained = {"created", "database_unavailable", "outcome_unknown", "overloaded"}
    assert {answer.code for answer in answers} <= explained, summary(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S, summary(answers)


def _refused_at_once(service: Service, answers: Sequence[Answer]) -> None:
    """No request tries to find out for itself what is known."""
    tried = {line["request_id"] for line in service.log_lines() if line["message"] == "database unavailable"}
    assert not tried & {answer.attempt_id for answer in answers}
    assert {(answer.status, answer.code) for answer in answers} == {(503, "database_unavailable")}, summary(answers)
    assert {answer.headers["Retry-After"] for answer in answers} <= {"1", "2", "3"}
    _quick([answer.seconds for answer in answers])


def _quick(seconds: Sequence[float]) -> None:
    assert statistics.median(seconds) < HALF_WITHIN_S, sorted(seconds)
    assert max(seconds) < ALL_WITHIN_S, sorted(seconds)


def _await_noticed(service: Service) -> None:
    """Wait until each worker knows that PostgreSQL is away."""
    news = ("database unavailable: breaker opened", "writing")

    def noticed() -> int:
        return sum((line.get("message"), line.get("breaker")) == news for line in service.log_lines())

    eventually(lambda: noticed() >= WORKERS, 10, "not every worker noticed that PostgreSQL is away")


def _await_back(postgres: Postgres, client: Client, answers: Sequence[Answer]) -> list[Answer]:
    """P2, P9: soon all is recorded and a user is created, without a restart. Return what was answered until then."""
    began = time.monotonic()
    numbers = [answer.attempt_id for answer in answers]
    question = "select count(*) from attempts where id = any(%s::uuid[]) and answered is not null"

    def missing() -> int:
        return len(numbers) - int(postgres.execute(question, [numbers])[0][0])

    eventually(lambda: not missing(), BACK_WITHIN_S, f"P2: not all of {len(numbers)} attempts are recorded")
    later: list[Answer] = []

    def creates() -> bool:
        later.append(client.create())
        return later[-1].status == 201

    eventually(creates, max(0, began + BACK_WITHIN_S - time.monotonic()), "P9: no user is created")
    return later


# --- Who asks meanwhile ---------------------------------------------------------------------------------------------


class Browser(Client):
    """A client that asks for pages, as a person's browser does; with the `cookie` of another one, if given."""

    def __init__(self, service: Service, cookie: str = "") -> None:
        super().__init__(service)
        self._cookie = cookie

    @property
    def cookie(self) -> str:
        """What the session is known by."""
        return self._cookie

    def _send(
        self, method: str, path: str, body: str | None, headers: dict[str, str], timeout: float
    ) -> tuple[http.client.HTTPResponse, str]:
        return super()._send(method, path, body, headers | HTML, timeout)

    def visit(self, path: str, **form: str) -> tuple[int, str, float]:
        """Open a page, or send a form to it; return status, kind of answer, and how long it took."""
        method, body = ("POST", urlencode(form)) if form else ("GET", None)
        began = time.monotonic()
        response, _ = self._send(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"}, 10)
        return response.status, response.headers.get_content_type(), time.monotonic() - began


@contextmanager
def _repeated(ask: Callable[[], object], parallel: int = 1, pause_s: float = 0.0) -> Iterator[None]:
    """Do something again and again, so many at a time, while the block runs; raise what it raised."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.wait(pause_s):
            ask()

    with ThreadPoolExecutor(parallel) as pool:
        works = [pool.submit(work) for _ in range(parallel)]
        try:
            yield
        finally:
            stopped.set()
    for one in works:
        one.result()


@contextmanager
def _pulse(service: Service) -> Iterator[list[float]]:
    """Ask /livez while the block runs; give how long each answer took."""
    beats: list[float] = []

    def beat() -> None:
        began = time.monotonic()
        assert service.get("/livez", timeout=10) == 200
        beats.append(time.monotonic() - began)

    with _repeated(beat, pause_s=0.05):
        yield beats


# --- Shorter than the deadline: hidden ------------------------------------------------------------------------------


def test_a_killed_session_is_hidden_although_postgres_recovers_from_a_crash(
    postgres: Postgres, service: Service
) -> None:
    """F3."""
    away = []
    with Load(service, clients=6) as load:
        for _ in range(2):
            load.await_answers(len(load.answers) + 50)
            away.append(postgres.crash())
        load.await_answers(len(load.answers) + 50)

    _hidden_if_short(load.answers, max(away))
    check(postgres, service, load.answers)


def test_a_restart_is_hidden(postgres: Postgres, service: Service) -> None:
    """F4."""
    away = []
    with Load(service, clients=6) as load:
        for _ in range(2):
            load.await_answers(len(load.answers) + 50)
            away.append(postgres.restart())
        load.await_answers(len(load.answers) + 50)

    _hidden_if_short(load.answers, max(away))
    check(postgres, service, load.answers)


# --- Longer: answered, recorded -------------------------------------------------------------------------------------


def test_the_service_starts_without_postgres_and_recovers_when_it_comes(
    postgres: Postgres, new_service: Callable[..., Service]
) -> None:
    """F1."""
    postgres.stop()
    service = new_service(postgres.url(), WORKERS=str(WORKERS)).start()
    workers = service.workers()
    with _pulse(service) as beats:
        with Load(service, clients=8, pause_s=0.05, reconnecting=True) as load:
            _await_noticed(service)
        refused = burst(service, requests=30, parallel=4)

    _answered_in_time(load.answers)
    _refused_at_once(service, refused)
    _quick(beats)
    answers = load.answers + refused
    assert {answer.status for answer in answers} == {503}
    postgres.start()
    client = Client(service)
    answers += _await_back(postgres, client, answers)
    client.close()
    assert service.workers() == workers
    check(postgres, service, answers)


def test_a_killed_postgres_is_noticed_once_and_missed_by_nobody_when_it_is_back(
    postgres: Postgres, service: Service, client: Client
) -> None:
    """F2."""
    with Load(service, clients=8, pause_s=0.02, reconnecting=True) as load:
        load.await_answers(50)
        postgres.kill()
        _await_noticed(service)
    refused = burst(service, requests=40, parallel=20)

    _answered_in_time(load.answers)
    _refused_at_once(service, refused)
    answers = load.answers + refused
    postgres.start()
    answers += _await_back(postgres, client, answers)
    check(postgres, service, answers)


def _through_silence(
    service: Service, begin: Callable[[], None], *, clients: int = 8, pause_s: float = 0.02
) -> list[Answer]:
    """Let PostgreSQL fall silent under load, see that nobody waits longer than promised, and return the answers."""
    with _pulse(service) as beats:
        with Load(service, clients=clients, pause_s=pause_s, reconnecting=True) as load:
            load.await_answers(50)
            begin()
            _await_noticed(service)
        refused = burst(service, requests=40, parallel=20)

    _answered_in_time(load.answers)
    _refused_at_once(service, refused)
    _quick(beats)
    return load.answers + refused


def test_a_frozen_postgres_freezes_nobody(postgres: Postgres, service: Service, client: Client) -> None:
    """F5."""
    answers = _through_silence(service, postgres.freeze, clients=40, pause_s=0.2)
    postgres.thaw()
    answers += _await_back(postgres, client, answers)
    check(postgres, service, answers)


@pytest.mark.parametrize("silence", SILENCES)
def test_a_partition_is_like_a_frozen_postgres(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client, silence: str
) -> None:
    """F7."""
    answers = _through_silence(service, lambda: SILENCES[silence](proxy))
    proxy.pass_through()
    answers += _await_back(postgres, client, answers)
    check(postgres, service, answers)


def test_a_network_that_acknowledges_nothing_is_like_a_frozen_postgres(
    postgres: Postgres, distant: Host, new_service: Callable[..., Service]
) -> None:
    """F7, as TCP sees it: packets are lost, not bytes."""
    proxy = Proxy(postgres.port, distant.listen())
    service = new_service(postgres.url(port=proxy.port, host=THERE), WORKERS=str(WORKERS)).start()
    answers = _through_silence(service, distant.cut)
    distant.mend()
    with closing(Client(service)) as client:
        answers += _await_back(postgres, client, answers)
    check(postgres, service, answers)
    service.term()
    proxy.close()


def test_wrong_data_is_answered_as_ever_and_recorded_later(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client
) -> None:
    """P8, while PostgreSQL is away."""
    wrong = new_body() | {"phone": "12", "birth_date": "1990-02-30"}
    before = client.post(wrong, new_key())
    proxy.blackhole()
    with Load(service, clients=4, pause_s=0.02, reconnecting=True) as load:
        _await_noticed(service)
    during = [client.post(wrong, new_key()) for _ in range(50)]

    assert {answer.status for answer in [before, *during]} == {422}, summary(during)
    assert all(answer.json["errors"] == before.json["errors"] for answer in during)
    assert not any("recorded" in answer.json for answer in during)
    _quick([answer.seconds for answer in during])
    answers = [before, *load.answers, *during]
    proxy.pass_through()
    answers += _await_back(postgres, client, answers)
    check(postgres, service, answers)


def test_pages_say_that_the_database_is_away_and_nobody_is_logged_out(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client
) -> None:
    """F40."""
    user = client.create()
    credentials = {"login": user.json["login"], "password": user.json["password"]}
    reader, newcomer = Browser(service), Browser(service)
    assert reader.log_in(**credentials)
    proxy.refuse()

    token = csrf_token(newcomer.get("/login/")[1])
    pages = [
        page for _ in range(3) for page in (reader.visit("/results/"), reader.visit(f"/results/{user.attempt_id}/"))
    ]
    pages += [newcomer.visit("/login/", csrf_token=token, **credentials) for _ in range(3)]

    assert {page[:2] for page in pages} == {(503, "text/html")}
    assert max(seconds for _, _, seconds in pages) < ANSWERED_WITHIN_S
    proxy.pass_through()
    eventually(lambda: reader.visit("/results/")[0] == 200, BACK_WITHIN_S, "the reader was logged out")
    eventually(lambda: newcomer.visit("/login/", csrf_token=token, **credentials)[0] == 302, BACK_WITHIN_S, "no login")
    assert newcomer.visit("/results/")[0] == 200
    reader.close()
    newcomer.close()
    check(postgres, service, [user])


# --- A part of it: the others do not notice -------------------------------------------------------------------------


def test_a_frozen_session_costs_the_one_request_that_it_serves(
    postgres: Postgres, service: Service, client: Client
) -> None:
    """F6. The session is idle when it is frozen: one with a latch of PostgreSQL's own would hold up all others."""
    answers: list[Answer] = []
    for _ in range(TRIES):  # now and then it is the upkeep that meets the frozen session, and no request notices
        answers.append(client.create())  # alone, so that no other request has used a session since
        used_last = postgres.execute(
            "select pid from pg_stat_activity where application_name = 'useradd' and query like '%execute useradd%'"
            " order by state_change desc limit 1"
        )
        if not used_last:
            continue  # upkeep has used it meanwhile
        frozen = postgres.freeze_backend(used_last[0][0])  # the pool gives it to the next request
        with Load(service, clients=8, reconnecting=True) as load:
            load.await_answers(200)
        postgres.thaw_backend(frozen)
        answers += load.answers
        if any(answer.status != 201 for answer in answers):
            break

    _answered_in_time(answers)
    assert len([answer for answer in answers if answer.status != 201]) == 1, summary(answers)
    check(postgres, service, answers)


@pytest.mark.parametrize("stuck", [False, True], ids=["quick", "stuck"])
def test_many_readers_of_the_statistics_do_not_get_in_the_way_of_new_users(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client, *, stuck: bool
) -> None:
    """Bulkhead: reading has threads and connections of its own, and they may be stuck."""
    user = client.create()
    statuses: list[int] = []

    def read() -> None:
        with closing(Browser(service, cookie)) as browser:
            statuses.append(browser.visit("/results/")[0])

    with closing(Browser(service)) as reader:
        assert reader.log_in(user.json["login"], user.json["password"])
        cookie = reader.cookie
    if stuck:
        proxy.freeze_statement("READ ONLY", lasting=True)  # with which every transaction of a reader begins
    with _repeated(read, parallel=READERS), Load(service, clients=6, reconnecting=True) as load:
        eventually(lambda: len(statuses) >= 200, 20, "the pages are not answered")
        load.await_answers(100)
    proxy.pass_through()

    assert set(statuses) == ({503} if stuck else {200, 503})
    _only_created(load.answers)
    check(postgres, service, [user, *load.answers])
