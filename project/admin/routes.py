"""The blueprint of the administration pages, its access control, and the state page."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import Blueprint, render_template, request

from project.domain.errors import RefusalError
from project.http import rate_limits
from project.http.guards import works_in_outage
from project.http.request_state import request_state
from project.runtime import get_runtime
from project.services.status import get_status

bp = Blueprint("admin", __name__, url_prefix="/admin")

PAGE_SIZE = 25
AUDITOR_ENDPOINTS = {"admin.audit", "admin.audit_export"}


@bp.before_request
def require_role() -> None:
    """Require an administrator, or an auditor for the audit log, and limit the rate of changes.

    Raises RefusalError or RateLimitedError.
    """
    state = request_state()
    if not (state.sees_everything if request.endpoint in AUDITOR_ENDPOINTS else state.is_administrator):
        raise RefusalError("forbidden")
    if request.method == "POST":
        rate_limits.consume_for_reader(rate_limits.ADMIN_CHANGE_LIMIT)


@bp.get("/")
@works_in_outage
def state() -> str:
    """Show the state of the databases, the spool and the workers."""
    runtime = get_runtime()
    status = get_status(runtime.database, runtime.read_database, runtime.spool, runtime.upkeep, runtime.metrics)
    return render_template("admin/state.html", state=status)


def page_cursor() -> UUID | None:
    """Return `?before=`, the ID of the last row of the previous page.

    None on the first page, or if the ID is invalid.
    """
    return request.args.get("before", type=UUID)


def list_parameters(*names: str) -> dict[str, Any]:
    """Return the non-empty query parameters among `names`, for a link back to the list."""
    return {name: request.args[name] for name in names if request.args.get(name)}


def render_list(template: str, rows: Sequence[object], **values: object) -> str:
    """Render a list: PAGE_SIZE rows, and a link to the next page if `rows` has more."""
    values = {"filters": {}, "is_too_broad": False} | values
    return render_template(template, rows=rows[:PAGE_SIZE], has_older=len(rows) > PAGE_SIZE, **values)
