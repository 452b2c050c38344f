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
from typing import NamedTuple

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
            partial(measure_postgres, run, Quantity.TWO_INSERTS_IMPORT, two_inserts),
            *(partial(_measure_import, run, url, suffix) for suffix in FORMATS),
            lambda: run.measure_load(Quantity.BESIDE_NO_IMPORT, server, useradd_request()),
            measure_beside,
        )


def _measure_import(run: Run, url: str, suffix: str) -> None:
    running, began = _start(run, url, suffix), time.perf_counter()
    used = _wait(running)
    run.record(FORMATS[suffix].quantity, ROWS / (time.perf_counter() - began))
    run.record(Quantity.IMPORT_CPU, 1e6 * (used.ru_utime + used.ru_stime) / ROWS)
    run.record(Quantity.IMPORT_MEMORY, used.ru_maxrss / KILOBYTES_PER_MEGABYTE)


def _start(run: Run, url: str, suffix: str) -> "subprocess.Popen[bytes]":
    """Start an import of new users."""
    path = run.databases.home / f"people.{suffix}"
    FORMATS[suffix].write(path, run.new_bodies(ROWS))
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


def _write_ndjson(path: Path, bodies: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(bodies)


def _write_csv(path: Path, bodies: Iterable[bytes]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(_table(bodies))


def _write_xlsx(path: Path, bodies: Iterable[bytes]) -> None:
    with Workbook(path) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(_table(bodies)):
            sheet.write_row(number, 0, row)


def _table(bodies: Iterable[bytes]) -> Iterator[Iterable[str]]:
    """Yield the names of the fields, then the values of each body."""
    for number, person in enumerate(map(json.loads, bodies)):
        if not number:
            yield person.keys()
        yield person.values()


class Format(NamedTuple):
    """A file format: writes request bodies to a file, and names the quantity of its import."""

    write: Callable[[Path, Iterable[bytes]], None]
    quantity: Quantity


FORMATS = {
    "ndjson": Format(_write_ndjson, Quantity.IMPORT_NDJSON),
    "csv": Format(_write_csv, Quantity.IMPORT_CSV),
    "xlsx": Format(_write_xlsx, Quantity.IMPORT_XLSX),
}
