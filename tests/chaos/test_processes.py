"""F19 to F27, F41, F42: faults of the service's own processes and disks.

They concern promises P2, P3 and P11.
"""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from project.spool import SLOT_BYTES, read_status
from tests.chaos import processes
from tests.chaos.disks import fill_disk, path_seen_by
from tests.chaos.invariants import check_invariants
from tests.chaos.load import Client, Load, burst, new_body, new_key, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST, eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import ROOT, Service, environment

ANSWERED_WITHIN_S = 3.6
DIED = ["worker died"]
NewService = Callable[..., Service]


def _rows(postgres: Postgres, username: str) -> list[tuple[int, str]]:
    return list(postgres.execute("select status, code from attempts where username = %s", [username]))


def _records(service: Service) -> list[str]:
    """Return the IDs of the attempts in the service's spool."""
    lines = [line for path in service.spool_files() if path.suffix == ".log" for line in path.read_bytes().splitlines()]
    return [json.loads(line.partition(b" ")[2])["id"] for line in lines]


def _folder(worker: int) -> str | None:
    """Return the spool folder that a process has locked."""
    paths = [descriptor.readlink() for descriptor in Path(f"/proc/{worker}/fd").iterdir()]
    return next(
        (path.parent.name for path in paths if path.name == "lock" and path.parent.parent.name == "spool"), None
    )


def _in_progress(service: Service) -> int:
    """Return the number of requests in progress, from the service's intent files."""
    intents = b"".join(path.read_bytes() for path in service.spool_files() if path.name == "intents")
    return sum(intents[at] > 0 for at in range(0, len(intents), SLOT_BYTES))


# --- Processes ------------------------------------------------------------------------------------------------------


def test_a_request_of_a_killed_worker_is_recorded_as_interrupted_and_the_worker_is_replaced(
    postgres: Postgres, proxy: Proxy, service: Service
) -> None:
    """F24. The worker dies before its COMMIT arrives: only the intent of the request is known."""
    body = new_body()
    trap = proxy.drop_commit("execute useradd", is_lasting=True)
    with closing(socket.create_connection((HOST, service.port))) as sender:
        sender.sendall(_post(body))
        trap.wait()
        before = service.workers()
        for worker in before:
            service.kill_worker(worker)
        response = sender.recv(100)
    proxy.pass_through()

    assert response == b""
    eventually(lambda: _rows(postgres, body["username"]), 10, "P3: not recorded")
    assert _rows(postgres, body["username"]) in ([(0, "interrupted")], [(201, "created")])
    eventually(lambda: len(service.workers()) == len(before), 10, "the workers were not replaced")
    assert not set(service.workers()) & set(before)
    check_invariants(postgres, service, [], allowed_errors=DIED)


def test_when_one_worker_is_killed_the_other_answers_and_metrics_keep_their_counts(
    postgres: Postgres, service: Service
) -> None:
    before, replaced = _created(service), _workers(service)["replaced"]
    with Load(service, clients=4, is_reconnecting=True) as load:
        load.await_answers(50)
        service.kill_worker()
        load.await_answers(len(load.answers) + 100)

    assert {answer.code for answer in load.answers} <= {"created", "broken"}, summarize(load.answers)
    broken = [answer for answer in load.answers if answer.status is None]
    assert len(broken) <= 4
    created = len(load.answers) - len(broken)
    assert created <= _created(service) - before <= len(load.answers), "every worker reports the sum of all workers"
    eventually(lambda: _workers(service)["replaced"] == replaced + 1, 10, "the replacement was not counted")
    workers = _workers(service)
    assert workers["running"] == workers["expected"]
    check_invariants(postgres, service, load.answers, allowed_errors=DIED)


def _workers(service: Service) -> dict[str, int]:
    """Return the counts of workers from /status."""
    with closing(Client(service)) as client:
        workers: dict[str, int] = json.loads(client.get("/status")[1])["workers"]
    return workers


def _created(service: Service) -> int:
    """Return the number of created users from /metrics."""
    with closing(Client(service)) as client:
        text = client.get("/metrics")[1]
    found = re.search(r'^useradd_attempts_total{outcome="created",code="created"} (\d+)$', text, re.MULTILINE)
    assert found
    return int(found[1])


