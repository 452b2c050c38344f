"""Stopping: everything accepted is answered, nothing new is taken (promise P11)."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import pytest
from waitress.adjustments import Adjustments

from project.server.connections import Channel
from tests.builders import BARE
from tests.chaos.processes import eventually

ROOT = Path(__file__).parents[2]
THREADS, REQUESTS = 4, 6
"""Two more requests than threads: these wait in waitress's queue when the stop comes."""


def _program(source: str, *, threads: int = THREADS, workers: int = 1) -> str:
    """Return a program that serves the `app` of a source on a free port, which it tells first."""
    place = f'host="127.0.0.1", port=0, threads={threads}, workers={workers}'
    return f"{BARE}from project import server\n{source}\nserver.serve(app, {place}, deadline_s=3, greeting=str)\n"


def _telling(source: str, *, threads: int = THREADS, workers: int = 1) -> str:
    """Return a program that answers with what `tell` of a source returns, a number."""
    app = r"""
def app(environ, start_response):
    body = b"%d" % tell()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    return _program(source + app, threads=threads, workers=workers)


PROGRAM = _program(r"""
import os, signal, threading

release = threading.Event()
signal.signal(signal.SIGUSR2, lambda *_: release.set())

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        os.write(1, b"working %d\n" % os.getpid())  # in one piece, whatever the other threads write
        release.wait()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
""")

KEEPING = _telling("""
from threading import get_ident as tell
from project.server import connections

connections.HOLD_S = 60
""")

COUNTING = _telling(
    """
import itertools, time

numbers = itertools.count(1)

def tell():
    time.sleep(0.01)
    return next(numbers)
""",
    threads=1,
)

SHARING = _telling(
    """
from os import getpid as tell
from project.server import balancing

balancing.YIELD_S = 0.5
""",
    workers=2,
)

HEAPS = _telling("""
import ctypes, os, tempfile, threading

libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p

