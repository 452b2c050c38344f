"""F78, F81, F82: the spool's disk is slow, frozen, full or gone (promises P1, P2, P10)."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tests.chaos.disks import FaultyDisk, fill_disk, path_seen_by
from tests.chaos.invariants import check_invariants
from tests.chaos.load import Client, Load, burst, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6
NOTICED_WITHIN_S = 10.0
STUCK_WITHIN_S = 4.0
"""A disk that does not respond is noticed after 2 s; the machine may be busy."""
QUICK_S = 1.0
"""Limit of a response that waits for no disk: usually 5 ms, and 200 ms more until the disk counts as frozen."""
LOST = ["attempt not recorded", "spool unusable"]
NewService = Callable[..., Service]


@contextmanager
def _on_faulty_disk(new_service: NewService, database_url: str) -> Iterator[tuple[Service, FaultyDisk]]:
    service = new_service(database_url, WORKERS="1")
    disk = FaultyDisk(service.data_dir / "faulty", service.data_dir / "data")
    service.configure(**disk.settings)
    yield service.start(), disk
    disk.thaw()


def _readiness(service: Service) -> str:
    with closing(Client(service)) as client:
        return str(json.loads(client.get("/readyz")[1])["status"])


def _await_readiness(service: Service, status: str, seconds: float) -> None:
    eventually(lambda: _readiness(service) == status, seconds, f"/readyz does not become {status}")


@pytest.mark.parametrize(("flush_s", "is_recorded"), [(0.0, True), (0.1, True), (0.3, True), (1.5, False)])
def test_slow_flushes_do_not_delay_answers_beyond_the_promise(
    postgres: Postgres, new_service: NewService, flush_s: float, *, is_recorded: bool
) -> None:
    """F78: PostgreSQL leaves time for the disk, and all records that wait share a flush."""
    with _on_faulty_disk(new_service, postgres.url()) as (service, disk), closing(Client(service)) as client:
        first = client.create()
        disk.slow_down(flush_s)
        postgres.freeze()
        answers = burst(service, requests=40, parallel=16)
        postgres.thaw()
        disk.slow_down(0)

    print(f"flush {flush_s} s: {summarize(answers)}")
    assert {answer.status for answer in answers} == {503}, summarize(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S, summarize(answers)
    lost = [answer for answer in answers if answer.json.get("recorded") is False]
    assert bool(lost) is not is_recorded, summarize(lost)
    check_invariants(postgres, service, [first, *answers], allowed_errors=[] if is_recorded else LOST)


def test_a_frozen_disk_delays_no_user_and_no_health_check(postgres: Postgres, new_service: NewService) -> None:
    """F81."""
    with _on_faulty_disk(new_service, postgres.url()) as (service, disk):
        with Load(service, clients=4, pause_s=0.02) as load:
            load.await_answers(20)
            disk.freeze()
            started = time.monotonic()
            while time.monotonic() < started + STUCK_WITHIN_S:
                before = time.monotonic()
                assert service.get("/livez", timeout=10) == 200
                assert time.monotonic() - before < QUICK_S
                assert service.get("/status", timeout=QUICK_S) == 200
                assert service.get("/metrics", timeout=QUICK_S) == 200
            assert _readiness(service) == "spool_unusable"
        disk.thaw()
        _await_readiness(service, "ok", NOTICED_WITHIN_S)

    assert {answer.code for answer in load.answers} == {"created"}, summarize(load.answers)
    assert max(answer.seconds for answer in load.answers) < QUICK_S, summarize(load.answers)
    check_invariants(postgres, service, load.answers, allowed_errors=LOST)


def test_with_postgres_and_disk_frozen_every_answer_says_that_it_is_not_recorded(
    postgres: Postgres, new_service: NewService
) -> None:
    """F81 and F5."""
    with _on_faulty_disk(new_service, postgres.url()) as (service, disk), closing(Client(service)) as client:
        first = client.create()
        postgres.freeze()
        disk.freeze()
        answers = burst(service, requests=40, parallel=8)
        disk.thaw()
        postgres.thaw()

    assert {(answer.status, answer.json.get("recorded")) for answer in answers} == {(503, False)}, summarize(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S, summarize(answers)
    check_invariants(postgres, service, [first, *answers], allowed_errors=LOST)


def test_a_process_killed_after_a_frozen_disk_leaves_no_intents_of_answered_requests(
    postgres: Postgres, new_service: NewService
) -> None:
    """F81: an intent that is written late is cleared, so that no 201 becomes `interrupted`."""
    with _on_faulty_disk(new_service, postgres.url()) as (service, disk):
        with Load(service, clients=4, pause_s=0.02) as load:
            load.await_answers(10)
            disk.freeze()
            load.await_answers(30)
            disk.thaw()
        _await_readiness(service, "ok", NOTICED_WITHIN_S)
        service.kill()
        service.start()

    check_invariants(postgres, service, load.answers)


def test_a_spool_that_cannot_be_written_is_reported_and_is_created_again(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F82, without a restart."""
    service = new_service(postgres.url(port=proxy.port), WORKERS="1").start()
    with closing(Client(service)) as client:
        first = client.create()
        proxy.refuse()
        shutil.rmtree(service.spool)
        removed = burst(service, requests=10, parallel=4)
        shutil.rmtree(service.spool)
        service.spool.write_text("a file, not a directory")
        _await_readiness(service, "spool_unusable", NOTICED_WITHIN_S)
        lost = burst(service, requests=10, parallel=4)
        service.spool.unlink()
        _await_readiness(service, "ok", NOTICED_WITHIN_S)
        later = burst(service, requests=10, parallel=4)
        proxy.pass_through()

    assert not any("recorded" in answer.json for answer in [*removed, *later])
    assert {answer.json.get("recorded") for answer in lost} == {False}
    check_invariants(postgres, service, [first, *lost, *later], allowed_errors=LOST)


def test_a_full_disk_is_reported_before_an_attempt_needs_it(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F82."""
    service = new_service(postgres.url(port=proxy.port), WORKERS="1")
    service.shrink_disk(2)
    service.start()
    _await_readiness(service, "ok", NOTICED_WITHIN_S)
    ballast = fill_disk(path_seen_by(service.pid, service.spool))
    _await_readiness(service, "spool_unusable", NOTICED_WITHIN_S)
    ballast.unlink()
    _await_readiness(service, "ok", NOTICED_WITHIN_S)
