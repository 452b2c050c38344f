"""Optional OpenTelemetry traces."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from config import Config, ConfigError
from project.http import tracing
from project.runtime import Runtime
from project.services.upkeep import Upkeep
from tests.builders import ADDRESS, ANNA, KEY, useradd
from tests.conftest import MakeApp

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"Idempotency-Key": KEY, "traceparent": f"00-{TRACE}-{PARENT}-01"}
SENSITIVE_DATA = ("5550141", "anna@", "Анна", "a.sokolova", "1990", KEY)


@pytest.fixture
def span_exporter() -> InMemorySpanExporter:
    """An exporter that keeps spans in memory."""
    return InMemorySpanExporter()


@pytest.fixture
def client(make_app: MakeApp, client: FlaskClient, span_exporter: InMemorySpanExporter, tmp_path: Path) -> FlaskClient:
    """A client of a service with tracing."""
    app = make_app(data_dir=tmp_path)
    tracing.init_app(app, lambda: SimpleSpanProcessor(span_exporter))
    return app.test_client()


def by_name(span_exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return the finished spans by name."""
    return {span.name: span for span in span_exporter.get_finished_spans()}


def test_a_request_and_its_query_are_spans_of_the_callers_trace(
    client: FlaskClient, span_exporter: InMemorySpanExporter
) -> None:
    answer = useradd(client, ANNA, headers=HEADERS)

    spans = by_name(span_exporter)
    request, query = spans[f"POST {ADDRESS}"], spans["postgresql useradd_many"]
    assert request.parent
    assert query.parent
    assert (f"{request.context.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert query.parent.span_id == request.context.span_id
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": ADDRESS,
        "http.response.status_code": 201,
        "useradd.code": "created",
        "useradd.request_id": answer.headers["X-Request-Id"],
    }
    assert request.start_time
    assert query.start_time
    assert request.start_time <= query.start_time
    assert request.resource.attributes["service.name"] == "useradd"


def test_writing_to_the_spool_is_a_span_and_spans_have_no_personal_data(
    client: FlaskClient, span_exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime: Runtime = client.application.extensions["useradd"]
    monkeypatch.setattr(Upkeep, "run_round", lambda *_: None)  # the breaker stays open
    runtime.database.breaker.record_failure(time.monotonic())

    useradd(client, ANNA, headers=HEADERS)

    spans = by_name(span_exporter)
    assert spans.keys() == {f"POST {ADDRESS}", "postgresql useradd_many", "spool append"}
    assert [span.status.is_ok for span in spans.values()].count(False) == 2
    exported = "".join(span.to_json() for span in spans.values())
    assert "database_unavailable" in exported
    assert not [text for text in SENSITIVE_DATA if text in exported]


def test_an_exception_in_a_span_is_exported_without_its_message(span_exporter: InMemorySpanExporter) -> None:
    traces = tracing.Tracing(lambda: SimpleSpanProcessor(span_exporter))
    traces.ensure_running()

    with pytest.raises(ValueError, match="5550141"), traces.span("query"):
        raise ValueError("Key (phone)=(+79995550141) exists")

    [span] = span_exporter.get_finished_spans()
    assert (span.status.status_code, span.attributes) == (StatusCode.ERROR, {"error.type": "ValueError"})
    assert "5550141" not in span.to_json()


def test_an_endpoint_without_the_packages_prevents_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.find_spec", lambda _: None)

    with pytest.raises(ConfigError, match=r"requirements-otel\.txt"):
        Config.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})


@pytest.mark.slow
def test_without_an_endpoint_tracing_is_not_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from config import Config; from project import create_app;"
        f"create_app(Config.from_environment({{'DATA_DIR': {str(tmp_path)!r}, 'DATABASE_URL': 'postgres://x@y/z'}}));"
        "print('project.http.tracing' in sys.modules)"
    )

    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert result.stdout.splitlines()[-1] == "False"
