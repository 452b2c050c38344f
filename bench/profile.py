"""A profile of POST /useradd from 1,000 samples a second in this process.

A profiler that counts calls would exaggerate small functions.
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

from bench.load import HOST, NUMBER, useradd_request
from bench.report import DOCUMENT, markdown_table, replace_section
from bench.run import CLIENTS, Options, Run, print_progress
from bench.servers import ROOT
from bench.targets import Quantity
from config import Config
from project import create_app
from project.runtime import get_runtime

SAMPLE_EVERY_S = 0.001
MIN_SHARE = 0.01
"""Parts with a smaller share of the time are combined as `other`."""
WARM_UP_REQUESTS = 300
"""Number of requests before the measurement."""
COUNTED_REQUESTS = 50
"""Number of requests during which function calls are counted."""
BODY = useradd_request().partition(b"\r\n\r\n")[2]
STANDARD = {"json", "logging"}
"""Modules of the standard library with a row of their own; the time in other modules counts for the caller."""


@dataclass(slots=True)
class Profile:
    """Number of samples by part, and the mean times of a request in microseconds."""

    parts: Counter[str] = field(default_factory=Counter)
    elapsed_us: float = 0.0
    cpu_us: float = 0.0
    calls: float = 0.0
    """Function calls per request: the only value that does not depend on the machine or its load."""


def main(seconds: float, *, write: bool) -> None:
    """Profile for some seconds and print the table; with `write`, also write it to DOCUMENT."""
    run = Run(Options(rounds=1, seconds=seconds, rows=0))
    try:
        content = _report(run)
    finally:
        run.databases.close()
    print(content)
    if write:
        DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), "profile", content))


def _report(run: Run) -> str:
    with run.serve("wsgi", run.databases.create("served"), WORKERS="1") as server:
        print_progress("one worker under load")
        run.measure_load(Quantity.CREATED, server, useradd_request())
    usage = run.results.cpu_usage[Quantity.CREATED][0]
    print_progress("the application in this process")
    environment = run.databases.environment(run.databases.create("in_process"))
    with Path(os.devnull).open("w") as devnull, redirect_stderr(devnull):
        profile = _sample(create_app(Config.from_environment(environment)), run.options.seconds)
    rows = [
        *_parts(profile),
        ("**one request in process**", f"**{profile.elapsed_us:,.0f}**", "100%"),
        ("CPU time of it; the rest is waiting", f"{profile.cpu_us:,.0f}", f"{profile.cpu_us / profile.elapsed_us:.0%}"),
        (f"CPU time, on waitress, {CLIENTS} connections", f"{usage.server_s / usage.requests * 1e6:,.0f}", ""),
        ("CPU time of PostgreSQL", f"{usage.postgres_s / usage.requests * 1e6:,.0f}", ""),
        ("functions called in process", f"{profile.calls:,.0f} calls", ""),
        ("context switches, on waitress", f"{usage.switches / usage.requests:,.0f} times", ""),
    ]
    return markdown_table(("part", "µs", "share"), rows, left=1)


def _parts(profile: Profile) -> list[tuple[str, str, str]]:
    total = profile.parts.total() or 1
    large = [(f"`{part}`", count) for part, count in profile.parts.most_common() if count >= MIN_SHARE * total]
    rows = [*large, ("other", total - sum(count for _, count in large))]
    return [(name, f"{count / total * profile.elapsed_us:,.0f}", f"{count / total:.0%}") for name, count in rows]


def _sample(app: Flask, seconds: float) -> Profile:
    """Send requests for some seconds; at each timer signal, count the part that is running."""
    profile, numbers, requests = Profile(), count(), 0

    def sample(signal_number: int, frame: FrameType | None) -> None:
        profile.parts[_running_part(frame)] += 1

    get_runtime(app).start(0)
    try:
        for _ in range(WARM_UP_REQUESTS):
            _send(app, next(numbers))
        began, used = time.perf_counter(), time.thread_time()
        signal.signal(signal.SIGALRM, sample)
        signal.setitimer(signal.ITIMER_REAL, SAMPLE_EVERY_S, SAMPLE_EVERY_S)
        while time.perf_counter() < began + seconds:
            _send(app, next(numbers))
            requests += 1
        profile.elapsed_us = (time.perf_counter() - began) / requests * 1e6
        profile.cpu_us = (time.thread_time() - used) / requests * 1e6
        signal.setitimer(signal.ITIMER_REAL, 0)
        profile.calls = _count_calls(app, numbers)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        get_runtime(app).stop()
    return profile


def _count_calls(app: Flask, numbers: Iterator[int]) -> float:
    """Return the number of Python and C function calls per request."""
    calls: Counter[str] = Counter()

    def count_call(frame: FrameType, event: str, argument: object) -> None:
        calls[event] += 1

    sys.setprofile(count_call)
    try:
        for _ in range(COUNTED_REQUESTS):
            _send(app, next(numbers))
    finally:
        sys.setprofile(None)
    return (calls["call"] + calls["c_call"]) / COUNTED_REQUESTS


def _send(app: WSGIApplication, number: int) -> None:
    """Send a request through WSGI. Raises RuntimeError if it creates no user."""
    statuses: list[str] = []

    def start_response(status: str, headers: object, error: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _: None

    response = app(_environ(BODY.replace(NUMBER, b"%07d" % number)), start_response)
    b"".join(response)
    if close := getattr(response, "close", None):
        close()
    if statuses != ["201 CREATED"]:
        raise RuntimeError(f"the service answered {statuses}")


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


def _running_part(frame: FrameType | None) -> str:
    """Return the innermost named part on the stack; unnamed code counts for its caller."""
    while frame is not None:
        part = _part(frame.f_code.co_filename)
        if part:
            return part
        frame = frame.f_back
    return "python"


@cache
def _part(file: str) -> str:
    """Return the name of a part: the path of a project module, else the name of the package.

    Modules of STANDARD are parts, too. Returns "" for other code, which counts for its caller.
    """
    path = Path(file)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1].removesuffix(".py")
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT).as_posix()
    return next((part for part in path.parts if part in STANDARD), "")
