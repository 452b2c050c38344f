"""Statistics and attempts as JSON, for programs."""

from typing import Any
from uuid import UUID

from flask import Response, abort, json, url_for

from project.domain.attempts import AttemptRow
from project.domain.reports import Report
from project.http.guards import api_key_allowed
from project.http.languages import local
from project.presentation.selection import parse_selection_strictly
from project.reports.past_responses import problem_code
from project.reports.routes import bp, read_selection
from project.runtime import get_runtime
from project.services import reports as service


@bp.get("/api/v1/stats/")
@api_key_allowed
def stats() -> Response:
    """Answer with the numbers of the results page."""
    selection = read_selection(parse_selection_strictly, default="all")
    report = service.build_report(get_runtime().read_database, selection.filter, selection.zone, selection.now)
    return _answer(_numbers(report))


@bp.get("/api/v1/attempts/")
@api_key_allowed
def attempts() -> Response:
    """Answer with attempts, newest first, and where to go on."""
    selection = read_selection(parse_selection_strictly, default="all")
    page = service.get_page(get_runtime().read_database, selection.filter, selection.limit, before=selection.before)
    following = None
    if page.has_older:
        before, limit = str(page.attempts[-1].id), str(selection.limit)
        following = url_for("reports.attempts") + selection.query(before=before, limit=limit)
    return _answer({"attempts": [_attempt(attempt) for attempt in page.attempts], "next": following})


@bp.get("/api/v1/attempts/<uuid:attempt_id>/")
@api_key_allowed
def attempt_as_json(attempt_id: UUID) -> Response:
    """Answer with one attempt."""
    found = service.find_attempt(get_runtime().read_database, attempt_id)
    if found is None:
        abort(404)
    return _answer(_attempt(found))


def _numbers(report: Report) -> dict[str, Any]:
    return {
        "period": {
            "from": report.since and local(report.since).isoformat(),
            "to": local(report.until).isoformat(timespec="milliseconds"),
            "zone": report.zone.key,
        },
        "total": report.total,
        "created": report.created,
        "rejected": report.rejected,
        "failed": report.failed,
        "unchanged": report.unchanged,
        "by_status": [{"status": row.status, "count": row.count} for row in report.by_status],
        "by_code": [{"code": row.code, "status": row.status, "count": row.count} for row in report.reasons],
        "series": [
            {
                "from": bucket.since.isoformat(),
                "to": bucket.until.isoformat(),
                "created": bucket.created,
                "rejected": bucket.rejected,
                "failed": bucket.failed,
                "unchanged": bucket.unchanged,
            }
            for bucket in report.series
        ],
    }


def _attempt(attempt: AttemptRow) -> dict[str, Any]:
    return {
        "id": str(attempt.id),
        "received_at": local(attempt.received_at).isoformat(timespec="milliseconds"),
        "status": attempt.status,
        "answered": attempt.answered,
        "outcome": attempt.outcome.value,
        "code": problem_code(attempt),
        "errors": [{"field": error.field, "code": error.code} for error in attempt.errors],
        "username": attempt.username,
        "phone": attempt.phone_masked,
        "email": attempt.email_masked,
        "duration_ms": attempt.duration_ms,
        "via": attempt.via,
    }


def _answer(body: dict[str, Any]) -> Response:
    return Response(json.dumps(body) + "\n", mimetype="application/json")
