"""The server: graceful stop (promise P11), keep-alive, refusals, limits, balancing."""

import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from project.reports.exports import CHUNK
from project.server.connections import MAX_LARGE_BODIES, Channel
from project.server.heartbeats import CHECK_EVERY_S
from project.server.worker import waitress_settings
from tests.builders import BARE_IMPORT
from tests.chaos.processes import children, eventually, free_port

pytestmark = pytest.mark.slow  # most of these tests wait for limits of seconds
ROOT = Path(__file__).parents[2]
THREADS, REQUESTS = 4, 6
"""Two more requests than threads: they wait in waitress's queue when the server stops."""


def _program(source: str, *, threads: int = THREADS, workers: int = 1) -> str:
    """Return a program that serves the `app` of a source on a free port, which it prints first."""
    arguments = f'host="127.0.0.1", port=0, threads={threads}, workers={workers}, deadline_s=3, greeting=str'
    return f"{BARE_IMPORT}from project import server\n{source}\nserver.serve(app, {arguments})\n"


LARGE = f"""{BARE_IMPORT}from project import server
def app(environ, start_response):
    body = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
limits = {{"/large": 2**21}}
server.serve(app, host="127.0.0.1", port=0, threads=4, workers=1, deadline_s=3, greeting=str, body_limits=limits)
"""
"""A program that serves the length of large bodies."""


def _responding(source: str, *, threads: int = THREADS, workers: int = 1) -> str:
    """Return a program whose responses are the number that `value` of a source returns."""
    app = r"""
def app(environ, start_response):
    body = b"%d" % value()
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
        os.write(1, b"working %d\n" % os.getpid())  # one write, not interleaved with other threads
        release.wait()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
""")

KEEPING = _responding("""
from threading import get_ident as value
from project.server import connections

connections.KEEP_ALIVE_WAIT_S = 60
""")

COUNTING = _responding(
    """
import itertools, time

numbers = itertools.count(1)

def value():
    time.sleep(0.01)
    return next(numbers)
""",
    threads=1,
)

SHARING = _responding(
    """
from os import getpid as value
from project.server import balancing

balancing.YIELD_S = 0.5
""",
    workers=2,
)

IMPATIENT = _program("""
import logging, os, resource, signal, sys, threading
from project.server import connections, event_loop

logging.basicConfig(format="%(message)s", stream=sys.stderr)
logging.getLogger("waitress.queue").setLevel("ERROR")
connections.RECEIVE_S = float(os.environ.get("RECEIVE_S", "1"))
connections.GRACE_S = 0.2
event_loop.MAX_CONNECTIONS = int(os.environ.get("CONNECTIONS", "500"))
if "FILES" in os.environ:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(os.environ["FILES"]),) * 2)
release = threading.Event()
signal.signal(signal.SIGUSR2, lambda *_: release.set())

def app(environ, start_response):
    body = environ["REMOTE_ADDR"].encode() + environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/wait":
        release.wait()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
""")

HANGING = PROGRAM.replace("workers=1", "workers=2").replace(
    "release = ",
    """
from project.server import heartbeats

heartbeats.CHECK_EVERY_S, heartbeats.HUNG_CHECKS = 0.5, 6
release = """,
)

SCARCE = _responding(
    """
import errno, os
from os import getpid as value
from project.server import supervisor

fork, lacking = os.fork, iter(map(int, os.environ["LACKING"]))
supervisor._RESTART_DELAY_S = 0.05

def scarce_fork():
    if next(lacking, 1):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.fork = scarce_fork
""",
    workers=2,
)

TRYING = IMPATIENT.replace(
    "release = ",
    """
accept, tries = event_loop.Server.accept, []

def count_and_accept(self):
    tries.append(self)
    return accept(self)

class Formatter(logging.Formatter):
    def format(self, record):
        return f"{record.getMessage()} after {len(tries)}"

event_loop.Server.accept = count_and_accept
logging.getLogger().handlers[0].setFormatter(Formatter())
release = """,
    1,
)

