"""The results page and the downloads, with few attempts and with many; creating users while somebody downloads."""

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

from psycopg2 import extensions

from bench.load import useradd
from bench.machine import peak_of
from bench.reader import Reader
from bench.references import postgres, workbook
from bench.references.postgres import connect
from bench.run import FEW, Run, say
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
"""What is asked for: each period, each filter and search."""
TIMES = 5
"""How often each is asked for in a round, which notes the median."""
MIDDLE = 1_000_000
WORKBOOK_ROWS = 100_000
LONG_ROUNDS = 3
"""Rounds of what takes many seconds each."""
FORMATS = {"txt": Quantity.TXT, "csv": Quantity.CSV, "xlsx": Quantity.XLSX}


@dataclass(frozen=True, slots=True)
class Table:
    """Attempts, one worker that serves them, and somebody who has logged in there."""

    url: str
    rows: int
    server: Server
    reader: Reader
    middle: str
    """Number of the attempt in the middle."""

    def page_ms(self, page: str) -> float:
        """Return how long a page takes; `{id}` in its address is the number of the attempt in the middle."""
        address = page.format(id=self.middle)
        return 1000 * statistics.median(self.reader.get(address).seconds for _ in range(TIMES))


def measure(run: Run) -> None:
    """Note pages and files of 10,000 attempts, of as many as were asked for, and of a million if those are more."""
    with ExitStack() as stack:
        sizes = (FEW, *([MIDDLE] if run.options.rows > MIDDLE else []), run.options.rows)
        tables = [stack.enter_context(recorded(run, rows)) for rows in sizes]
        few, most = tables[0], tables[-1]
        run.take_turns("pages", *(partial(_note_page, run, page, tables) for page in PAGES))
        for quantity, table in {Quantity.PAGE_FEW: few, Quantity.PAGE_MOST: most}.items():
            run.notes.values[quantity] += run.notes.pages_ms[PAGE][table.rows]
        run.take_turns(
            "exporting",
            lambda: run.note(Quantity.COPY, most.rows / postgres.copy_s(most.url)),
            lambda: _note_exports(run, most),
            lambda: _note_memory(run, few),
            lambda: _note_workbook(run, most),
            rounds=min(LONG_ROUNDS, run.options.rounds),
        )
        _measure_beside(run, most)


@contextmanager
def recorded(run: Run, rows: int) -> Iterator[Table]:
    """Give so many attempts, counted beforehand and served, while the block runs."""
    say(f"recording {rows:,} attempts")
    url = run.databases.create(f"attempts_{rows}")
    with closing(connect(url)) as connection:
        postgres.fill(connection, rows)
        middle = postgres.middle(connection, rows)
    with run.serve("wsgi", url, WORKERS="1") as server:
        table = Table(url, rows, server, Reader(server.port), middle)
        with closing(connect(url)) as connection:
            _await_counts(connection)
        if (total := table.reader.total()) != rows + 1:
            raise RuntimeError(f"the statistics count {total:,} of {rows + 1:,}")
        yield table


def _note_page(run: Run, page: str, tables: list[Table]) -> None:
    for table in tables:
        run.notes.pages_ms[page][table.rows].append(table.page_ms(page))


def _await_counts(connection: extensions.connection) -> None:
    """Wait until the attempts are counted beforehand, as they are on a service that has been running."""
    with connection.cursor() as cursor:
        ahead = AGGREGATION_MINIMUM
        while ahead >= AGGREGATION_MINIMUM:
            time.sleep(0.1)
            cursor.execute("select (select max(seq) from attempts) - (select min(seq) from watermarks)")
            ahead = cursor.fetchall()[0][0]


def _note_exports(run: Run, table: Table) -> None:
    firsts = []
    with peak_of(table.server.workers()[0]) as peak:
        for ending, quantity in FORMATS.items():
            answer = table.reader.get(_address(ending))
            run.note(quantity, table.rows / answer.seconds)
            firsts.append(1000 * answer.first_byte_s)
    run.note(Quantity.FIRST_BYTE, max(firsts))
    run.note(Quantity.MEMORY_MOST, peak.mb)


def _note_memory(run: Run, table: Table) -> None:
    with peak_of(table.server.workers()[0]) as peak:
        for ending in FORMATS:
            table.reader.get(_address(ending))
    run.note(Quantity.MEMORY_FEW, peak.mb)


def _note_workbook(run: Run, table: Table) -> None:
    rows = min(table.rows, WORKBOOK_ROWS)
    run.note(Quantity.XLSXWRITER, rows / workbook.write_s(table.url, rows))


def _measure_beside(run: Run, table: Table) -> None:
    """Note users created a second by all workers, alone and while one more client downloads workbooks."""
    with run.serve("wsgi", table.url) as server, ThreadPoolExecutor(1) as pool:

        def beside() -> None:
            over = threading.Event()
            downloads = pool.submit(_download, table, server, over)
            run.load(Quantity.BESIDE_EXPORT, server, useradd())
            over.set()
            downloads.result()

        run.take_turns(
            "creating users beside an export",
            lambda: run.load(Quantity.BESIDE_NOTHING, server, useradd()),
            beside,
        )


def _download(table: Table, server: Server, over: threading.Event) -> None:
    reader = Reader(server.port, table.reader.cookie)
    while not over.is_set():
        reader.get(_address("xlsx"), over)


def _address(ending: str) -> str:
    return f"/results/export.{ending}?period=all"