def test_spooled_attempts_of_a_killed_service_are_recorded_once_after_its_restart(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F25: the service dies repeatedly while it drains the spool.

    It is killed between the COMMIT of drained attempts and the removal of their file.
    """
    service = new_service(postgres.url(port=proxy.port), WORKERS="2").start()
    with closing(Client(service)) as client:
        first = client.create()
    proxy.refuse()
    answers = [first, *burst(service, requests=300, parallel=10, timeout_s=20)]
    proxy.pass_through()
    trap = proxy.drop_commit_reply("insert into attempts")
    for _ in range(3):
        trap.wait(20)
        service.kill()
        trap = proxy.drop_commit_reply("insert into attempts")  # before the drain starts
        service.start()
    proxy.pass_through()

    assert {answer.status for answer in answers} == {201, 503}, summarize(answers)
    check_invariants(postgres, service, answers, allowed_errors=DIED)
    eventually(lambda: not _records(service), 10, "the spool is not empty")


def test_a_stop_under_load_answers_every_accepted_request(postgres: Postgres, new_service: NewService) -> None:
    """F26: a worker that takes 3 s longer than the deadline is killed.

    The exit status is then not 0.
    """
    service = new_service(postgres.url(), WORKERS="2").start()
    with Load(service, clients=8, pause_s=0.01) as load:
        load.await_answers(100)
        code, _ = service.terminate()

    assert (code, service.survivors()) == (0, [])
    assert {answer.code for answer in load.answers} <= {"created", "broken"}, summarize(load.answers)
    unanswered = [answer.sent["username"] for answer in load.answers if answer.status is None]
    assert postgres.execute("select username from attempts where username = any(%s)", [unanswered]) == []
    service.start()
    check_invariants(postgres, service, load.answers)


def test_a_stop_while_postgres_is_frozen_answers_every_accepted_request(
    postgres: Postgres, new_service: NewService
) -> None:
    """F26 and F5: waiting requests are answered at their deadline and spooled.

    They are recorded after the next start.
    """
    service = new_service(postgres.url(), WORKERS="2").start()
    with Load(service, clients=8, pause_s=0.01) as load:
        load.await_answers(50)
        postgres.freeze()
        frozen = len(load.answers)
        eventually(lambda: _in_progress(service) >= 4, 5, "no requests wait")
        code, _ = service.terminate()
    postgres.thaw()

    assert (code, service.survivors()) == (0, [])
    codes = {answer.code for answer in load.answers[frozen:] if answer.status == 503}
    assert codes, summarize(load.answers)
    assert codes <= {"database_unavailable", "outcome_unknown"}, summarize(load.answers)
    service.start()
    check_invariants(postgres, service, [answer for answer in load.answers if answer.status])


def test_workers_end_with_their_supervisor(postgres: Postgres, new_service: NewService) -> None:
    service = new_service(postgres.url(), WORKERS="2").start()
    os.kill(service.pid, signal.SIGKILL)

    eventually(lambda: not service.survivors(), 10, "workers are still running")


def test_an_instance_frozen_while_creating_a_user_does_not_block_other_instances(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F27: its single statement arrives completely or not at all, so no transaction stays open."""
    frozen = new_service(postgres.url(port=proxy.port), WORKERS="1").start()
    other = new_service(postgres.url(), WORKERS="1").start()
    eventually(lambda: _status(other.port, "/readyz") == 200, 30, "the other instance is not ready")
    body = new_body()
    trap = proxy.delay_commit("execute useradd")
    with closing(socket.create_connection((HOST, frozen.port))) as connection, closing(Client(other)) as client:
        connection.sendall(_post(body))
        trap.wait()
        frozen.freeze()

        answer = client.post(body, new_key())

        frozen.kill()
    assert answer.status == 201
    check_invariants(postgres, other, [answer])


# --- The disk -------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_reported_and_users_are_still_created(postgres: Postgres, proxy: Proxy, tmp_path: Path) -> None:
    """F19, simulated with a file size limit of 0; the log goes to a pipe."""
    port = processes.free_port()
    settings = environment(postgres.url(port=proxy.port), tmp_path, PORT=str(port), HOST=HOST, WORKERS="1")
    with _process(settings, stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: _status(port, "/livez") == 200, 30, "it did not start")
            for worker in processes.children(process.pid):
                resource.prlimit(worker, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            created = _raw(port, _post(new_body()))
            proxy.refuse()
            lost = _raw(port, _post(new_body()))
            proxy.pass_through()
            eventually(lambda: b" 201 " in _raw(port, _post(new_body()))[:20], 10, "it did not recover")
        finally:
            processes.kill(process.pid)
        log = process.stderr.read().decode() if process.stderr else ""

    assert created.startswith(b"HTTP/1.1 201 ")
    assert lost.startswith(b"HTTP/1.1 503 ")
    problem = json.loads(lost.partition(b"\r\n\r\n")[2])
    assert problem["recorded"] is False
    lines = [json.loads(line) for line in log.splitlines() if '"attempt not recorded"' in line]
    assert problem["attempt_id"] in [line["attempt_id"] for line in lines]


def test_attempts_that_a_full_disk_cannot_store_are_logged_and_a_killed_worker_is_replaced(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F19, F24, with a real full file system, until there is space again."""
    service = new_service(postgres.url(port=proxy.port), WORKERS="1", REQUEST_DEADLINE_S="2")
    service.shrink_disk(2)
    service.start()
    with closing(Client(service)) as client:
        first = client.create()
        proxy.refuse()
        spooled = burst(service, requests=10, parallel=4)
        ballast = fill_disk(path_seen_by(service.pid, service.spool))
        invalid = client.post({"username": "?"}, new_key())
        lost = [invalid, *burst(service, requests=200, parallel=4)]
        full = json.loads(client.get("/status")[1])
        [worker] = service.workers()
        service.kill_worker(worker)
        eventually(lambda: service.workers() not in ([], [worker]), 10, "the worker was not replaced")
        proxy.pass_through()
        eventually(lambda: client.create().status == 201, 10, "no user is created on a full disk")
        created = burst(service, requests=10, parallel=4)
        ballast.unlink()
        proxy.refuse()
        later = burst(service, requests=10, parallel=4)
        proxy.pass_through()

    unrecorded = [answer for answer in lost if answer.json.get("recorded") is False]
    assert invalid.status == 422
    assert len(unrecorded) > 150, summarize(lost)  # the last page of a file takes some more attempts
    assert full["spool"]["lost"] == len(unrecorded)
    assert {answer.code for answer in created} == {"created"}, summarize(created)
    assert not any("recorded" in answer.json for answer in [*spooled, *created, *later])
    answers = [first, *spooled, *lost, *created, *later]
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
    check_invariants(postgres, service, answers, allowed_errors=[*DIED, "attempt not recorded", "spool unusable"])


def test_a_worker_with_an_unusable_spool_still_creates_users(postgres: Postgres, new_service: NewService) -> None:
    """F21 while the service runs."""
    service = new_service(postgres.url(), WORKERS="1").start()
    shutil.rmtree(service.spool)
    service.spool.write_text("a file, not a directory")
    service.kill_worker()

    with closing(Client(service)) as client:
        eventually(lambda: client.create().status == 201, 10, "no user is created")
        status = json.loads(client.get("/status")[1])["status"]

    assert status == "spool_unusable"
    check_invariants(postgres, service, [], allowed_errors=[*DIED, "spool unusable"])


def test_a_damaged_spool_loses_only_its_damaged_lines(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F20."""
    service = new_service(postgres.url(port=proxy.port), WORKERS="1").start()
    with closing(Client(service)) as client:
        client.create()
    proxy.refuse()
    answers = burst(service, requests=20, parallel=5)
    service.kill()
    path = next(path for path in service.spool_files() if path.name[0].isdigit() and path.stat().st_size)
    first, *rest = path.read_bytes().splitlines(keepends=True)
    damaged_id = json.loads(first.partition(b" ")[2])["id"]
    path.write_bytes(b"".join([first.replace(b'"', b"#", 1), *rest, b"\0\xff torn"]))
    proxy.pass_through()
    service.start()

    check_invariants(postgres, service, [answer for answer in answers if answer.attempt_id != damaged_id])
    with closing(Client(service)) as client:
        eventually(lambda: json.loads(client.get("/status")[1])["spool"]["quarantined"] == 2, 2, "it is not counted")


def test_an_unusable_spool_prevents_the_start(postgres: Postgres, tmp_path: Path) -> None:
    """F21."""
    (tmp_path / "spool").write_text("a file, not a directory")

    done = subprocess.run(
        [sys.executable, "wsgi.py"],
        cwd=ROOT,
        env=environment(postgres.url(), tmp_path, PORT=str(processes.free_port())),
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("useradd cannot start:\nDATA_DIR: ")
    assert "Traceback" not in done.stderr


def test_two_instances_can_share_a_data_directory_without_losing_attempts(
    postgres: Postgres, proxy: Proxy, new_service: NewService
) -> None:
    """F22: each process has its own folder."""
    first = new_service(postgres.url(port=proxy.port), WORKERS="2").start()
    second = new_service(postgres.url(port=proxy.port), WORKERS="2", DATA_DIR=str(first.data_dir / "data")).start()
    proxy.refuse()
    with Load(first, 4, limit=40, is_reconnecting=True) as one, Load(second, 4, limit=40, is_reconnecting=True) as two:
        answers = [*one.wait(), *two.wait()]
    owners = {_folder(worker) for worker in [*first.workers(), *second.workers()]}
    spooled = read_status(first.spool).records
    second.kill()
    proxy.pass_through()

    assert len(owners) == 4
    assert spooled == len(answers)
    check_invariants(postgres, first, answers)
    assert read_status(first.spool).records == 0


# --- Logs and file descriptors --------------------------------------------------------------------------------------


def test_a_blocked_log_pipe_does_not_delay_requests(postgres: Postgres, tmp_path: Path) -> None:
    """F41. A pipe holds 64 KiB, about 250 lines."""
    port = processes.free_port()
    settings = environment(postgres.url(), tmp_path, PORT=str(port), HOST=HOST, WORKERS="1")
    with _process(settings, stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: _status(port, "/livez") == 200, 30, "it did not start")
            statuses = [_status(port, "/login/") for _ in range(400)]
        finally:
            processes.kill(process.pid)

    assert set(statuses) == {200}


def test_a_blocked_log_pipe_does_not_prevent_the_supervisor_from_replacing_workers_and_stopping(
    postgres: Postgres, tmp_path: Path
) -> None:
    """F41."""
    port = processes.free_port()
    settings = environment(postgres.url(), tmp_path, PORT=str(port), HOST=HOST, WORKERS="1")
    with _process(settings, stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: _status(port, "/livez") == 200, 30, "it did not start")
            for _ in range(400):
                _status(port, "/login/")
            for _ in range(2):  # the supervisor logs each death
                [worker] = processes.children(process.pid)
                processes.send_signal(signal.SIGKILL, [worker])
                eventually(lambda: processes.children(process.pid) not in ([], [worker]), 10, "not replaced")  # noqa: B023
            eventually(lambda: _status(port, "/livez") == 200, 10, "the replacement does not answer")
            process.terminate()
            code = process.wait(timeout=10)
        finally:
            processes.kill(process.pid)

    assert code == 0


def test_more_than_1024_open_files_do_not_affect_the_service(postgres: Postgres, tmp_path: Path) -> None:
    """F42: select() is limited to 1024 file descriptors, poll() is not."""
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        port = processes.free_port()
        settings = environment(postgres.url(), tmp_path, PORT=str(port), HOST=HOST, WORKERS="1")
        with _process(settings, close_fds=False) as process:
            try:
                eventually(lambda: _status(port, "/livez") == 200, 30, "it did not start")
                answer = _raw(port, _post(new_body()))
            finally:
                processes.kill(process.pid)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)

    assert answer.startswith(b"HTTP/1.1 201 ")


def _process(settings: dict[str, str], **options: Any) -> "subprocess.Popen[bytes]":
    defaults: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    return subprocess.Popen([sys.executable, "wsgi.py"], cwd=ROOT, env=settings, **defaults | options)


def _post(body: dict[str, str]) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST /useradd HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + text


def _raw(port: int, request: bytes) -> bytes:
    with closing(socket.create_connection((HOST, port), timeout=10)) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def _status(port: int, path: str) -> int | None:
    try:
        answer = _raw(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    except OSError:
        return None
    return int(answer[9:12]) if answer else None
