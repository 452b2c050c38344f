"""Statistics and attempts as JSON, for programs."""

from datetime import UTC, datetime
from uuid import UUID

from flask import Response, abort, request, url_for

from project.contract.responses import ATTEMPT, ATTEMPT_PAGE, STATS, json_response
from project.http.guards import api_key_allowed
from project.http.languages import display_zone
from project.presentation.selection import parse_selection_strictly
from project.reports.routes import bp
from project.runtime import get_runtime
from project.services import reports as service


@bp.get("/api/v1/stats/")
@api_key_allowed
def stats() -> Response:
    """Respond with the statistics of the results page."""
    now = datetime.now(UTC)
    selection = parse_selection_strictly(request.args, display_zone(), now, default="all")
    report = service.build_report(get_runtime().read_database, selection.filter, selection.zone, now)
    return json_response(STATS, report)


@bp.get("/api/v1/attempts/")
@api_key_allowed
def attempts() -> Response:
    """Respond with attempts, newest first, and the address of the following page."""
    selection = parse_selection_strictly(request.args, display_zone(), datetime.now(UTC), default="all")
    page = service.get_page(get_runtime().read_database, selection.filter, selection.limit, before=selection.before)
    following = None
    if page.has_older:
        before, limit = str(page.attempts[-1].id), str(selection.limit)
        following = url_for("reports.attempts") + selection.query(before=before, limit=limit)
    return json_response(ATTEMPT_PAGE, {"attempts": page.attempts, "next": following})


@bp.get("/api/v1/attempts/<uuid:attempt_id>/")
@api_key_allowed
def attempt_as_json(attempt_id: UUID) -> Response:
    """Respond with one attempt."""
    found = service.find_attempt(get_runtime().read_database, attempt_id)
    if found is None:
        abort(404)
    return json_response(ATTEMPT, found)
