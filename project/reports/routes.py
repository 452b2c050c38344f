"""Pages: statistics, and one attempt."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from flask import Blueprint, Response, abort, make_response, render_template, request
from flask.typing import ResponseReturnValue

from project.contract import problems
from project.domain.errors import DatabaseUnavailableError, OverloadedError, RefusalError
from project.http.languages import display_zone
from project.http.request_state import request_state
from project.presentation import headings
from project.presentation.selection import Selection, parse_selection
from project.reports import labels, page_data, past_responses
from project.runtime import get_runtime

bp = Blueprint("reports", __name__)


def read_selection(parse: Callable[..., Selection] = parse_selection, **options: str) -> Selection:
    """Parse the query of this request; only administrators may filter by client."""
    with_client = request_state().is_administrator
    return parse(request.args, display_zone(), datetime.now(UTC), with_client=with_client, **options)


@bp.get("/results/")
def results() -> ResponseReturnValue:
    """Show numbers and rows of what the URL chooses."""
    selection = read_selection()
    if selection.is_reversed:
        return _results(selection, page_data.Results(report=None)), 400
    if selection.newer is not None:
        return _offer(selection, selection.newer)
    return _results(
        selection,
        replace(page_data.get_results(get_runtime().read_database, selection), lag_s=get_runtime().read_database.lag_s),
    )


@bp.errorhandler(DatabaseUnavailableError)
@bp.errorhandler(OverloadedError)
def unavailable(error: RefusalError) -> Response:
    """Keep the results page and say in the place of its figures why there are none.

    Figures of a moment ago are not shown: whether the session still holds is what PostgreSQL alone knows.
    """
    if request.endpoint != "reports.results":
        return problems.respond(error)
    selection = read_selection()
    return problems.respond(error, partial(_results, selection, page_data.Results(report=None)))


def _results(selection: Selection, found: page_data.Results, **problem: object) -> str:
    return render_template(
        "reports/results.html", selection=selection, found=found, labels=labels, headings=headings, **problem
    )


def _offer(selection: Selection, last: UUID) -> ResponseReturnValue:
    """Answer a page that asks what came after `last`: nothing (204), what it knows already (304), or a button."""
    offer = page_data.find_newer(get_runtime().read_database, selection, last)
    if not offer.count:
        return "", 204
    response = make_response(
        render_template(
            "reports/_newer.html", selection=selection, last=last, count=offer.count, more=offer.more, etag=offer.etag
        )
    )
    response.headers["ETag"] = offer.etag
    return response.make_conditional(request)


@bp.get("/results/<uuid:attempt_id>/")
def attempt(attempt_id: UUID) -> ResponseReturnValue:
    """Show all that is kept of one attempt."""
    selection = read_selection()
    found = page_data.find_details(get_runtime().read_database, attempt_id, selection)
    if found is None:
        abort(404)
    return render_template(
        "reports/attempt.html",
        selection=selection,
        found=found,
        attempt=found.attempt,
        past_responses=past_responses,
        labels=labels,
    )
