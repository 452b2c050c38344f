"""Pages: statistics, and one attempt."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from flask import Blueprint, Response, abort, make_response, render_template, request
from flask.typing import ResponseReturnValue

from project.domain.errors import DatabaseUnavailableError, OverloadedError, RefusalError
from project.reports import answers, pages, wording
from project.web import headings, problems
from project.web.choices import Choice, read_choice
from project.web.languages import display_zone
from project.web.tools import tools

bp = Blueprint("reports", __name__)


@bp.get("/results/")
def results() -> ResponseReturnValue:
    """Show numbers and rows of what the URL chooses."""
    choice = read_choice(request.args, display_zone(), datetime.now(UTC))
    if choice.is_reversed:
        return _results(choice, pages.Results(report=None)), 400
    if choice.newer is not None:
        return _offer(choice, choice.newer)
    return _results(choice, replace(pages.get_results(tools().reading, choice), lag_s=tools().reading.lag_s))


@bp.errorhandler(DatabaseUnavailableError)
@bp.errorhandler(OverloadedError)
def unavailable(error: RefusalError) -> Response:
    """Keep the results page and say in the place of its figures why there are none.

    Figures of a moment ago are not shown: whether the session still holds is what PostgreSQL alone knows.
    """
    if request.endpoint != "reports.results":
        return problems.answer(error)
    choice = read_choice(request.args, display_zone(), datetime.now(UTC))
    return problems.answer(error, partial(_results, choice, pages.Results(report=None)))


def _results(choice: Choice, found: pages.Results, **problem: object) -> str:
    return render_template(
        "reports/results.html", choice=choice, found=found, wording=wording, headings=headings, **problem
    )


def _offer(choice: Choice, last: UUID) -> ResponseReturnValue:
    """Answer a page that asks what came after `last`: nothing (204), what it knows already (304), or a button."""
    offer = pages.find_newer(tools().reading, choice, last)
    if not offer.count:
        return "", 204
    response = make_response(
        render_template(
            "reports/_newer.html", choice=choice, last=last, count=offer.count, more=offer.more, etag=offer.etag
        )
    )
    response.headers["ETag"] = offer.etag
    return response.make_conditional(request)


@bp.get("/results/<uuid:attempt_id>/")
def attempt(attempt_id: UUID) -> ResponseReturnValue:
    """Show all that is kept of one attempt."""
    choice = read_choice(request.args, display_zone(), datetime.now(UTC))
    found = pages.find_details(tools().reading, attempt_id, choice)
    if found is None:
        abort(404)
    return render_template(
        "reports/attempt.html", choice=choice, found=found, attempt=found.attempt, answers=answers, wording=wording
    )
