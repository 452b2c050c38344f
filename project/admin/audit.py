"""Pages for auditors and administrators: the audit log, and its download."""

import csv
import io
from collections.abc import Iterable, Iterator
from uuid import UUID

from flask import Response, request
from flask.typing import ResponseReturnValue

from project.admin.routes import PAGE_SIZE, bp, page_cursor, render_list
from project.domain.audit import Action, ActorKind, Entry, NewEntry
from project.domain.errors import RefusalError
from project.domain.text import clean
from project.exporters.formulas import escape_formula
from project.http import rate_limits
from project.http.query_parameters import page_parameters
from project.http.request_state import request_state
from project.http.translations import gettext, ngettext
from project.presentation.formats import format_number
from project.presentation.selection import EXAMPLE_VALUES
from project.runtime import get_runtime
from project.services import audit as service

CSV_COLUMNS = ("id", "at", "actor_kind", "actor_id", "actor", "action", "target_id", "target", "details")


@bp.get("/audit/")
@page_parameters("about", "before")
def audit() -> ResponseReturnValue:
    """List the entries of the audit log, newest first, optionally about one user or key."""
    about = _target_id()
    rows = service.find_entries(get_runtime().read_database.primary, PAGE_SIZE + 1, page_cursor(), about)
    filters = {"about": str(about)} if about else {}
    return render_list("admin/audit.html", rows, filters=filters, action_label=action_label, actor_label=actor_label)


@bp.get("/audit/export.csv")
@page_parameters("about")
def audit_export() -> Response:
    """Stream the entries of the audit log as CSV, optionally about one user or key.

    Queues an entry about the download, which upkeep writes. Raises RateLimitedError, and RefusalError for an invalid
    ID.
    """
    rate_limits.consume_for_reader(rate_limits.EXPORT_LIMIT)
    about, runtime = _valid_target_id(), get_runtime()
    database = runtime.read_database.primary
    # Queried before the response starts, so that a failure becomes an error response
    first = service.find_entries(database, service.BLOCK_ENTRIES, None, about)
    details = {"format": "csv", "file": "audit_log"}
    runtime.activity.add(NewEntry.by_user(Action.DOWNLOADED, request_state().account.id, details=details))
    headers = {"Content-Disposition": 'attachment; filename="useradd_audit_log.csv"'}
    blocks = service.iter_entries(database, about) if first else iter(())
    return Response(_csv_parts(blocks), content_type="text/csv; charset=utf-8", headers=headers)


def action_label(entry: Entry) -> str:
    """Return the translated name of the action of an audit log entry, followed by its details."""
    labels = {
        Action.USER_BLOCKED: gettext("User blocked"),
        Action.USER_UNBLOCKED: gettext("User unblocked"),
        Action.ROLE_GRANTED: gettext("Role granted"),
        Action.ROLE_REVOKED: gettext("Role revoked"),
        Action.PASSWORD_RESET: gettext("New password issued"),
        Action.ADMINISTRATOR_CREATED: gettext("Administrator created"),
        Action.KEY_CREATED: gettext("API key created"),
        Action.KEY_REVOKED: gettext("API key revoked"),
        Action.DOWNLOADED: gettext("File downloaded"),
        Action.IMPORTED: gettext("Users imported"),
    }
    details = ", ".join(_detail_label(name, value) for name, value in entry.details.items())
    return f"{labels[entry.action]}: {details}" if details else labels[entry.action]


def _detail_label(name: str, value: str | int) -> str:
    match name, value:
        case "role", "auditor":
            return gettext("Auditor")
        case "role", "administrator":
            return gettext("Administrator")
        case "file", "passwords":
            return gettext("Passwords")
        case "file", "audit_log":
            return gettext("Audit log")
        case "rows", int(rows):
            return ngettext("%(shown)s row", "%(shown)s rows", rows, shown=format_number(rows))
        case "created", int(users):
            return ngettext("%(shown)s user created", "%(shown)s users created", users, shown=format_number(users))
        case _:
            return str(value)


def actor_label(entry: Entry) -> str:
    """Return the actor of an entry as text: a login, an API key or `Command line`.

    If the login is unknown, returns the ID of the user.
    """
    match entry.actor_kind:
        case ActorKind.COMMAND:
            return gettext("Command line")
        case ActorKind.API_KEY:
            return gettext("API key “%(name)s”", name=entry.actor or "")
        case _:
            return entry.actor or str(entry.actor_id)


def _target_id() -> UUID | None:
    """Return `?about=`, the ID of a user or key; None if it is absent or invalid."""
    return request.args.get("about", type=UUID)


def _valid_target_id() -> UUID | None:
    """Return `?about=`, or None if it is absent. Raises RefusalError if it is invalid."""
    target_id, text = _target_id(), request.args.get("about", "").strip()
    if target_id is None and text:
        example = EXAMPLE_VALUES["before"]
        raise RefusalError("unknown_parameter", "value", name="about", value=clean(text, 60), example=example)
    return target_id


def _csv_parts(blocks: Iterable[list[Entry]]) -> Iterator[str]:
    """Yield the CSV file in parts.

    An apostrophe precedes values that spreadsheet programs would execute as formulas.
    """
    yield ",".join(CSV_COLUMNS) + "\r\n"
    for block in blocks:
        part = io.StringIO()
        csv.writer(part).writerows([_cell(entry, column) for column in CSV_COLUMNS] for entry in block)
        yield part.getvalue()


def _cell(entry: Entry, column: str) -> str:
    value = getattr(entry, column)
    if column == "at":
        return str(value.isoformat())
    if column == "details":
        value = "; ".join(f"{name}={text}" for name, text in value.items())
    return "" if value is None else escape_formula(str(value), is_phone=False)
