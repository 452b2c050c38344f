"""The reports of the bench and how its load generator counts responses."""

import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from threading import Thread
from xml.etree import ElementTree

import psutil
import pytest

from bench import chart, load, machine, report
from bench.run import CpuUsage, Options, Results
from bench.servers import ROOT
from bench.targets import TARGETS, Quantity


@pytest.fixture
def results() -> Results:
    """A run of three rounds.

    The service creates as many users as PostgreSQL in the last round only.
    """
    results = Results(options=Options(rounds=3, seconds=1, rows=1000), postgres="18", cores=2)
    results.values |= {Quantity.CREATED: [400.0, 500.0, 900.0], Quantity.TWO_INSERTS: [1000.0, 1000.0, 900.0]}
    results.values |= {Quantity.MEMORY_FEW: [80.0], Quantity.MEMORY_MOST: [113.0], Quantity.START: [2.0]}
    busy = CpuUsage(
        requests=1000, elapsed_s=1, generator_s=0.1, server_s=1, postgres_s=0.5, kernel_s=0.2, switches=4000
    )
    results.cpu_usage[Quantity.CREATED] = [busy]
    return results


def test_a_measurement_is_the_ratio_of_medians_with_the_spread_of_the_rounds(results: Results) -> None:
    created = report.evaluate_targets(results)[0]

    assert (created.median, created.least, created.most) == (0.5, 0.4, 1.0)


def test_higher_is_better_for_rates_and_lower_is_better_for_limits(results: Results) -> None:
    verdicts = {measurement.target.name: measurement.verdict for measurement in report.evaluate_targets(results)}

    assert list(verdicts.values()) == ["reached", "MISSED", "met"]


def test_quantities_that_were_not_measured_are_left_out_of_the_report(results: Results) -> None:
    results.values.clear()
    results.cpu_usage.clear()

    assert report.evaluate_targets(results) == []
    assert report.format_tables(results) == report.describe_run(results)


def test_the_report_shows_the_cpu_share_of_each_process(results: Results) -> None:
    row = report.cpu_table(results).splitlines()[-1]

    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "created users",
        "100 (5%)",
        "1,000 (50%)",
        "500 (25%)",
        "1.6 of 2",
    ]


def test_a_layer_is_reported_with_its_ratio_to_postgresql_and_the_work_of_its_server(results: Results) -> None:
    results.cpu_usage[Quantity.TWO_INSERTS] = [
        CpuUsage(requests=1000, elapsed_s=1, generator_s=0.1, server_s=0, postgres_s=0.3)
    ]
    results.values[Quantity.TWO_INSERTS_LATENCY] = [4.0]
    results.p99_ms[Quantity.CREATED] = [30.0, 50.0, 90.0]

    row = report.layers_table(results).splitlines()[-1]

    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "created users",
        "500",
        "0.50",
        "12.5",
        "800",
        "200",
        "500",
        "4.0",
        "1.6 of 2",
    ]


def test_pages_are_reported_with_their_times_for_few_and_for_many_attempts(results: Results) -> None:
    results.pages_ms["/results/"] |= {1_000_000: [30.0, 90.0, 60.0], 10_000: [40.0]}

    head, _, row = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in report.pages_table(results).splitlines()
    )

    assert head[1:] == ["10,000", "1,000,000", "most / least"]
    assert row == ["`/results/`", "40.0", "60.0", "1.50"]


def test_each_wait_of_a_thread_counts_as_a_context_switch() -> None:
    """In a process of its own: the switches of a thread that ends are no longer counted."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdin
        assert waiting.stdout
        before = machine.count_context_switches(psutil.Process(waiting.pid))
        for _ in range(100):  # it need not wait for a line that has already arrived
            waiting.stdin.write(b"line\n")
            waiting.stdin.flush()
            waiting.stdout.readline()

        assert machine.count_context_switches(psutil.Process(waiting.pid)) > before
        waiting.stdin.close()


def test_kernel_time_is_part_of_the_cpu_time_of_a_process() -> None:
    seconds, kernel = machine.cpu_seconds(psutil.Process())

    assert 0 < kernel < seconds


def test_every_table_has_a_section_in_the_document() -> None:
    document = (ROOT / report.DOCUMENT).read_text()

    for name in (*report.TABLES, "profile"):
        assert "found\n" in report.replace_section(document, name, "found")


def test_a_document_without_the_section_of_a_table_is_not_written() -> None:
    with pytest.raises(ValueError, match="no marker for targets"):
        report.replace_section("nothing", "targets", "found")


def test_the_chart_is_xml_and_shows_every_measurement(results: Results) -> None:
    svg = ElementTree.fromstring(chart.draw(results))  # noqa: S314 - drawn by us

    texts = {text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {measurement.target.name for measurement in report.evaluate_targets(results)} <= texts


def test_the_required_value_is_never_stricter_than_the_target_value() -> None:
    assert all(target.is_satisfied(target.desired, target.required) for target in TARGETS)


class _Flaky(BaseHTTPRequestHandler):
    """Creates every second user."""

    protocol_version = "HTTP/1.1"
    statuses = cycle([201, 503])
    names: set[bytes]

    def do_POST(self) -> None:
        self.names.add(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(next(self.statuses))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_request(self, *args: object) -> None:
        """Do not log."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *args: object) -> None:
        """Ignore clients that disconnect when the time is over."""


@pytest.fixture
def flaky_server() -> Iterator[ThreadingHTTPServer]:
    """A server that creates every second user."""
    _Flaky.names = set()
    with _Server((load.HOST, 0), _Flaky) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def test_the_load_generator_counts_refusals_separately_and_never_sends_a_user_twice(
    flaky_server: ThreadingHTTPServer,
) -> None:
    found = load.run_load(
        flaky_server.server_port, load.useradd_request(), clients=4, seconds=0.1, first=0, expected=201
    )

    assert found.requests <= len(_Flaky.names) <= found.requests + 4
    assert abs(found.unexpected - found.requests / 2) <= 4
