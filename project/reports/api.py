"""Statistics and attempts as JSON, for programs."""

from uuid import UUID

from flask import Response, abort, url_for

from project.contract.responses import ATTEMPT_PAGE_SCHEMA, ATTEMPT_SCHEMA, STATS_SCHEMA, json_response
from project.http.guards import api_key_allowed
from project.presentation.privacy import mask_for_reader
from project.presentation.selection import PARAMETERS, parse_selection_strictly
from project.reports.routes import bp, read_selection
from project.runtime import get_runtime
from project.services import reports as service


@bp.get("/api/v1/stats/")
@api_key_allowed
def stats() -> Response:
    """Respond with the totals and the time series of the selected attempts."""
    selection = read_selection(parse_selection_strictly, default="all")
    report = service.build_report(get_runtime().read_database, selection.filter, selection.zone, selection.now)
    return json_response(STATS_SCHEMA, report)


@bp.get("/api/v1/attempts/")
@api_key_allowed
def attempts() -> Response:
    """Respond with a page of attempts, newest first, and the address of the next page."""
    selection = read_selection(parse_selection_strictly, default="all", known=(*PARAMETERS, "before", "limit"))
    page = service.get_page(get_runtime().read_database, selection.filter, selection.limit, before=selection.before)
    next_address = None
    if page.has_older:
        before, limit = str(page.attempts[-1].id), str(selection.limit)
        next_address = url_for("reports.attempts") + selection.query_string(before=before, limit=limit)
    return json_response(
        ATTEMPT_PAGE_SCHEMA, {"attempts": list(map(mask_for_reader, page.attempts)), "next": next_address}
    )


@bp.get("/api/v1/attempts/<uuid:attempt_id>/")
@api_key_allowed
def attempt_as_json(attempt_id: UUID) -> Response:
    """Respond with an attempt. Its personal data is masked unless the reader may see it."""
    read_selection(parse_selection_strictly, known=("tz",))
    found = service.find_attempt(get_runtime().read_database, attempt_id)
    if found is None:
        abort(404)
    return json_response(ATTEMPT_SCHEMA, mask_for_reader(found))