def tell():
    together = threading.Barrier(4)

    def allocate():
        held = bytearray(5000)
        together.wait()

    threads = [threading.Thread(target=allocate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with tempfile.TemporaryFile() as file:
        stream = ctypes.c_void_p(libc.fdopen(os.dup(file.fileno()), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        file.seek(0)
        return file.read().count(b"<heap nr=")
""")

ENDLESS = _program(
    r"""
import os

server.STALLED_S = 1

def app(environ, start_response):
    start_response("200 OK", [])
    try:
        while True:
            yield bytes(100_000)
    finally:
        os.write(1, b"let go\n")
""",
    threads=1,
)


@contextmanager
def _started(program: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A server whose slow answers wait for SIGUSR2."""
    with _started(PROGRAM) as process:
        yield process


@pytest.fixture(scope="module")
def keeping() -> Iterator[int]:
    """The port of a server whose answers name the thread that gave them, and whose threads have much patience."""
    with _started(KEEPING) as process:
        yield _port(process)


@pytest.fixture
def sharing() -> Iterator[int]:
    """The port of a server whose answers name the one of its two workers that gave them."""
    with _started(SHARING) as process:
        yield _port(process)


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A connection beside any loop, whose client says nothing."""
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(SimpleNamespace(active_channels={}), ours, "", Adjustments(), map={})
        yield channel
        channel.handle_close()


def _ask(connection: HTTPConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def _port(process: subprocess.Popen[str]) -> int:
    return int(_line(process).rpartition(":")[2])


@pytest.mark.chaos
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_runs_and_what_is_queued_and_takes_nothing_new(
    process: subprocess.Popen[str], stop: signal.Signals
) -> None:
    port = _port(process)
    connections = [HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(REQUESTS)]
    for connection in connections:  # accepted for sure: each has had an answer
        connection.request("GET", "/fast")
        connection.getresponse().read()
    for connection in connections:
        connection.request("GET", "/slow")
    workers = {int(_line(process).removeprefix("working ")) for _ in range(THREADS)}

    process.send_signal(stop)
    refused = _wait_until_refused(port)
    for worker in workers:
        os.kill(worker, signal.SIGUSR2)

    assert refused
    answers = [connection.getresponse() for connection in connections]
    assert [answer.status for answer in answers] == [200] * REQUESTS
    assert process.wait(timeout=30) == 0
    for connection in connections:
        connection.close()


def test_a_socket_that_somebody_else_holds_stays_open_over_a_restart() -> None:
    """As systemd holds it (sd_listen_fds(3)): whoever comes in between waits, and is answered by the next one."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with _handed(held) as first:
            greeting = _line(first)
            before = HTTPConnection("127.0.0.1", port, timeout=30)
            before.request("GET", "/fast")
            before.getresponse().read()
            first.terminate()
            assert first.wait(timeout=30) == 0
        between = HTTPConnection("127.0.0.1", port, timeout=30)
        between.request("GET", "/fast")
        with _handed(held) as second:
            status = between.getresponse().status
            before.close()
            between.close()
            second.terminate()

    assert (greeting, status) == (f"http://127.0.0.1:{port}", 200)


def _handed(held: socket.socket) -> subprocess.Popen[str]:
    """Start a server that finds a socket where systemd would have put it."""
    take = f"import os; os.dup2({held.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
    command = [sys.executable, "-c", take + PROGRAM]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, pass_fds=[held.fileno()])


def test_a_port_that_is_taken_stops_the_start_with_a_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program = PROGRAM.replace("port=0", f"port={taken.getsockname()[1]}")
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 1
    assert "Choose another port" in result.stderr
    assert "Traceback" not in result.stderr


def _wait_until_refused(port: int) -> bool:
    """Ask until nobody listens any more; the listening socket closes in the server's own loop."""
    for _ in range(10_000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionResetError:
            continue  # the socket closed in the very moment of the handshake
        except ConnectionRefusedError:
            return True
    return False


@pytest.mark.chaos
def test_a_client_that_takes_nothing_any_more_is_let_go() -> None:
    """F38."""
    with _started(ENDLESS) as process:
        port = _port(process)
        with socket.create_connection(("127.0.0.1", port)) as sleeper:
            sleeper.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sleeper.recv(12) == b"HTTP/1.1 200"

            assert _line(process) == "let go"

            with pytest.raises(ConnectionResetError):
                sleeper.makefile("rb").read()


def test_a_thread_answers_the_next_request_of_its_connection_too(keeping: int) -> None:
    with closing(HTTPConnection("127.0.0.1", keeping, timeout=30)) as connection:
        # Threads count as busy until each has begun to wait for work, and nobody waits for a connection meanwhile.
        eventually(lambda: len({_ask(connection) for _ in range(20)}) == 1, 10, "other threads answer, too")


def test_threads_that_wait_for_a_next_request_leave_half_of_all_to_others(keeping: int) -> None:
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(HTTPConnection("127.0.0.1", keeping, timeout=30))) for _ in range(THREADS + 2)
        ]
        for connection in connections:
            _ask(connection)
        answers = {_ask(connections[-1]) for _ in range(5)}

    assert len(answers) > 1  # by whoever had time: its own thread did not wait


def test_requests_that_come_together_are_answered_one_after_the_other(keeping: int) -> None:
    with socket.create_connection(("127.0.0.1", keeping), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = client.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 4


def test_requests_that_come_together_let_others_in_between() -> None:
    with _started(COUNTING) as process:
        port = _port(process)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as greedy:
            greedy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
            greedy.recv(12)
            with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as other:
                turn = int(_ask(other))

    assert turn < 100  # not after all 200


def test_the_loop_does_not_read_when_a_thread_begins_to_wait_while_it_looks(channel: Channel) -> None:
    class Answered(list[object]):
        def __len__(self) -> int:  # the loop loses the interpreter here until the thread has answered
            channel.is_held = True
            return 0

    channel.requests = Answered()

    assert not channel.readable()


@pytest.mark.parametrize("version", ["1.0", "1.2"])
def test_chunks_in_a_version_that_has_none_are_no_next_request(keeping: int, version: str) -> None:
    with socket.create_connection(("127.0.0.1", keeping), timeout=30) as client:
        head = f"POST / HTTP/{version}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = client.makefile("rb").read()

    assert b" 200 OK" not in answers
    assert b" 400 Bad Request" in answers


def test_a_thread_that_waits_finds_out_calmly_that_the_loop_has_closed_the_connection(channel: Channel) -> None:
    timer = threading.Timer(0.05, channel.handle_close)
    timer.start()

    assert channel._read(0.1) == b""
    assert channel._read(0.1) == b""
    timer.join()


def test_the_loop_sends_nothing_while_a_thread_puts_an_answer_together(channel: Channel) -> None:
    with channel.outbuf_lock:
        channel.outbufs[-1].append(b"answer")
        channel.total_outbufs_len = 6
        loop = threading.Thread(target=channel.handle_write)
        loop.start()
        loop.join(0.1)
        left = channel.total_outbufs_len
    loop.join()

    assert (left, channel.total_outbufs_len) == (6, 0)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc gives each thread a heap")
def test_all_threads_of_a_worker_share_one_heap() -> None:
    with _started(HEAPS) as process, _connection(_port(process)) as connection:
        assert _ask(connection) == b"1"


def test_workers_share_connections_evenly(sharing: int) -> None:
    with ExitStack() as stack:
        workers = [_ask(stack.enter_context(_connection(sharing))) for _ in range(40)]

    each = Counter(workers).values()
    assert (len(each), min(each) >= 19) == (2, True), each  # who sleeps too long leaves one to the other


def test_a_worker_that_is_stuck_keeps_nobody_from_taking_its_part(sharing: int) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(_connection(sharing))
        stuck = int(_ask(first))
        os.kill(stuck, signal.SIGSTOP)
        try:
            others = {int(_ask(stack.enter_context(_connection(sharing)))) for _ in range(4)}
        finally:
            os.kill(stuck, signal.SIGCONT)

    assert len(others) == 1
    assert stuck not in others


def _connection(port: int) -> AbstractContextManager[HTTPConnection]:
    return closing(HTTPConnection("127.0.0.1", port, timeout=30))
