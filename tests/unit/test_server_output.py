"""Output of the supervisor: lines that nobody reads are dropped and counted (F41)."""

import logging
import os
import signal
from collections.abc import Iterator
from typing import BinaryIO, TextIO

import pytest

from project.server.output import NonBlockingStream

Pipe = tuple[BinaryIO, TextIO]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Both ends of a pipe. Reading does not wait."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    former = signal.getsignal(signal.SIGALRM)
    with os.fdopen(reader, "rb", buffering=0) as read_end, os.fdopen(writer, "w", encoding="latin-1") as write_end:
        yield read_end, write_end
    signal.signal(signal.SIGALRM, former)


def _dropped(stream: NonBlockingStream) -> int:
    record = logging.makeLogRecord({})
    assert stream.add_dropped_lines(record)
    return int(vars(record).get("dropped_lines", 0))


def test_a_full_pipe_drops_lines_and_the_next_line_tells_how_many(pipe: Pipe) -> None:
    stream = NonBlockingStream(pipe[1])
    stream.write("x" * 1_000_000)  # would block: the kernel takes 64 KiB
    for _ in range(2):
        stream.write("x\n")
    dropped = _dropped(stream)
    pipe[0].read(1_000_000)
    stream.write("later\n")

    assert (dropped, _dropped(stream)) == (3, 0)
    assert pipe[0].read(100) == b"later\n"


def test_a_text_that_the_encoding_lacks_is_escaped(pipe: Pipe) -> None:
    NonBlockingStream(pipe[1]).write("Ж\n")

    assert pipe[0].read(100) == b"\\u0416\n"


def test_a_line_is_written_even_if_a_busy_machine_delays_it_beyond_the_limit(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = NonBlockingStream(pipe[1])
    alarms = iter([True])

    def expire_once(which: int, seconds: float) -> None:
        if seconds and next(alarms, False):
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(signal, "setitimer", expire_once)

    stream.write("ready\n")

    assert (pipe[0].read(100), _dropped(stream)) == (b"ready\n", 0)


def test_a_pipe_without_a_reader_does_no_harm(pipe: Pipe) -> None:
    stream = NonBlockingStream(pipe[1])
    pipe[0].close()

    stream.write("x\n")

    assert _dropped(stream) == 1
