"""Where the microseconds of one POST /useradd go: the application in this process, looked at a thousand times a second.

The interpreter runs the handler of a signal between two steps of the program, so a look costs little and favours
nobody; a profiler that counts calls makes small functions look slow.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication

from flask import Flask

from bench.load import HOST, NUMBER, useradd
from bench.report import DOCUMENT, put, table
from bench.run import CLIENTS, Options, Run, say
from bench.servers import ROOT
from bench.targets import Quantity
from config import Config
from project import create_app
from project.runtime import get_runtime

LOOK_EVERY_S = 0.001
LEAST = 0.01
"""Share of the time below which parts are added up."""
WARM_UP = 300
"""Requests that do not count."""
COUNTED = 50
"""Requests whose calls are counted."""
BODY = useradd().partition(b"\r\n\r\n")[2]
STANDARD = {"json", "logging"}
"""Of the standard library these are named; the rest counts for whoever calls it."""


@dataclass(slots=True)
class Looks:
    """How often each part was at work when the timer went off, and what a request took meanwhile."""

    parts: Counter[str] = field(default_factory=Counter)
    elapsed_us: float = 0.0
    core_us: float = 0.0
    calls: float = 0.0
    """Functions that a request calls: the one figure here that is the same on every machine, however busy it is."""


def main(seconds: float, *, write: bool) -> None:
    """Print the table; put it into the document if asked to."""
    run = Run(Options(rounds=1, seconds=seconds, rows=0))
    try:
        found = _report(run)
    finally:
        run.databases.close()
    print(found)
    if write:
        DOCUMENT.write_text(put(DOCUMENT.read_text(), "profile", found))


def _report(run: Run) -> str:
    with run.serve("wsgi", run.databases.create("served"), WORKERS="1") as server:
        say("one worker under load")
        run.load(Quantity.CREATED, server, useradd())
    spent = run.notes.busy[Quantity.CREATED][0]
    say("the application in this process")
    environment = run.databases.environment(run.databases.create("in_process"))
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        looks = _look(create_app(Config.from_environment(environment)), run.options.seconds)
    rows = [
        *_parts(looks),
        ("**one request in process**", f"**{looks.elapsed_us:,.0f}**", "100%"),
        ("of it on a core, the rest waiting", f"{looks.core_us:,.0f}", f"{looks.core_us / looks.elapsed_us:.0%}"),
        (f"on a core, on waitress, {CLIENTS} connections", f"{spent.server_s / spent.requests * 1e6:,.0f}", ""),
        ("PostgreSQL on a core meanwhile", f"{spent.postgres_s / spent.requests * 1e6:,.0f}", ""),
        ("functions called in process", f"{looks.calls:,.0f} calls", ""),
        ("a thread left its core, on waitress", f"{spent.switches / spent.requests:,.0f} times", ""),
    ]
    return table(("part", "µs", "share"), rows, left=1)


def _parts(looks: Looks) -> list[tuple[str, str, str]]:
    total = looks.parts.total() or 1
    large = [(f"`{part}`", number) for part, number in looks.parts.most_common() if number >= LEAST * total]
    rows = [*large, ("all else", total - sum(number for _, number in large))]
    return [(name, f"{number / total * looks.elapsed_us:,.0f}", f"{number / total:.0%}") for name, number in rows]


def _look(app: Flask, seconds: float) -> Looks:
    """Ask again and again; note who is at work whenever the timer goes off."""
    looks, numbers, requests = Looks(), count(), 0

    def look(number: int, frame: FrameType | None) -> None:
        looks.parts[_part_at_work(frame)] += 1

    get_runtime(app).start(0)
    try:
        for _ in range(WARM_UP):
            _ask(app, next(numbers))
        began, used = time.perf_counter(), time.thread_time()
        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY_S, LOOK_EVERY_S)
        while time.perf_counter() < began + seconds:
            _ask(app, next(numbers))
            requests += 1
        looks.elapsed_us = (time.perf_counter() - began) / requests * 1e6
        looks.core_us = (time.thread_time() - used) / requests * 1e6
        signal.setitimer(signal.ITIMER_REAL, 0)
        looks.calls = _calls(app, numbers)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        get_runtime(app).stop()
    return looks


def _calls(app: Flask, numbers: Iterator[int]) -> float:
    """Count the functions that a request calls, those of Python and those written in C."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, argument: object) -> None:
        calls[event] += 1

    sys.setprofile(note)
    try:
        for _ in range(COUNTED):
            _ask(app, next(numbers))
    finally:
        sys.setprofile(None)
    return (calls["call"] + calls["c_call"]) / COUNTED


def _ask(app: WSGIApplication, number: int) -> None:
    """Send one request as a server would; raise RuntimeError if it creates no user."""
    answers: list[str] = []

    def start_response(status: str, headers: object, error: object = None) -> Callable[[bytes], object]:
        answers.append(status)
        return lambda _: None

    answer = app(_environ(BODY.replace(NUMBER, b"%07d" % number)), start_response)
    b"".join(answer)
    if close := getattr(answer, "close", None):
        close()
    if answers != ["201 CREATED"]:
        raise RuntimeError(f"the service answered {answers}")


def _environ(body: bytes) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/api/v1/useradd/",
        "QUERY_STRING": "",
        "SERVER_NAME": HOST,
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": HOST,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": HOST,
        "HTTP_USER_AGENT": "bench",
        "HTTP_ACCEPT_LANGUAGE": "ru",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": None,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def _part_at_work(frame: FrameType | None) -> str:
    """Return the innermost part that has a name: whatever it calls without one works for it."""
    while frame is not None:
        part = _part(frame.f_code.co_filename)
        if part:
            return part
        frame = frame.f_back
    return "python"


@cache
def _part(file: str) -> str:
    """Name a module of ours by its path, another one by its package."""
    path = Path(file)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1].removesuffix(".py")
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT).as_posix()
    return next((part for part in path.parts if part in STANDARD), "")
