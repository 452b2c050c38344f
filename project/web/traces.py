"""Traces for OpenTelemetry: a span for each request, for each question to PostgreSQL, and for what goes to the disk.

Imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set: what it needs is in requirements-otel.txt and not installed by
default. Spans hold names, codes and numbers, never what was sent.
"""

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import Flask, Response, g, request
from opentelemetry import context, propagate
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from project.outage import Database, Statement
from project.web.request_id import request_id
from project.web.swagger import VERSION
from project.web.tools import tools

P = ParamSpec("P")
T = TypeVar("T")
NAME = "useradd"
STOP_S = 0.5


class Traces:
    """The spans of this process. Begun when first needed, as it takes a thread: a fork would lose it."""

    def __init__(self, processor: Callable[[], SpanProcessor]) -> None:
        self._processor = processor
        self._provider = TracerProvider()
        self._pid = 0
        self._lock = threading.Lock()

    def ensure_running(self) -> None:
        """Begin to send spans, if this process does not yet."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", NAME), "service.version": VERSION}
                self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
                self._provider.add_span_processor(self._processor())
                self._pid = os.getpid()

    def stop(self) -> None:
        """Send what was not sent yet, but not for long: whoever takes spans may be gone."""
        if self._pid == os.getpid():
            sending = threading.Thread(target=self._provider.shutdown, daemon=True)
            sending.start()
            sending.join(STOP_S)

    def begin(self) -> None:
        """Begin the span of a request, at its arrival; its caller's trace goes on."""
        self.ensure_running()
        carrier = {name: request.headers.get(name, "") for name in ("traceparent", "tracestate")}
        route = str(request.url_rule) if request.url_rule else "unknown"
        method = request.method[:16]
        g.span = self._provider.get_tracer(NAME).start_span(
            f"{method} {route}",
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route, "useradd.request_id": str(request_id())},
            start_time=int(g.arrival.at.timestamp() * 1e9),
        )
        g.span_outside = context.attach(set_span_in_context(g.span))

    def tell(self, response: Response) -> Response:
        """Note how the request was answered."""
        if "span" in g:
            g.span.set_attribute("http.response.status_code", response.status_code)
            if "code" in g:
                g.span.set_attribute("useradd.code", g.code)
            if response.status_code >= 500:
                g.span.set_status(StatusCode.ERROR)
        return response

    def end(self, error: BaseException | None) -> None:
        """End the span of a request."""
        if "span" in g:
            context.detach(g.pop("span_outside"))
            g.pop("span").end()

    def inside(self, name: Callable[P, str], work: Callable[P, T], system: str) -> Callable[P, T]:
        """Return `work` with a span around it; errors are told by their class and code only."""

        @wraps(work)
        def traced(*args: P.args, **kwargs: P.kwargs) -> T:
            tracer = self._provider.get_tracer(NAME)
            told = {"db.system.name": system} if system else {}
            with tracer.start_as_current_span(name(*args, **kwargs), attributes=told, record_exception=False):
                return work(*args, **kwargs)

        return traced


def init_app(app: Flask, processor: Callable[[], SpanProcessor] | None = None) -> Traces:
    """Put spans around requests, questions and appends of this application.

    They are put on the objects themselves: whoever holds one of these need not know, and without traces nothing is
    different.
    """
    traces, parts = Traces(processor or _exporting), tools(app)
    app.before_request(traces.begin)
    app.after_request(traces.tell)
    app.teardown_request(traces.end)
    for way in (parts.database, parts.reading):
        _trace_way(traces, way)
    vars(parts.spool)["append"] = traces.inside(_spool_append, parts.spool.append, "")
    parts.ending.append(traces.stop)
    return traces


def _spool_append(record: str) -> str:
    return "spool append"


def _trace_way(traces: Traces, way: Database) -> None:
    def name_of(statement: Statement, *_: object) -> str:
        return f"postgresql {statement.name}"

    def name_of_work(work: Callable[..., object], *_: object, **__: object) -> str:
        return f"postgresql {getattr(work, '__name__', 'work')}"

    vars(way)["run"] = traces.inside(name_of, way.run, "postgresql")
    vars(way)["transact"] = traces.inside(name_of_work, way.transact, "postgresql")


def _exporting() -> SpanProcessor:
    """Return what sends spans in a thread of its own, and drops them when nobody takes them."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - not installed where tests run
        OTLPSpanExporter,
    )

    return BatchSpanProcessor(OTLPSpanExporter())
