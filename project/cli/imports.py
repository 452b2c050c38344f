"""The command `flask users import`, which creates users from a file."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import click

from project.cli.common import new_attempt, with_suffix
from project.cli.greeting import terminal_language
from project.cli.help_texts import N_, help_text
from project.cli.import_files import CredentialsFile, open_credentials, open_refused
from project.contract.import_rows import ImportLine, check_row, register_rows
from project.contract.import_texts import file_text, refused_cells, refused_headers
from project.domain.audit import Action, NewEntry
from project.domain.errors import (
    FIELDS,
    DatabaseUnavailableError,
    OutcomeUnknownError,
    OverloadedError,
    RefusalError,
)
from project.domain.registration import Credentials
from project.exporters.tables import WriteRow
from project.http.translations import gettext, ngettext
from project.importers import Columns, FileError, Row, Source, open_source
from project.queries.maintenance import ping
from project.runtime import get_runtime
from project.services import audit
from project.services.registration import MAX_GROUP_SIZE

MAX_WAIT_S, PAUSES_S = 600, (1, 2, 4, 8, 15)
"""Maximum time to wait for PostgreSQL, and pauses between tries, both in seconds. The last pause is repeated."""


class _ImportFailedError(click.ClickException):
    """The file or its remaining rows cannot be imported, and a retry is pointless."""

    exit_code = 2


def _column_names(values: tuple[str, ...]) -> dict[str, str]:
    """Parse options such as `Тел.=phone`; return header -> field. Raises BadParameter."""
    pairs = [value.rpartition("=") for value in values]
    for name, _, column in pairs:
        if not name or column not in FIELDS:
            fields = ", ".join(FIELDS)
            text = gettext("Write “column=field”; the fields are %(fields)s.", fields=fields)
            raise click.BadParameter(text, param_hint="--map")
    return {name: column for name, _, column in pairs}


@click.command(
    "import",
    help=help_text(
        N_("Create users from FILE (.csv, .xlsx or .ndjson). Each row is checked like a request to POST /useradd."),
        N_(
            "The first row of a CSV file or workbook names the columns: name or имя, username or логин, phone or "
            "телефон, email or почта, birth_date or дата рождения, or a synonym. A title may stand above it. CSV "
            "is separated by commas, semicolons or tabs. Of a workbook, the first visible sheet is read. Each "
            "line of NDJSON is a request body."
        ),
        N_(
            "Repeat the command after an interruption, or after you have corrected refused rows in FILE or in the"
            " file of --errors. For 24 hours a row that has created a user returns the same user and password "
            "again, wherever it stands. Identical rows are one user."
        ),
        N_("The command waits up to ten minutes while PostgreSQL is unavailable."),
        N_(
            "Exit status: 0 all users exist; 1 rows were refused or PostgreSQL stayed unavailable; 2 FILE is "
            "unusable or damaged."
        ),
        examples=(
            "flask users import people.csv --errors refused.csv --dry-run",
            "flask users import people.csv --errors refused.csv --credentials passwords.csv",
            'flask users import people.xlsx --errors refused.xlsx --credentials passwords.csv --map "Тел.=phone"',
        ),
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--errors",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=with_suffix(".csv", ".xlsx"),
    help=N_("File for refused rows as they stand, with a column “What to fix”: .csv or .xlsx. Overwritten."),
)
@click.option(
    "--credentials",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=lambda context, parameter, value: value and with_suffix(".csv")(context, parameter, value),
    help=N_("CSV file for logins and passwords, readable only by you. New ones are appended."),
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help=N_("Check the rows, create nobody."))
@click.option("--map", "names", multiple=True, help=N_("Field of a column, for example “Тел.=phone”; may be repeated."))
@click.option("--ignore-unknown", is_flag=True, help=N_("Ignore columns with unknown names."))
@click.option(
    "--excel",
    "is_for_excel",
    is_flag=True,
    help=N_("Write CSV with semicolons, which Excel needs where the decimal separator is a comma."),
)
def import_users(
    file: Path,
    errors: Path,
    credentials: Path | None,
    names: tuple[str, ...],
    *,
    is_dry_run: bool,
    ignore_unknown: bool,
    is_for_excel: bool,
) -> None:
    """Create users from a file of rows; write credentials and refused rows to other files."""
    _check_paths(file, errors, credentials, is_dry_run=is_dry_run)
    columns = Columns(_column_names(names), ignore_unknown)
    is_for_excel = is_for_excel or terminal_language() == "ru"
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(file.open("rb"))
            source = stack.enter_context(open_source(opened, file.name, columns))
        except FileError as error:
            raise _ImportFailedError(file_text(error)) from None
        except OSError as error:
            raise _ImportFailedError(file_text(FileError("unreadable", cause=error.strerror or ""))) from None
        for note in source.notes:
            click.echo(file_text(note), err=True)
        issued = None
        try:
            if credentials and not is_dry_run:
                issued = stack.enter_context(open_credentials(credentials, is_for_excel=is_for_excel))
            write_refused = stack.enter_context(open_refused(errors, is_for_excel=is_for_excel))
        except OSError as error:
            raise click.FileError(str(error.filename), error.strerror) from None
        file_import = _Import(source, issued, write_refused, is_dry_run=is_dry_run)
        try:
            file_import.run()
        finally:
            if not is_dry_run:
                _record_in_audit_log(file.name, file_import.counts)
    if file_import.counts["refused"]:
        text = gettext("Refused rows are in %(file)s. Correct them there and import that file.", file=str(errors))
        click.echo(text)
        raise click.exceptions.Exit(1)


def _record_in_audit_log(name: str, counts: Counter[str]) -> None:
    details: dict[str, str | int] = {"name": name, "created": counts["created"]}
    with suppress(DatabaseUnavailableError, OutcomeUnknownError, OverloadedError):
        audit.record_entry(get_runtime().database, NewEntry.by_user(Action.IMPORTED, None, details=details))


def _check_paths(file: Path, errors: Path, credentials: Path | None, *, is_dry_run: bool) -> None:
    if credentials is None and not is_dry_run:
        raise click.UsageError(gettext("Name a file for the credentials: --credentials FILE, or check with --dry-run."))
    paths = [path for path in (file, errors, credentials) if path]
    if len({path.resolve() for path in paths}) < len(paths):
        raise click.UsageError(gettext("FILE, --errors and --credentials must be different files."))


@dataclass(slots=True)
class _Import:
    """An import that a command has started."""

    source: Source
    issued: CredentialsFile | None
    """The file to which credentials are appended; None in a dry run."""
    write_refused: WriteRow
    is_dry_run: bool = field(kw_only=True)
    counts: Counter[str] = field(default_factory=Counter)
    """Number of rows by outcome: created, existing, refused, correct (dry run), undone (not processed yet).
    Each row that was read is counted once."""
    last_row: int = 0
    """Number of the last row that was processed."""

    def run(self) -> None:
        """Import the rows; print the counts, also after an error. Raises ClickException."""
        self.write_refused(refused_headers(self.source))
        try:
            self._run_groups()
        except FileError as error:
            done = self.counts["created"] + self.counts["existing"] + self.counts["correct"]
            until = gettext("%(done)s imported until row %(row)s.", done=done, row=self.last_row)
            raise _ImportFailedError(f"{file_text(error)} {until}") from None
        finally:
            click.echo(self.summary())
        if not self.counts.total():
            raise _ImportFailedError(file_text(FileError("no_rows")))

    def _run_groups(self) -> None:
        position = 0
        bar: Any = click.progressbar(  # width 0 fits the terminal; otherwise each update would start a new line
            length=self.source.length, label=gettext("Importing"), item_show_func=lambda _: self.summary(), width=0
        )
        with bar:
            for rows in _group_rows(self.source.rows):
                self.counts["undone"] += len(rows)
                self._check(rows) if self.is_dry_run else self._create(rows)
                self.counts["undone"] -= len(rows)
                self.last_row = rows[-1].number
                bar.update(rows[-1].position - position, rows)
                position = rows[-1].position
            bar.update(self.source.length - position)  # blank lines at the end are not rows
            bar.render_progress()

    def _check(self, rows: Sequence[Row]) -> None:
        for row in rows:
            checked = check_row(row, get_runtime().config.phone_region)
            self._count(row, checked if isinstance(checked, RefusalError) else "correct")

    def _create(self, rows: Sequence[Row]) -> None:
        """Create the users of rows; wait while PostgreSQL is unavailable. Raises ClickException."""
        runtime, until = get_runtime(), time.monotonic() + MAX_WAIT_S
        lines = [ImportLine(row, new_attempt("flask users import")) for row in rows]
        key = runtime.passwords.derive_import_key()
        while pending := [line for line in lines if line.result is None]:
            register_rows(runtime, key, pending)
            if any(line.result is None for line in pending):
                _wait_for_database(until)
        if self.issued:
            self.issued.append([line.result for line in lines if isinstance(line.result, Credentials)])
        for line in lines:
            match line.result:
                case Credentials(replayed=is_replayed):
                    self._count(line.row, "existing" if is_replayed else "created")
                case RefusalError(code="credentials_changed"):  # the user exists and has changed the password
                    self._count(line.row, "existing")
                case RefusalError() as refusal:
                    self._count(line.row, refusal)

    def _count(self, row: Row, outcome: str | RefusalError) -> None:
        """Count a row; if it is refused, write it to the file of refused rows."""
        if isinstance(outcome, str):
            self.counts[outcome] += 1
            return
        self.counts["refused"] += 1
        self.write_refused(refused_cells(self.source, row, outcome))

    def summary(self) -> str:
        """Return a text with the counts, which add up to the number of rows read."""
        texts = {
            "correct": gettext("%(number)s correct", number=self.counts["correct"]),
            "created": gettext("%(number)s created", number=self.counts["created"]),
            "existing": gettext("%(number)s existing", number=self.counts["existing"]),
            "refused": gettext("%(number)s refused", number=self.counts["refused"]),
            "undone": gettext("%(number)s not imported", number=self.counts["undone"]),
        }
        shown = ("correct", "refused") if self.is_dry_run else ("created", "existing", "refused")
        read = ngettext("%(num)s row", "%(num)s rows", self.counts.total())
        return f"{read}: " + ", ".join(texts[name] for name in texts if name in shown or self.counts[name])


def _group_rows(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Yield rows in groups; if the file is damaged, raise FileError after the last valid group."""
    group: list[Row] = []
    try:
        for row in rows:
            group.append(row)
            if len(group) == MAX_GROUP_SIZE:
                yield group
                group = []
    except FileError:
        if group:
            yield group
        raise
    if group:
        yield group


def _wait_for_database(until: float) -> None:
    """Wait for PostgreSQL. Raises ClickException if it is still unavailable at `until`.

    `until` is a time by time.monotonic().
    """
    text = gettext("PostgreSQL does not answer; waiting (Ctrl-C stops, the same command continues later)")
    click.echo(f"\n{text}", err=True)
    pauses, cause = chain(PAUSES_S, repeat(PAUSES_S[-1])), ""
    while time.monotonic() < until:
        time.sleep(next(pauses))
        try:
            get_runtime().database.run_once(ping)
        except DatabaseUnavailableError as error:
            cause = f": {error.cause}" if error.cause else ""
        else:
            return
    text = gettext("PostgreSQL is still unavailable%(cause)s. Run the same command again to continue.", cause=cause)
    raise click.ClickException(text)
