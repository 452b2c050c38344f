"""The commands `flask attempts ...`, which prune, mask and export attempts."""

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from flask.cli import AppGroup
from flask_babel import force_locale
from werkzeug.datastructures import MultiDict

from config import parse_time_zone
from project.cli.common import as_click_exceptions, with_suffix
from project.cli.help_texts import N_, help_text
from project.domain.attempts import Outcome
from project.exporters import STREAMS
from project.http.languages import LANGUAGES, display_zone
from project.http.translations import gettext
from project.presentation.formats import translations
from project.presentation.headings import file_heading
from project.presentation.selection import Selection, parse_selection_strictly
from project.runtime import get_runtime
from project.services import attempts, reports

SUFFIXES = tuple(f".{ending}" for ending in STREAMS)
group = AppGroup("attempts", help=N_("Prune, mask and export attempts."))


@group.command(
    "prune",
    help=help_text(
        N_("Delete attempts older than ATTEMPTS_KEEP_DAYS at once. Users stay."),
        examples=("flask attempts prune",),
    ),
)
def prune_attempts() -> None:
    """Delete attempts older than ATTEMPTS_KEEP_DAYS at once."""
    days = get_runtime().config.attempts_keep_days
    if not days:
        raise click.ClickException(gettext("ATTEMPTS_KEEP_DAYS is 0: attempts are kept forever"))
    with as_click_exceptions():
        pruned = attempts.prune_all(get_runtime().database, timedelta(days=days))
    click.echo(gettext("Attempts older than %(days)s days deleted: %(count)s", days=days, count=pruned))


@group.command(
    "mask",
    help=help_text(
        N_("Mask contacts of all attempts again. After an upgrade the service does so in the background."),
        examples=("flask attempts mask",),
    ),
)
def mask_attempts() -> None:
    """Mask contacts of all attempts by the current rules."""
    runtime = get_runtime()
    with as_click_exceptions():
        masked = sum(attempts.mask_all(runtime.database, runtime.config.phone_region))
    click.echo(gettext("Attempts checked: %(count)s", count=masked))


def _parse_zone(context: click.Context, parameter: click.Parameter, value: str | None) -> ZoneInfo:
    if value is None:
        return display_zone()
    try:
        return parse_time_zone(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@group.command(
    "export",
    help=help_text(
        N_("Write attempts to FILE (.txt, .csv or .xlsx) like the results page with the same filter."),
        N_("FILE is replaced once the export is complete."),
        examples=(
            "flask attempts export all.csv",
            "flask attempts export refused.xlsx --from 2026-11-17 --to 2026-11-23 --result rejected --lang en",
        ),
    ),
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), callback=with_suffix(*SUFFIXES))
@click.option(
    "--from", "since", help=N_("First day or time, 2026-11-17 or 2026-11-17T09:30; default: the first attempt.")
)
@click.option("--to", "until", help=N_("Last day or time; default: now."))
@click.option(
    "--result", multiple=True, type=click.Choice(list(map(str, Outcome))), help=N_("Outcome; may be repeated.")
)
@click.option("--code", multiple=True, help=N_("Code, for example username_taken; may be repeated."))
@click.option("--status", multiple=True, help=N_("HTTP status, for example 422; may be repeated."))
@click.option("--q", "text", help=N_("Part of a login, name or contact, or a request ID."))
@click.option("--tz", "zone", callback=_parse_zone, help=N_("Time zone; default: DISPLAY_TIMEZONE."))
@click.option("--lang", type=click.Choice(list(LANGUAGES)), help=N_("Language; default: DEFAULT_LANGUAGE."))
def export(
    file: Path,
    since: str | None,
    until: str | None,
    result: tuple[str, ...],
    code: tuple[str, ...],
    status: tuple[str, ...],
    text: str | None,
    zone: ZoneInfo,
    lang: str | None,
) -> None:
    """Write the selected attempts to a file, like a download from the results page."""
    args = MultiDict[str, str]({"result": result, "code": code, "status": status})
    args.update({name: value for name, value in (("from", since), ("to", until), ("q", text)) if value})
    with force_locale(lang or get_runtime().config.default_language), as_click_exceptions():
        now = datetime.now(UTC)
        rows = _write_file(file, parse_selection_strictly(args, zone, now, default="all", unmasked=True), now)
    click.echo(gettext("Attempts written to %(file)s: %(count)s", file=file, count=rows))


def _write_file(file: Path, selection: Selection, now: datetime) -> int:
    """Write an export to a file atomically; return the number of rows. Raises click.FileError."""
    database = get_runtime().read_database
    report = reports.add_export_counts(database, reports.open_export(database, selection.filter, selection.zone, now))
    read_lines = partial(reports.iter_blocks, database, report)
    heading = file_heading(selection, report, "flask attempts export", now)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with draft.open("wb") as output:
            output.writelines(STREAMS[file.suffix.lower()[1:]](lambda: report, read_lines, heading, translations()))
        draft.replace(file)
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None
    finally:
        draft.unlink(missing_ok=True)
    return report.total
