"""Times of the results page and exports; rate of created users during an export."""

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

from psycopg2 import extensions

from bench.load import useradd_request
from bench.machine import track_peak_memory
from bench.reader import Reader
from bench.references import postgres, workbook
from bench.references.postgres import connect
from bench.run import FEW_ROWS, Run, print_progress
from bench.servers import Server
from bench.targets import Quantity
from project.services.upkeep import AGGREGATION_MINIMUM

PAGE = "/results/?period=all"
PAGES = (
    "/results/?period=today",
    "/results/",
    "/results/?period=30d",
    PAGE,
    "/results/?period=all&before={id}",
    "/results/?period=all&result=rejected",
    "/results/?period=all&result=failed",
    "/results/?period=all&code=required&code=invalid_email&code=username_taken",
    "/results/?period=all&status=503",
    "/results/?period=all&q={id}",
    "/results/?period=all&q==user7",
    "/results/?period=all&q=part-of-no-login",
    "/api/v1/stats/?period=all",
    "/api/v1/attempts/?period=all&result=failed",
)
"""Requested pages: each period, filter and kind of search."""
TIMES = 5
"""Number of requests per page and round; the median of their times is recorded."""
MIDDLE_ROWS = 1_000_000
WORKBOOK_ROWS = 100_000
LONG_ROUNDS = 3
"""Maximum number of rounds of measurements that take many seconds."""
FORMATS = {"txt": Quantity.TXT, "csv": Quantity.CSV, "xlsx": Quantity.XLSX}


@dataclass(frozen=True, slots=True)
class ServedAttempts:
    """A database of attempts, a server with one worker, and a logged-in client."""

    url: str
    rows: int
    server: Server
    reader: Reader
    middle: str
    """ID of the middle attempt."""

    def page_ms(self, page: str) -> float:
        """Return the median response time of a page.

        `{id}` in its address is the ID of the middle attempt.
        """
        address = page.format(id=self.middle)
        return 1000 * statistics.median(self.reader.get(address).seconds for _ in range(TIMES))


def measure(run: Run) -> None:
    """Record the times of pages and exports with 10,000 attempts and with `Options.rows`.

    Pages are also recorded with a million attempts if `Options.rows` is larger.
    """
    with ExitStack() as stack:
        sizes = sorted({FEW_ROWS, *([MIDDLE_ROWS] if run.options.rows > MIDDLE_ROWS else []), run.options.rows})
        all_served = [stack.enter_context(serve_attempts(run, rows)) for rows in sizes]
        few, most = all_served[0], all_served[-1]
        run.take_turns("pages", *(partial(_record_page, run, page, all_served) for page in PAGES))
        for quantity, served in {Quantity.PAGE_FEW: few, Quantity.PAGE_MOST: most}.items():
            run.results.values[quantity] += run.results.pages_ms[PAGE][served.rows]
        run.take_turns(
            "exporting",
            lambda: run.record(Quantity.COPY, most.rows / postgres.copy_s(most.url)),
            lambda: _record_exports(run, most),
            lambda: _record_memory(run, few),
            lambda: _record_workbook(run, most),
            rounds=min(LONG_ROUNDS, run.options.rounds),
        )
        _measure_during_export(run, most)


@contextmanager
def serve_attempts(run: Run, rows: int) -> Iterator[ServedAttempts]:
    """Serve a database of `rows` pre-aggregated attempts while the block runs.

    Raises RuntimeError if the statistics count another number of attempts.
    """
    print_progress(f"recording {rows:,} attempts")
    url = run.databases.create(f"attempts_{rows}")
    with closing(connect(url)) as connection:
        postgres.insert_attempts(connection, rows)
        middle = postgres.find_middle_id(connection, rows)
    with run.serve("wsgi", url, WORKERS="1") as server:
        served = ServedAttempts(url, rows, server, Reader(server.port), middle)
        with closing(connect(url)) as connection:
            _await_aggregation(connection)
        if (total := served.reader.count_attempts()) != rows + 1:
            raise RuntimeError(f"the statistics count {total:,} of {rows + 1:,}")
        yield served


def _record_page(run: Run, page: str, all_served: list[ServedAttempts]) -> None:
    for served in all_served:
        run.results.pages_ms[page][served.rows].append(served.page_ms(page))


def _await_aggregation(connection: extensions.connection) -> None:
    """Wait until the attempts are aggregated, as on a service that has been running."""
    with connection.cursor() as cursor:
        backlog = AGGREGATION_MINIMUM
        while backlog >= AGGREGATION_MINIMUM:
            time.sleep(0.1)
            cursor.execute(
                "select (select max(seq) from attempts) - (select seq from watermarks where name = 'attempt_counts')"
            )
            backlog = cursor.fetchall()[0][0]


def _record_exports(run: Run, served: ServedAttempts) -> None:
    firsts = []
    with track_peak_memory(served.server.workers()[0]) as peak:
        for ending, quantity in FORMATS.items():
            timing = served.reader.get(_address(ending))
            run.record(quantity, served.rows / timing.seconds)
            firsts.append(1000 * timing.first_byte_s)
    run.record(Quantity.FIRST_BYTE, max(firsts))
    run.record(Quantity.MEMORY_MOST, peak.mb)


def _record_memory(run: Run, served: ServedAttempts) -> None:
    with track_peak_memory(served.server.workers()[0]) as peak:
        for ending in FORMATS:
            served.reader.get(_address(ending))
    run.record(Quantity.MEMORY_FEW, peak.mb)


def _record_workbook(run: Run, served: ServedAttempts) -> None:
    rows = min(served.rows, WORKBOOK_ROWS)
    run.record(Quantity.XLSXWRITER, rows / workbook.write_s(served.url, rows))


def _measure_during_export(run: Run, served: ServedAttempts) -> None:
    """Record the rate of created users, alone and while workbooks are downloaded.

    The rate is that of all workers together.
    """
    with run.serve("wsgi", served.url) as server, ThreadPoolExecutor(1) as pool:

        def measure_during_export() -> None:
            stop = threading.Event()
            downloads = pool.submit(_download, served, server, stop)
            run.measure_load(Quantity.BESIDE_EXPORT, server, useradd_request())
            stop.set()
            downloads.result()

        run.take_turns(
            "creating users beside an export",
            lambda: run.measure_load(Quantity.BESIDE_NO_EXPORT, server, useradd_request()),
            measure_during_export,
        )


def _download(served: ServedAttempts, server: Server, stop: threading.Event) -> None:
    reader = Reader(server.port, served.reader.cookie)
    while not stop.is_set():
        reader.get(_address("xlsx"), stop)


def _address(ending: str) -> str:
    return f"/results/export.{ending}?period=all"
