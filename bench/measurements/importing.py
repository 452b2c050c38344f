"""Rate of `flask users import` by file format, and of created users beside an import."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from resource import struct_rusage

from xlsxwriter import Workbook

from bench.load import useradd_request
from bench.measurements.creating import measure_postgres
from bench.run import Run
from bench.servers import ROOT
from bench.targets import Quantity

ROWS = 20_000
"""Rows of each file: the start of the command takes less than a tenth of its time."""
KILOBYTES_PER_MEGABYTE = 1000
"""The system call wait4() reports kilobytes, see getrusage(2)."""
Person = dict[str, str]


def measure(run: Run) -> None:
    """Record the rates of imports, and of single requests with and without an import."""
    two_inserts, url = (run.databases.create(name) for name in ("two_inserts_import", "importing"))
    with run.serve("wsgi", url) as server:

        def measure_beside() -> None:
            running = _start(run, url, "csv")
            run.measure_load(Quantity.BESIDE_IMPORT, server, useradd_request())
            _wait(running)

        run.take_turns(
            "importing",
            partial(measure_postgres, run, two_inserts),
            *(partial(_measure_import, run, url, suffix) for suffix in WRITERS),
            lambda: run.measure_load(Quantity.BESIDE_NO_IMPORT, server, useradd_request()),
            measure_beside,
        )


def _measure_import(run: Run, url: str, suffix: str) -> None:
    running, began = _start(run, url, suffix), time.perf_counter()
    used = _wait(running)
    run.record(QUANTITIES[suffix], ROWS / (time.perf_counter() - began))
    run.record(Quantity.IMPORT_CORE, 1e6 * (used.ru_utime + used.ru_stime) / ROWS)
    run.record(Quantity.IMPORT_MEMORY, used.ru_maxrss / KILOBYTES_PER_MEGABYTE)


def _start(run: Run, url: str, suffix: str) -> "subprocess.Popen[bytes]":
    """Start an import of new users."""
    path = run.databases.home / f"people.{suffix}"
    WRITERS[suffix](path, map(json.loads, run.new_bodies(ROWS)))
    files = ["--errors", f"{path}.refused.csv", "--credentials", f"{path}.issued.csv"]
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "import", str(path), *files]
    return subprocess.Popen(command, cwd=ROOT, env=run.databases.environment(url), stdout=subprocess.DEVNULL)


def _wait(process: "subprocess.Popen[bytes]") -> struct_rusage:
    """Wait for the end of an import; return its resource usage. Raises RuntimeError."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"an import ended with {process.returncode}")
    return used


def _write_ndjson(path: Path, people: Iterable[Person]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(person, ensure_ascii=False) + "\n" for person in people)


def _write_csv(path: Path, people: Iterable[Person]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(_table(people))


def _write_xlsx(path: Path, people: Iterable[Person]) -> None:
    with Workbook(path) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(_table(people)):
            sheet.write_row(number, 0, row)


def _table(people: Iterable[Person]) -> Iterator[Iterable[str]]:
    """Yield the names of the columns, then the cells of each person."""
    for number, person in enumerate(people):
        if not number:
            yield person.keys()
        yield person.values()


WRITERS: dict[str, Callable[[Path, Iterable[Person]], None]] = {
    "ndjson": _write_ndjson,
    "csv": _write_csv,
    "xlsx": _write_xlsx,
}
QUANTITIES = {"ndjson": Quantity.IMPORT_NDJSON, "csv": Quantity.IMPORT_CSV, "xlsx": Quantity.IMPORT_XLSX}
