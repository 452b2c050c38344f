"""Cost of `flask users import` by file format: `.venv/bin/python -m bench.importing`."""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from resource import struct_rusage

from xlsxwriter import Workbook

from bench.report import table
from bench.servers import ROOT, Databases

KILOBYTES = 1000
"""Kilobytes per megabyte: wait4() reports kilobytes, see getrusage(2)."""
COLUMNS = ("name", "username", "phone", "email", "birth_date")
Row = tuple[str, ...]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.importing", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="lines of each file (20_000)")
    rows = parser.parse_args().rows
    os.chdir(ROOT)
    databases = Databases()
    try:
        lines = [_measure(databases, ending, write, rows) for ending, write in WRITERS.items()]
    finally:
        databases.close()
    head = (f"import of {rows:,} lines", "users/s", "repeated, users/s", "CPU, ms per user", "peak memory, MB")
    print(table(head, lines, left=1))


def _measure(databases: Databases, ending: str, write: Callable[[Path, Iterator[Row]], None], rows: int) -> Row:
    path = databases.home / f"people.{ending}"
    write(path, _people(rows))
    environment = databases.environment(databases.create(f"import_{ending}"))
    first, used = _import(path, environment)
    again, _ = _import(path, environment)
    core_ms = 1000 * (used.ru_utime + used.ru_stime) / rows
    memory = used.ru_maxrss / KILOBYTES
    return f".{ending}", f"{rows / first:,.0f}", f"{rows / again:,.0f}", f"{core_ms:.2f}", f"{memory:.0f}"


def _import(path: Path, environment: dict[str, str]) -> tuple[float, struct_rusage]:
    """Return the seconds that the command took and its resource usage."""
    files = ["--errors", f"{path}.refused.csv", "--credentials", f"{path}.issued.csv"]
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "users", "import", str(path), *files]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return time.perf_counter() - began, used


def _people(rows: int) -> Iterator[Row]:
    for number in range(rows):
        yield (
            f"Иван Петров {number}",
            f"ivan.petrov.{number}",
            f"+79{number:09}",
            f"ivan.{number}@example.org",
            "31.12.1990",
        )


def _ndjson(path: Path, people: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(COLUMNS, one, strict=True)), ensure_ascii=False) + "\n" for one in people)


def _csv(path: Path, people: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *people])


def _xlsx(path: Path, people: Iterator[Row]) -> None:
    with Workbook(path) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate([COLUMNS, *people]):
            sheet.write_row(number, 0, row)


WRITERS = {"ndjson": _ndjson, "csv": _csv, "xlsx": _xlsx}

if __name__ == "__main__":
    main()