HEAPS = _responding("""
import ctypes, os, tempfile, threading

libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p

def value():
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

from project.server import connections

server.STALLED_S = int(os.environ.get("STALLED_S", "1"))
connections.DOWNLOAD_STALL_S = int(os.environ.get("DOWNLOAD_STALL_S", "60"))

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

BIG = _program(
    r"""
import os
from project.server import connections, event_loop

connections.GRACE_S = 0.2
event_loop.MAX_CONNECTIONS = int(os.environ.get("CONNECTIONS", "500"))

def app(environ, start_response):
    parts = {"/whole": [bytes(9_000_000)], "/parts": (bytes(100_000) for _ in range(90))}
    body = parts.get(environ["PATH_INFO"], [b"9000000"])
    start_response("200 OK", [("Content-Length", "7" if body == [b"9000000"] else "9000000")])
    return body
""",
    threads=2,
)


DEFAULT_HANGUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
"""Begins each program, because the tests themselves may run under nohup, which programs inherit."""


@contextmanager
def _started(program: str, *, stdout: Any = subprocess.PIPE, **options: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", DEFAULT_HANGUP + program]
    with subprocess.Popen(command, cwd=ROOT, stdout=stdout, text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """A server whose slow responses wait for SIGUSR2."""
    with _started(PROGRAM) as process:
        yield process


@pytest.fixture(scope="module")
def keeping() -> Iterator[int]:
    """The port of a server with a long keep-alive whose responses name their thread."""
    with _started(KEEPING) as process:
        yield _port(process)


@pytest.fixture(scope="module")
def impatient() -> Iterator[int]:
    """The port of a server that waits one second for a request."""
    with _started(IMPATIENT) as process:
        yield _port(process)


@pytest.fixture
def sharing() -> Iterator[int]:
    """The port of a server whose responses name the worker, one of two."""
    with _started(SHARING) as process:
        yield _port(process)


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A connection outside any event loop whose client is silent."""
    ours, theirs = socket.socketpair()
    with theirs:
        server = SimpleNamespace(active_channels={}, large_bodies=set())
        channel = Channel(server, ours, "", Adjustments(), map={})
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
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopping_server_finishes_accepted_requests_and_refuses_new_connections(
    process: subprocess.Popen[str], stop: signal.Signals
) -> None:
    """F26, F59. The signal goes to the process group, as when a terminal is closed."""
    port = _port(process)
    connections = [HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(REQUESTS)]
    for connection in connections:  # certainly accepted: each has had a response
        connection.request("GET", "/fast")
        connection.getresponse().read()
    for connection in connections:
        connection.request("GET", "/slow")
    workers = {int(_line(process).removeprefix("working ")) for _ in range(THREADS)}

    os.killpg(process.pid, stop)
    eventually(lambda: _is_refused(port), 30, "the server still accepts connections")
    for worker in workers:
        os.kill(worker, signal.SIGUSR2)

    answers = [connection.getresponse() for connection in connections]
    assert [answer.status for answer in answers] == [200] * REQUESTS
    assert process.wait(timeout=30) == 0
    for connection in connections:
        connection.close()


def test_nohup_keeps_the_server_running_when_the_terminal_is_closed() -> None:
    ignore = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with _started(ignore + IMPATIENT) as process:
        port = _port(process)

        os.killpg(process.pid, signal.SIGHUP)

        with _connection(port) as connection:
            assert _ask(connection)
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("stdout", ["latin-1", "full disk", "no reader", "blocked reader", "closed"])
def test_a_greeting_that_cannot_be_printed_does_no_harm(stdout: str) -> None:
    """F41."""
    port = free_port()
    program = IMPATIENT.replace("port=0", f"port={port}").replace(
        "greeting=str", 'greeting=lambda url: "Готово\\n" * 9999'
    )
    reader, writer = os.pipe()
    full_disk = Path("/dev/full").open("wb")  # noqa: SIM115
    with full_disk as full, os.fdopen(reader, "rb") as read_end, os.fdopen(writer, "wb", buffering=0) as write_end:
        if stdout == "blocked reader":
            os.set_blocking(writer, False)
            while write_end.write(bytes(4096)):
                pass
            os.set_blocking(writer, True)
        elif stdout == "no reader":
            read_end.close()
        elif stdout == "closed":
            program = f"import os; os.close(1); os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {program!r}])"
        environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
        output = {"full disk": full, "latin-1": subprocess.DEVNULL}.get(stdout, write_end)
        with _started(program, stdout=output, env=environment) as process, _connection(port) as connection:
            eventually(lambda: _answers(connection), 30, "the server does not answer")
            process.terminate()
            assert process.wait(timeout=30) == 0


def _answers(connection: HTTPConnection) -> bool:
    try:
        return bool(_ask(connection))
    except OSError:
        connection.close()
        return False


def test_a_socket_passed_by_systemd_stays_open_during_a_restart() -> None:
    """See sd_listen_fds(3): a connection made during the restart is served by the next process."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with _with_passed_socket(held) as first:
            greeting = _line(first)
            before = HTTPConnection("127.0.0.1", port, timeout=30)
            before.request("GET", "/fast")
            before.getresponse().read()
            first.terminate()
            assert first.wait(timeout=30) == 0
        between = HTTPConnection("127.0.0.1", port, timeout=30)
        between.request("GET", "/fast")
        with _with_passed_socket(held) as second:
            status = between.getresponse().status
            before.close()
            between.close()
            second.terminate()

    assert (greeting, status) == (f"http://127.0.0.1:{port}", 200)


def _with_passed_socket(held: socket.socket) -> subprocess.Popen[str]:
    """Start a server with a socket passed as systemd passes it."""
    take = f"import os; os.dup2({held.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
    command = [sys.executable, "-c", take + PROGRAM]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, pass_fds=[held.fileno()])


def test_a_taken_port_prevents_the_start_with_a_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program = PROGRAM.replace("port=0", f"port={taken.getsockname()[1]}")
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 1
    assert "Choose another port" in result.stderr
    assert "Traceback" not in result.stderr


def _is_refused(port: int) -> bool:
    """Return whether nothing listens any more; the socket is closed in the server's event loop."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except (ConnectionResetError, TimeoutError):  # closed during the handshake; too many wait for the event loop
        return False
    except ConnectionRefusedError:
        return True
    return False


def test_a_response_that_waits_for_its_client_touches_no_disk() -> None:
    """A frozen disk of temporary files would stop the event loop and with it the worker."""
    ours, theirs = socket.socketpair()
    with theirs, closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = SimpleNamespace(active_channels={}, large_bodies=set(), pull_trigger=lambda: None)
        channel = Channel(server, ours, "", waitress_settings(listener, THREADS), map={})
        for _ in range(2):  # the kernel takes a part of the first buffer only
            for _ in range(4):
                channel.write_soon(bytes(CHUNK))
            while channel.total_outbufs_len > CHUNK:
                assert not any(buffer.overflowed for buffer in channel.outbufs)
                theirs.recv(CHUNK)
                channel.handle_write()

        channel.handle_close()


@pytest.mark.chaos
def test_a_client_that_stops_reading_is_disconnected() -> None:
    """F38."""
    with _started(ENDLESS) as process:
        port = _port(process)
        with socket.create_connection(("127.0.0.1", port)) as idle_client:
            idle_client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle_client.recv(12) == b"HTTP/1.1 200"

            assert _line(process) == "let go"

            with pytest.raises(ConnectionResetError):
                idle_client.makefile("rb").read()


@pytest.mark.chaos
def test_a_client_that_reads_next_to_nothing_of_a_download_is_disconnected() -> None:
    """F38."""
    environment = os.environ | {"STALLED_S": "60", "DOWNLOAD_STALL_S": "1"}
    with _started(ENDLESS, env=environment) as process, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", _port(process)))
        slow.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert process.stdout
        reads = (slow.recv(1000) for _ in range(300))
        while not select.select([process.stdout], [], [], 0.05)[0]:
            assert next(reads, b""), "the thread still waits"

        assert _line(process) == "let go"


def test_a_thread_also_answers_the_next_request_of_its_connection(keeping: int) -> None:
    with closing(HTTPConnection("127.0.0.1", keeping, timeout=30)) as connection:
        # Threads count as busy until each waits for work; before that, none waits for its connection.
        eventually(lambda: len({_ask(connection) for _ in range(20)}) == 1, 10, "other threads answer, too")


def test_at_most_half_of_the_threads_wait_for_the_next_request_of_their_connection(keeping: int) -> None:
    with ExitStack() as stack:
        connections = [
            stack.enter_context(closing(HTTPConnection("127.0.0.1", keeping, timeout=30))) for _ in range(THREADS + 2)
        ]
        for connection in connections:
            _ask(connection)

        def has_several_threads() -> bool:
            """Return whether any free thread answers: one that waited would answer all."""
            return len({_ask(connections[-1]) for _ in range(5)}) > 1

        eventually(has_several_threads, 10, "one thread waits for the connection")


def test_pipelined_requests_are_answered_in_order(keeping: int) -> None:
    with socket.create_connection(("127.0.0.1", keeping), timeout=30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = client.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 4


def test_pipelined_requests_do_not_starve_other_connections() -> None:
    with _started(COUNTING) as process:
        port = _port(process)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as greedy:
            greedy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
            greedy.recv(12)
            with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as other:
                position = int(_ask(other))

    assert position < 100  # not after all 200


@pytest.mark.parametrize("path", [b"/whole", b"/parts"])
@pytest.mark.parametrize("requests", [1, 3])
def test_clients_that_do_not_read_hold_no_thread(path: bytes, requests: int) -> None:
    """F38."""
    with _started(BIG) as process, ExitStack() as stack:
        port = _port(process)
        request = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path
        deaf = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(4)]
        for client in deaf:
            client.sendall(request * requests)
            assert client.recv(12) == b"HTTP/1.1 200"
        with _connection(port) as connection:
            assert _ask(connection) == b"9000000"

        last = deaf[-1]
        last.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answers = last.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 200") == requests  # of the first one 12 bytes were read before
    assert len(answers) > 9_000_000 * (requests + 1)


def test_room_is_made_by_closing_a_connection_whose_client_does_not_read() -> None:
    """F55."""
    with _started(BIG, env=os.environ | {"CONNECTIONS": "2"}) as process, ExitStack() as stack:
        port = _port(process)
        for _ in range(2):
            deaf = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            deaf.sendall(b"GET /whole HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert deaf.recv(12) == b"HTTP/1.1 200"
        with _connection(port) as connection:
            assert _ask(connection) == b"9000000"


def test_the_event_loop_does_not_read_from_a_connection_that_a_thread_starts_to_wait_for(channel: Channel) -> None:
    class Answered(list[Any]):
        def __len__(self) -> int:  # as if the thread ran between two checks of the loop
            channel.is_held = True
            return 0

    channel.requests = Answered()

    assert not channel.readable()


def test_only_a_few_connections_may_have_a_large_body_at_a_time(channel: Channel) -> None:
    large = channel.server.large_bodies
    channel.adj.max_request_body_size, channel.adj.body_limits = 10, {"/": 100}
    large.update(range(MAX_LARGE_BODIES))
    channel.received(b"POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\n" + b"x" * 9)
    is_small_readable = channel.readable()
    assert channel.request
    channel.request.body_bytes_received = 10

    is_read_while_others_are = channel.readable()
    large.pop()

    assert (is_small_readable, is_read_while_others_are, channel.readable()) == (True, False, True)
    channel.del_channel()
    assert channel not in large


def test_more_large_bodies_than_are_read_at_a_time_are_all_answered() -> None:
    size, connections = 2**20, 3 * MAX_LARGE_BODIES
    with _started(LARGE) as process, ExitStack() as stack:
        port = _port(process)
        clients = [stack.enter_context(_connection(port)) for _ in range(connections)]
        threads = [
            threading.Thread(target=client.request, args=("POST", "/large", b"x" * size), daemon=True)
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [client.getresponse().read() for client in clients] == [b"%d" % size] * connections


# --- Refusals -------------------------------------------------------------------------------------------------------

START = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
LAST = b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"
BODY_SIZE = 7 * 2**20
"""Bytes; more than the socket buffers of a client hold, less than the server discards."""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (START + b"Content-Length: %d\r\n\r\n" % BODY_SIZE, 413),
        (START.replace(b"/", b"/login/", 1) + b"Content-Length: %d\r\n\r\n" % BODY_SIZE, 413),
        (START + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % BODY_SIZE, 413),
        (START + b"Content-Length: x\r\n\r\n", 400),
        (START + b"X-Big: ", 431),
        (START + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (START.replace(b"1.1", b"2.0") + b"Content-Length: 9\r\n\r\n", 505),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_a_client_that_still_sends_gets_the_answer_to_its_refused_request(
    impatient: int, head: bytes, status: int
) -> None:
    """F69."""
    with socket.create_connection(("127.0.0.1", impatient), timeout=30) as client:
        client.sendall(head + bytes(BODY_SIZE))
        answer = client.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.")
    assert int(answer[9:12]) == status
    assert answer.count(b"Connection: close") == 1


def test_the_rest_of_a_refused_request_is_discarded_for_a_limited_time(impatient: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=30) as client:
        client.sendall(START + b"Content-Length: x\r\n\r\n")
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 400 ")

        eventually(lambda: _is_reset(client), 10, "the server still reads")


def _is_reset(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\n", START + b"Content-Length: 100000\r\n\r\n"])
def test_a_request_that_arrives_too_slowly_is_refused_although_it_never_pauses(impatient: int, start: bytes) -> None:
    """F55."""
    with socket.create_connection(("127.0.0.1", impatient), timeout=0.05) as client:
        client.sendall(start + b"P")
        answer = eventually(lambda: _drip(client), 10, "not refused")

    assert answer.startswith(b"HTTP/1.")
    assert b" 408 Request Timeout\r\n" in answer


@pytest.mark.parametrize("head", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("ends", [True, False])
def test_a_client_whose_body_is_shorter_than_it_said_is_answered(impatient: int, head: bytes, ends: bool) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=30) as client:
        client.sendall(START + head + b"\r\n\r\n2\r\n1")
        if ends:
            client.shutdown(socket.SHUT_WR)
        answer = client.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 400 " if ends else b"HTTP/1.1 408 ")
    assert (b"{'received': 4, 'length': 9}" in answer) == head.startswith(b"Content-Length")


def _drip(client: socket.socket) -> bytes:
    client.sendall(b"x")
    try:
        return client.recv(1000)
    except TimeoutError:
        return b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (START + b"Expect: 100-continue\r\n\r\n", 200),
        (START + b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", 200),
        (START + b"Expect: 100-continue\r\nContent-Length: 999999\r\n\r\n", 413),
        (START + b"Expect: 100-continue\r\nContent-Length: 4, 4\r\n\r\n", 400),
        (START + b"Expect: 100-continue\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_a_body_that_is_not_wanted_is_not_asked_for(impatient: int, head: bytes, status: int) -> None:
    """F57."""
    with socket.create_connection(("127.0.0.1", impatient), timeout=30) as client:
        client.sendall(head)
        first = client.recv(12)
        client.sendall(LAST)
        answers = first + client.makefile("rb").read()

    assert first == b"HTTP/1.1 %d" % status
    assert answers.count(b"HTTP/1.1 ") == (2 if status == 200 else 1)


@pytest.mark.parametrize(
    ("field", "body"),
    [(b"Content-Length: 4", b"body"), (b"Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n")],
)
def test_a_body_that_is_wanted_is_asked_for(impatient: int, field: bytes, body: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=30) as client:
        client.sendall(START + field + b"\r\nExpect: 100-continue\r\n\r\n")
        asked = client.recv(25)
        client.sendall(body + LAST)
        answers = client.makefile("rb").read()

    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"127.0.0.1body" in answers


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.2", "GET / HTTP/9.9", "GET / HTTP/2.0", "PRI * HTTP/2.0", "GET / HTTP/0.9", "GET /"]
)
def test_other_http_versions_are_refused(impatient: int, line: str) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=30) as client:
        client.sendall(f"{line}\r\nHost: localhost\r\n\r\n".encode())
        answer = client.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.0 505 ")


@pytest.mark.parametrize(
    "field",
    [
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked,\r\n chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding:\r\nContent-Length: 5",
    ],
)
def test_a_transfer_encoding_other_than_one_chunked_is_refused(impatient: int, field: str) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=30) as client:
        client.sendall(START + field.encode() + b"\r\n\r\n0\r\n\r\n" + LAST)
        answers = client.makefile("rb").read()

    assert answers.startswith(b"HTTP/1.1 400 ")
    assert b" 200 OK" not in answers


# --- Limits of connections ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(START, START + b"\r\n"), (START + b"\r\n", START), (START, START)])
def test_room_is_made_by_closing_an_idle_connection_or_the_oldest_incomplete_request(
    first: bytes, second: bytes
) -> None:
    """F55."""
    environment = os.environ | {"CONNECTIONS": "2", "RECEIVE_S": "60"}
    with _started(IMPATIENT, env=environment, stderr=subprocess.PIPE) as process, ExitStack() as stack:
        port = _port(process)
        one, two = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(2)]
        for client, data in ((one, first), (two, second)):
            client.sendall(data)
            assert data == START or client.recv(1000).startswith(b"HTTP/1.1 200")
        closed, kept = (one, two) if second == START else (two, one)
        with _connection(port) as connection:
            answer = _ask(connection)

        assert closed.recv(1) == b""
        kept.sendall(b"Connection: close\r\n\r\n")
        assert kept.makefile("rb").read().startswith(b"HTTP/1.1 200")
        process.terminate()
        assert answer == b"127.0.0.1"
        assert process.stderr
        assert process.stderr.read() == "connections exhausted\n"


def test_somebody_new_is_answered_when_incomplete_requests_use_all_file_descriptors() -> None:
    """F67."""
    with _started(IMPATIENT, env=os.environ | {"FILES": "40"}, stderr=subprocess.PIPE) as process, ExitStack() as stack:
        port = _port(process)
        for _ in range(60):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            client.sendall(START)
        with _connection(port) as connection:
            assert _ask(connection) == b"127.0.0.1"
        process.terminate()


def test_a_server_without_file_descriptors_waits_instead_of_spinning() -> None:
    """F67. All connections are in use: none can be closed."""
    with _started(TRYING, env=os.environ | {"FILES": "40"}, stderr=subprocess.PIPE) as process, ExitStack() as stack:
        port = _port(process)
        (worker,) = children(process.pid)
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(60)]
        for client in clients:
            client.sendall(START.replace(b"/", b"/wait", 1) + b"\r\n")
        assert process.stderr
        lines = [process.stderr.readline().partition(" after ") for _ in range(3)]
        os.kill(worker, signal.SIGUSR2)
        answers = {client.recv(12) for client in clients}
        process.terminate()

    assert {line for line, _, _ in lines} == {"connections exhausted"}
    _, second, third = (int(tries) for _, _, tries in lines)
    assert third - second < 10  # two pauses of half a second lie between two lines
    assert answers == {b"HTTP/1.1 200"}


def test_an_ipv6_wildcard_address_serves_ipv4_clients_under_their_own_address() -> None:
    with _started(IMPATIENT.replace('host="127.0.0.1"', 'host="::"')) as process, _connection(_port(process)) as client:
        assert _ask(client) == b"127.0.0.1"


@pytest.mark.parametrize("version", ["1.0", "1.2"])
def test_chunked_bodies_are_refused_in_http_versions_without_them(keeping: int, version: str) -> None:
    with socket.create_connection(("127.0.0.1", keeping), timeout=30) as client:
        head = f"POST / HTTP/{version}\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = client.makefile("rb").read()

    assert b" 200 OK" not in answers
    assert b" 400 Bad Request" in answers


def test_a_waiting_thread_handles_a_connection_closed_by_the_event_loop(channel: Channel) -> None:
    timer = threading.Timer(0.05, channel.handle_close)
    timer.start()

    assert channel._read(0.1) == b""
    assert channel._read(0.1) == b""
    timer.join()


def test_a_download_whose_connection_was_closed_is_not_sent(channel: Channel, caplog: pytest.LogCaptureFixture) -> None:
    channel.outbufs[-1].append(b"a part")
    channel.is_streaming = True
    channel.handle_close()

    channel._flush_outbufs_below_high_watermark()

    assert caplog.messages == []


def test_the_event_loop_sends_nothing_while_a_thread_writes_a_response(channel: Channel) -> None:
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
    assert (len(each), min(each) >= 19) == (2, True), each  # a delayed worker may leave one to the other


def test_a_stuck_worker_does_not_keep_others_from_accepting(sharing: int) -> None:
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


@pytest.mark.parametrize(("lacking", "workers"), [("00110", 2), ("00", 1)])
def test_a_system_without_processes_delays_the_replacement_of_a_worker_and_ends_no_other(
    lacking: str, workers: int
) -> None:
    with _started(SCARCE, env=os.environ | {"LACKING": lacking}, stderr=subprocess.PIPE) as process:
        port = _port(process)
        killed, other = sorted(children(process.pid))
        os.kill(killed, signal.SIGKILL)
        assert process.stderr
        lines = [process.stderr.readline() for _ in range(3)]
        eventually(lambda: len(set(children(process.pid)) - {killed}) == workers, 10, "workers are missing")
        with _connection(port) as connection:
            assert int(_ask(connection)) in children(process.pid)
        assert other in children(process.pid)
        process.terminate()

        assert process.wait(10) == 0
    assert lines == ["worker died, replacing it\n", *["process cannot be started, retrying\n"] * 2]


def test_a_worker_that_hangs_is_replaced_and_one_whose_threads_are_busy_is_not() -> None:
    with _started(HANGING) as process, ExitStack() as stack:
        port = _port(process)
        assert process.stdout
        workers: list[int] = []
        for _ in range(50):  # a worker without free threads may accept connections, too, but not all of them
            stack.enter_context(_connection(port)).request("GET", "/slow")
            if select.select([process.stdout], [], [], 1)[0]:
                workers.append(int(_line(process).removeprefix("working ")))
            if len(set(workers)) == 2:
                break
        busy, hung = workers[0], workers[-1]
        os.kill(hung, signal.SIGSTOP)

        eventually(lambda: hung not in children(process.pid), 30, "the worker was not killed")
        eventually(lambda: len(children(process.pid)) == 2, 10, "the worker was not replaced")

        assert busy in children(process.pid)


def test_a_service_that_was_paused_goes_on_with_the_same_workers() -> None:
    with _started(SHARING) as process:
        port = _port(process)
        eventually(lambda: _answers_of(port, 2), 10, "a worker does not answer")
        workers = set(children(process.pid))

        for pid in (process.pid, *workers):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2 * CHECK_EVERY_S)  # the wait of the supervisor must end meanwhile
        for pid in (*workers, process.pid):
            os.kill(pid, signal.SIGCONT)

        assert eventually(lambda: _answers_of(port, 2), 10, "a worker does not answer") == workers
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("name", ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "PIPE", "IO", "PWR"])
def test_a_signal_that_nobody_uses_ends_neither_supervisor_nor_worker(name: str) -> None:
    with _started(SHARING) as process:
        port, number = _port(process), signal.Signals[f"SIG{name}"]
        eventually(lambda: _answers_of(port, 2), 10, "a worker does not answer")
        signalled, killed = children(process.pid)

        os.kill(process.pid, number)
        os.kill(signalled, number)
        os.kill(killed, signal.SIGKILL)

        eventually(lambda: len(set(children(process.pid)) - {killed}) == 2, 10, "the worker was not replaced")
        assert signalled in eventually(lambda: _answers_of(port, 2), 10, "a worker does not answer")
        process.terminate()
        assert process.wait(timeout=30) == 0


def _answers_of(port: int, workers: int) -> set[int]:
    """Return the workers that answer, or an empty set if they are fewer."""
    with ExitStack() as stack:
        found = {int(_ask(stack.enter_context(_connection(port)))) for _ in range(2 * workers)}
    return found if len(found) == workers else set()


def _connection(port: int) -> AbstractContextManager[HTTPConnection]:
    return closing(HTTPConnection("127.0.0.1", port, timeout=30))
