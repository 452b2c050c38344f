"""The blueprint of the administration pages, its access control, and the state page."""

from collections.abc import Sequence
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


@bp.before_request
def require_administrator() -> None:
    """Require an administrator and limit changes. Raises RefusalError or RateLimitedError."""
    if not request_state().is_administrator:
        raise RefusalError("forbidden")
    if request.method == "POST":
        rate_limits.consume_for_reader(rate_limits.ADMIN_CHANGES)


@bp.get("/")
@works_in_outage
def state() -> str:
    """Show the state of the database, the statistics and the spool."""
    r = get_runtime()
    status = get_status(r.database, r.read_database, r.spool, r.upkeep, r.metrics)
    return render_template("admin/state.html", state=status)


def before() -> UUID | None:
    """Return the pagination cursor from ?before=, or None for the first page."""
    return request.args.get("before", type=UUID)


def render_list(template: str, rows: Sequence[object], **values: object) -> str:
    """Render a page of a list. Pass PAGE_SIZE + 1 rows if there are older ones."""
    values = {"filters": {}, "is_too_broad": False} | values
    return render_template(template, rows=rows[:PAGE_SIZE], has_older=len(rows) > PAGE_SIZE, **values)
