"""The results page and the page of an attempt."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from flask import Blueprint, Response, abort, make_response, render_template, request
from flask.typing import ResponseReturnValue

from project.contract import problems
from project.domain.errors import DatabaseUnavailableError, OverloadedError, RefusalError
from project.http import sessions
from project.http.languages import display_zone
from project.http.query_parameters import page_parameters
from project.http.request_state import request_state
from project.presentation import headings, service_state
from project.presentation.selection import PARAMETERS, Selection, parse_selection
from project.reports import labels, page_data, past_responses
from project.runtime import get_runtime

bp = Blueprint("reports", __name__)


def read_selection(parse: Callable[..., Selection] = parse_selection, **options: str | Sequence[str]) -> Selection:
    """Parse the filters in the query string, as far as the role of the reader permits.

    Raises RefusalError if `parse` is parse_selection_strictly().
    """
    unmasked = request_state().sees_everything
    return parse(request.args, display_zone(), datetime.now(UTC), unmasked=unmasked, **options)


@bp.get("/results/")
@page_parameters(*PARAMETERS, "before", "after", "newer")
def results() -> ResponseReturnValue:
    """Show statistics and a list of the selected attempts.

    Also responds to polls of open pages. The status is 400 if the period is reversed.
    """
    selection = read_selection()
    if selection.is_reversed:
        return _render_results(selection, page_data.Results(report=None)), 400
    if selection.newer is not None:
        return _respond_newer(selection, selection.newer)
    database = get_runtime().read_database
    found = page_data.get_results(database, selection)
    found = replace(found, lag_s=database.lag_s)
    last_request = page_data.find_last_request_time(database)
    return _render_results(selection, found, last_request, download=sessions.pop_download())


@bp.errorhandler(DatabaseUnavailableError)
@bp.errorhandler(OverloadedError)
def unavailable(error: RefusalError) -> Response:
    """Show the results page with an explanation instead of statistics.

    Other addresses get a problem response. Cached statistics are not shown, because only PostgreSQL knows whether the
    session is still valid.
    """
    if request.endpoint != "reports.results":
        return problems.respond(error)
    selection = read_selection()
    return problems.respond(error, partial(_render_results, selection, page_data.Results(report=None)))


def _render_results(
    selection: Selection, found: page_data.Results, last_request: datetime | None = None, **values: object
) -> str:
    state, is_failed = service_state.current_state(), "problem" in values
    if is_failed:
        sentence = service_state.describe_without_statistics(state)
    else:
        sentence = service_state.describe_with_last_request(state, last_request)
    return render_template(
        "reports/results.html",
        selection=selection,
        found=found,
        labels=labels,
        headings=headings,
        is_well=state.is_well and not is_failed,
        sentence=sentence,
        as_of=None if is_failed else service_state.format_minute(selection.now),
        **values,
    )


def _respond_newer(selection: Selection, newest_id: UUID) -> ResponseReturnValue:
    """Respond to a poll: 204 without newer attempts, 304 if unchanged, else HTML with a button."""
    newer = page_data.count_newer(get_runtime().read_database, selection, newest_id)
    if not newer.count:
        return "", 204
    page = render_template("reports/_newer.html", selection=selection, newest_id=newest_id, newer=newer)
    response = make_response(page)
    response.headers["ETag"] = newer.etag
    return response.make_conditional(request)


@bp.get("/results/<uuid:attempt_id>/")
@page_parameters(*PARAMETERS)
def attempt(attempt_id: UUID) -> ResponseReturnValue:
    """Show an attempt. Its personal data is masked unless the reader may see it."""
    selection = read_selection()
    found = page_data.find_details(get_runtime().read_database, attempt_id, selection)
    if found is None:
        abort(404)
    return render_template(
        "reports/attempt.html",
        selection=selection,
        found=found,
        attempt=found.attempt,
        is_unmasked=request_state().sees_unmasked(attempt_id),
        past_responses=past_responses,
        labels=labels,
    )
