"""`flask users import`: many users from one file, each line an attempt like a POST /useradd."""

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from project.cli.common import new_attempt, reason
from project.cli.import_files import ENDINGS, FileError, Row, Source, open_source
from project.contract.error_codes import PROBLEMS, message_text
from project.contract.schemas import user_add_schema
from project.domain.attempts import NewAttempt
from project.domain.errors import (
    DatabaseUnavailableError,
    FieldError,
    OutcomeUnknownError,
    OverloadedError,
    RefusalError,
)
from project.domain.registration import Credentials, NewUser
from project.queries.maintenance import ping
from project.runtime import get_runtime
from project.services import attempts, registration

PATIENCE_S, PAUSES_S = 600, (1, 2, 4, 8, 15)
"""How long PostgreSQL is waited for, and how often it is asked meanwhile; the last pause is repeated."""
REPORT = ("line", "field", "code", "message")
CREDENTIALS = ("line", "login", "password")
_AWAY = (DatabaseUnavailableError, OutcomeUnknownError, OverloadedError)

Write = Callable[[tuple[int | str, ...]], None]


class _UnusableError(click.ClickException):
    """Nothing of the file was imported, and nothing would be by trying again."""

    exit_code = 2


def _ending(*allowed: str) -> Callable[[click.Context, click.Parameter, Path], Path]:
    def check(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
        if value.suffix.lower() not in allowed:
            raise click.BadParameter(f"its name has to end in {' or '.join(allowed)}")
        return value

    return check


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path), callback=_ending(*ENDINGS))
@click.option(
    "--errors",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_ending(".csv", ".ndjson"),
    help="File for what is refused, .csv or .ndjson: line, field, code, message. Made anew.",
)
@click.option(
    "--credentials",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="CSV file for line, login and password of the users, readable by you alone. Lines are added to it.",
)
def import_users(file: Path, errors: Path, credentials: Path) -> None:
    """Create users from FILE (.ndjson, .csv or .xlsx), each line as POST /useradd would.

    NDJSON has the body of a request in each line. CSV (UTF-8; comma, semicolon or tab) and the first sheet of a
    workbook have the names of the columns in their first line: name or имя, username or логин, phone or телефон,
    email or почта, birth_date or дата рождения.

    Interrupted, or some lines refused? Correct these where they stand and run the same command again. Every line has
    an idempotency key made of its place, its content and PASSWORD_SECRET: a line that has created its user finds it
    again, with the same password, instead of creating or clashing, as long as keys are kept (24 hours).

    While PostgreSQL is away the command waits for it, up to ten minutes.

    Exit status: 0 all users are there, 1 some lines were refused or PostgreSQL stayed away, 2 the file is unusable.

    \b
    Examples:
      flask users import people.csv --errors refused.csv --credentials passwords.csv
      flask users import people.xlsx --errors refused.ndjson --credentials passwords.csv
    """
    _keep_apart(file, errors, credentials)
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
    click.echo(_told(counts))
    if counts["refused"]:
        click.echo(f"Why lines were refused is in {errors}")
        raise click.exceptions.Exit(1)


def _keep_apart(*paths: Path) -> None:
    if len({path.resolve() for path in paths}) < len(paths):
        raise click.UsageError("FILE, --errors and --credentials have to be three different files.")


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[end]} {end}" for end in ("created", "replayed", "refused"))


@contextmanager
def _table(path: Path, columns: tuple[str, ...], *, private: bool = False) -> Iterator[Write]:
    """Open a file of rows: one with passwords only for its owner, and what it has already stays."""
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
    """A line is in the file before the next one is imported: whoever stops the command loses nothing."""
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
    bar: Any = click.progressbar(  # width 0: as wide as the terminal leaves room for, else every step is a new line
        length=source.length, label="Importing", item_show_func=lambda _: _told(counts), width=0
    )
    with bar:
        for row in source.rows:
            counts[_take(row, issued, refused)] += 1
            bar.update(row.read - read, row)
            read = row.read
        bar.render_progress()  # files are read in blocks: the lines of the last one were not shown yet
    return counts


def _take(row: Row, issued: Write, refused: Write) -> str:
    """Create the user of one row, or record and report why not; return how it ended."""
    runtime = get_runtime()
    key = runtime.passwords.line_key(row.number, json.dumps(row.body, sort_keys=True).encode())
    attempt = new_attempt("flask users import", None if row.refusal else key)
    attempt.store_body(row.body)
    try:
        if row.refusal:
            raise row.refusal
        credentials = _register(attempt, key, user_add_schema(runtime.config.phone_region).load(row.body))
    except RefusalError as error:
        if error.code == "credentials_changed":  # the user is there, and has a password of their own by now
            return "replayed"
        if not error.recorded:
            status = PROBLEMS[error.code].status
            attempts.record(
                runtime.database, runtime.spool, attempt, status=status, code=error.reason, errors=error.errors
            )
        for line in _report(row.number, error):
            refused(line)
        return "refused"
    issued((row.number, credentials.login, credentials.password))
    return "replayed" if credentials.replayed else "created"


def _register(attempt: NewAttempt, key: str, new_user: NewUser) -> Credentials:
    """Register, and wait for PostgreSQL when it is away: key and attempt stay the same, so nobody is created twice."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return registration.register(get_runtime().database, get_runtime().passwords, attempt, key, new_user)
        except _AWAY:
            _wait(until)


def _wait(until: float) -> None:
    """Come back when PostgreSQL does, or leave."""
    click.echo("\nPostgreSQL does not answer; waiting for it (Ctrl-C stops, the same command goes on later)", err=True)
    pauses = list(PAUSES_S)
    while time.monotonic() < until:
        time.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])
        try:
            get_runtime().database.run_once(ping)
        except DatabaseUnavailableError:
            continue
        return
    raise click.ClickException("PostgreSQL stayed away. Run the same command again: it goes on where it stopped.")


def _report(number: int, error: RefusalError) -> Iterator[tuple[int | str, ...]]:
    if not error.errors:
        yield number, "", error.code, reason(error)
    for one in error.errors:
        yield _line(number, one)


def _line(number: int, error: FieldError) -> tuple[Any, ...]:
    return number, error.field, error.code, message_text(error)
