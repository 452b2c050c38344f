"""The command `flask users import`, which creates users from a file."""

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, TextIO

import click

from project.cli.common import new_attempt, refusal_text, with_suffix
from project.cli.import_files import SUFFIXES, FileError, Row, Source, open_source
from project.contract.error_codes import PROBLEMS, message_text
from project.contract.schemas import user_add_schema
from project.domain.attempts import NewAttempt
from project.domain.errors import DatabaseUnavailableError, OutcomeUnknownError, OverloadedError, RefusalError
from project.domain.registration import Credentials, NewUser
from project.queries.maintenance import ping
from project.runtime import get_runtime
from project.services import attempts, registration

WAIT_S, PAUSES_S = 600, (1, 2, 4, 8, 15)
"""Seconds to wait for PostgreSQL, and pauses between probes; the last pause is repeated."""
REPORT = ("line", "field", "code", "message")
CREDENTIALS = ("line", "login", "password")
_UNAVAILABLE = (DatabaseUnavailableError, OutcomeUnknownError, OverloadedError)

Write = Callable[[tuple[int | str, ...]], None]


class _UnusableError(click.ClickException):
    """Nothing was imported, and a retry is pointless."""

    exit_code = 2


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path), callback=with_suffix(*SUFFIXES))
@click.option(
    "--errors",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=with_suffix(".csv", ".ndjson"),
    help="Report of refused rows, .csv or .ndjson: line, field, code, message. Overwritten.",
)
@click.option(
    "--credentials",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file for line, login and password of the users, readable only by you. Appended to.",
)
def import_users(file: Path, errors: Path, credentials: Path) -> None:
    """Create users from FILE (.ndjson, .csv or .xlsx), each row like POST /useradd.

    Each line of NDJSON is a request body. The first line of CSV (UTF-8; comma, semicolon or tab) and of the first
    sheet of a workbook names the columns: name or имя, username or логин, phone or телефон, email or почта,
    birth_date or дата рождения.

    If the import was interrupted or rows were refused, correct these rows in place and run the same command again.
    Each row has an idempotency key derived from its number, its content and PASSWORD_SECRET: for 24 hours a row that
    has created a user returns the same user and password again.

    The command waits up to ten minutes while PostgreSQL is unavailable.

    Exit status: 0 all users exist, 1 rows were refused or PostgreSQL stayed unavailable, 2 the file is unusable.

    \b
    Examples:
      flask users import people.csv --errors refused.csv --credentials passwords.csv
      flask users import people.xlsx --errors refused.ndjson --credentials passwords.csv
    """
    if len({path.resolve() for path in (file, errors, credentials)}) < 3:
        raise click.UsageError("FILE, --errors and --credentials must be three different files.")
    try:
        with (
            open_source(file) as source,
            _table(credentials, CREDENTIALS, private=True) as issued,
            _table(errors, REPORT) as refused,
        ):
            counts = _import(source, issued, refused)
    except FileError as error:
        raise _UnusableError(str(error)) from None
    if not counts.total():
        raise _UnusableError(f"{file} has no lines")
    click.echo(_summary(counts))
    if counts["refused"]:
        click.echo(f"Refused rows are listed in {errors}")
        raise click.exceptions.Exit(1)


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("created", "replayed", "refused"))


@contextmanager
def _table(path: Path, columns: tuple[str, ...], *, private: bool = False) -> Iterator[Write]:
    """Open a CSV or NDJSON file for output and yield a function that writes a row.

    A private file is always CSV, readable by its owner only, and appended to. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if private else os.O_TRUNC)
    with os.fdopen(os.open(path, flags, 0o600 if private else 0o666), "w", encoding="utf-8", newline="") as file:
        if private:
            os.fchmod(file.fileno(), 0o600)
        yield _ndjson(file, columns) if path.suffix.lower() == ".ndjson" and not private else _csv(file, columns)


def _ndjson(file: TextIO, columns: tuple[str, ...]) -> Write:
    def write(values: tuple[int | str, ...]) -> None:
        file.write(json.dumps(dict(zip(columns, values, strict=True)), ensure_ascii=False) + "\n")
        file.flush()

    return write


def _csv(file: TextIO, columns: tuple[str, ...]) -> Write:
    """Return a function that writes and flushes a row: an interrupted import loses no row."""
    writer = csv.writer(file, lineterminator="\n")

    def write(values: tuple[int | str, ...]) -> None:
        writer.writerow(values)
        file.flush()

    if not os.fstat(file.fileno()).st_size:
        write(columns)
    return write


def _import(source: Source, issued: Write, refused: Write) -> Counter[str]:
    counts: Counter[str] = Counter()
    read = 0
    bar: Any = click.progressbar(  # width 0 fits the terminal; otherwise each update would start a new line
        length=source.length, label="Importing", item_show_func=lambda _: _summary(counts), width=0
    )
    with bar:
        for row in source.rows:
            counts[_import_row(row, issued, refused)] += 1
            bar.update(row.read - read, row)
            read = row.read
        bar.render_progress()  # files are read in blocks, and the last one is not shown yet
    return counts


def _import_row(row: Row, issued: Write, refused: Write) -> str:
    """Create the user of a row; if refused, record and report that. Return the outcome."""
    runtime = get_runtime()
    key = runtime.passwords.line_key(row.number, json.dumps(row.body, sort_keys=True).encode())
    attempt = new_attempt("flask users import", None if row.refusal else key)
    attempt.store_body(row.body, runtime.config.phone_region)
    try:
        if row.refusal:
            raise row.refusal
        credentials = _register(attempt, key, user_add_schema(runtime.config.phone_region).load(row.body))
    except RefusalError as error:
        if error.code == "credentials_changed":  # the user exists and has changed the password
            return "replayed"
        if not error.recorded:
            status, code = PROBLEMS[error.code].status, error.reason
            attempts.record(runtime.database, runtime.spool, attempt, status=status, code=code, errors=error.errors)
        for values in _report(row.number, error):
            refused(values)
        return "refused"
    issued((row.number, credentials.login, credentials.password))
    return "replayed" if credentials.replayed else "created"


def _register(attempt: NewAttempt, key: str, new_user: NewUser) -> Credentials:
    """Register a user; retry with the same key and attempt while PostgreSQL is unavailable."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            return registration.register(get_runtime().database, get_runtime().passwords, attempt, key, new_user)
        except _UNAVAILABLE:
            _wait_for_database(until)


def _wait_for_database(until: float) -> None:
    """Wait for PostgreSQL. Raises ClickException if it is still unavailable at `until`."""
    click.echo("\nPostgreSQL does not answer; waiting (Ctrl-C stops, the same command continues later)", err=True)
    pauses, cause = chain(PAUSES_S, repeat(PAUSES_S[-1])), ""
    while time.monotonic() < until:
        time.sleep(next(pauses))
        try:
            get_runtime().database.run_once(ping)
        except DatabaseUnavailableError as error:
            cause = f": {error.cause}" if error.cause else ""
        else:
            return
    raise click.ClickException(f"PostgreSQL is still unavailable{cause}. Run the same command again to continue.")


def _report(number: int, error: RefusalError) -> Iterator[tuple[int | str, ...]]:
    if not error.errors:
        yield number, "", error.code, refusal_text(error)
    for one in error.errors:
        yield number, one.field, one.code, message_text(one)
