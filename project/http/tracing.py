"""OpenTelemetry traces: spans of requests, database operations and spool appends.

Imported only if OTEL_EXPORTER_OTLP_ENDPOINT is set, because the packages of requirements-otel.txt are not installed by
default. Spans contain names, codes, IDs and the HTTP method, no other data of requests.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from flask import Flask, Response, request
from opentelemetry import context, propagate
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

from project.http.request_state import request_state
from project.runtime import get_runtime
from project.version import VERSION

SERVICE_NAME = "useradd"
STOP_TIMEOUT_S = 0.5
"""Maximum seconds to export the remaining spans when the process ends."""


class Tracing:
    """The tracer of a process, started by its first request.

    It starts after the fork, because threads do not survive a fork. Spans before the first request are not exported.
    """

    def __init__(self, create_processor: Callable[[], SpanProcessor]) -> None:
        self._create_processor = create_processor
        self._provider = TracerProvider()
        self._pid = 0
        self._lock = threading.Lock()

    def ensure_running(self) -> None:
        """Start exporting spans, once per process."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                resource = {
                    "service.name": os.environ.get("OTEL_SERVICE_NAME", SERVICE_NAME),
                    "service.version": VERSION,
                }
                self._provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
                self._provider.add_span_processor(self._create_processor())
                self._pid = os.getpid()

    def stop(self) -> None:
        """Export the remaining spans; wait at most STOP_TIMEOUT_S for the collector."""
        if self._pid == os.getpid():
            shutdown = threading.Thread(target=self._provider.shutdown, daemon=True)
            shutdown.start()
            shutdown.join(STOP_TIMEOUT_S)

    @contextmanager
    def span(self, name: str, **attributes: str) -> Iterator[None]:
        """Trace a block as a span. An exception sets status ERROR and attribute `error.type`."""
        tracer = self._provider.get_tracer(SERVICE_NAME)
        with tracer.start_as_current_span(
            name,
            attributes=attributes,
            record_exception=False,  # messages of exceptions may hold personal data
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def begin_request(self) -> None:
        """Start the span of a request at the time of its arrival, within the client's trace."""
        self.ensure_running()
        state = request_state()
        carrier = {name: request.headers.get(name, "") for name in ("traceparent", "tracestate")}
        route = str(request.url_rule) if request.url_rule else "unknown"
        method = request.method[:16]
        state.span = self._provider.get_tracer(SERVICE_NAME).start_span(
            f"{method} {route}",
            context=propagate.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "http.route": route,
                "useradd.request_id": str(state.request_id),
            },
            start_time=int(state.arrival.received_at.timestamp() * 1e9),
        )
        state.span_token = context.attach(set_span_in_context(state.span))

    def record_response(self, response: Response) -> Response:
        """Add the status and code of a response to the span of the request."""
        state = request_state()
        if state.span:
            state.span.set_attribute("http.response.status_code", response.status_code)
            if state.code:
                state.span.set_attribute("useradd.code", state.code)
            if response.status_code >= 500:
                state.span.set_status(StatusCode.ERROR)
        return response

    def end_request(self, error: BaseException | None) -> None:
        """End the span of a request."""
        state = request_state()
        if state.span:
            context.detach(state.span_token)
            state.span.end()
            state.span = None


def init_app(app: Flask, create_processor: Callable[[], SpanProcessor] | None = None) -> Tracing:
    """Trace the requests, databases and spool of an application; by default, export with OTLP."""
    tracing, runtime = Tracing(create_processor or _otlp_processor), get_runtime(app)
    app.before_request(tracing.begin_request)
    app.after_request(tracing.record_response)
    app.teardown_request(tracing.end_request)

    def trace_database(name: str) -> AbstractContextManager[object]:
        return tracing.span(f"postgresql {name}", **{"db.system.name": "postgresql"})

    for database in (runtime.database, *runtime.read_database.databases):
        database.trace = trace_database
    runtime.spool.trace = tracing.span
    runtime.on_stop.append(tracing.stop)
    return tracing


def _otlp_processor() -> SpanProcessor:
    """Return a processor that exports in a thread and drops spans that it cannot deliver."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - not installed where tests run
        OTLPSpanExporter,
    )

    return BatchSpanProcessor(OTLPSpanExporter())
