"""`flask attempts ...`: looking after the log of attempts."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from flask.cli import AppGroup
from flask_babel import force_locale
from werkzeug.datastructures import MultiDict

from project.cli.common import refusals
from project.domain.attempts import Outcome
from project.exporters import STREAMS
from project.http.languages import LANGUAGES, display_zone
from project.presentation.formats import translations
from project.presentation.headings import heading
from project.presentation.selection import Selection, parse_selection_strictly
from project.runtime import get_runtime
from project.services import attempts, reports

group = AppGroup("attempts", help="Look after the log of attempts.")


@group.command("prune")
def prune_attempts() -> None:
    """Forget attempts older than ATTEMPTS_KEEP_DAYS now; a running service does the same, little by little.

    Users stay, and so do attempts that are younger.

    \b
    Example:
      flask attempts prune
    """
    days = get_runtime().config.attempts_keep_days
    if not days:
        raise click.ClickException("ATTEMPTS_KEEP_DAYS is 0: attempts are kept for ever")
    with refusals():
        pruned = attempts.forget_all(get_runtime().database, datetime.now(UTC) - timedelta(days=days))
    click.echo(f"{pruned} attempts older than {days} days forgotten")


def _zone(context: click.Context, parameter: click.Parameter, value: str | None) -> ZoneInfo:
    if value is None:
        return display_zone()
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise click.BadParameter("a zone of the IANA list is needed, for example Europe/Moscow") from None


def _file(context: click.Context, parameter: click.Parameter, value: Path) -> Path:
    if value.suffix.lower()[1:] not in STREAMS:
        raise click.BadParameter(f"its name has to end in .{' or .'.join(STREAMS)}")
    return value


@group.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), callback=_file)
@click.option(
    "--from", "since", help="First day or moment, 2026-11-17 or 2026-11-17T09:30; the first attempt when left out."
)
@click.option("--to", "until", help="Last day or moment; now when left out.")
@click.option(
    "--result",
    multiple=True,
    type=click.Choice([outcome.value for outcome in Outcome]),
    help="How the attempts ended; may be repeated.",
)
@click.option("--code", multiple=True, help="Reason, as username_taken; may be repeated.")
@click.option("--status", multiple=True, help="HTTP status, as 422; may be repeated.")
@click.option("--q", "text", help="Part of a login, a name or a contact, or a number of a request.")
@click.option("--tz", "zone", callback=_zone, help="Time zone; DISPLAY_TIMEZONE when left out.")
@click.option("--lang", type=click.Choice(list(LANGUAGES)), help="Language; DEFAULT_LANGUAGE when left out.")
def export(
    file: Path,
    since: str | None,
    until: str | None,
    result: Sequence[str],
    code: Sequence[str],
    status: Sequence[str],
    text: str | None,
    zone: ZoneInfo,
    lang: str | None,
) -> None:
    """Write attempts to FILE (.txt, .csv or .xlsx): the file that the results page offers under the same filter.

    The file appears when it is whole; one of that name is replaced.

    \b
    Examples:
      flask attempts export all.csv
      flask attempts export refused.xlsx --from 2026-11-17 --to 2026-11-23 --result rejected --lang en
    """
    asked = MultiDict[str, str](
        [(name, value) for name, value in (("from", since), ("to", until), ("q", text)) if value]
        + [
            (name, value)
            for name, values in (("result", result), ("code", code), ("status", status))
            for value in values
        ]
    )
    with force_locale(lang or get_runtime().config.default_language), refusals():
        now = datetime.now(UTC)
        rows = _write(file, parse_selection_strictly(asked, zone, now, default="all"), now)
    click.echo(f"{rows} attempts are in {file}")


def _write(file: Path, selection: Selection, now: datetime) -> int:
    """Write the file under another name first, so that nobody takes half of it for the whole; return its rows."""
    report = reports.count_export(
        get_runtime().read_database,
        reports.open_export(get_runtime().read_database, selection.filter, selection.zone, now),
    )
    lines = partial(reports.iter_blocks, get_runtime().read_database, report)
    top = heading(selection, report, "flask attempts export", now)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("wb") as output:
            output.writelines(STREAMS[file.suffix.lower()[1:]](lambda: report, lines, top, translations()))
        draft.replace(file)
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None
    finally:
        draft.unlink(missing_ok=True)
    return report.total
