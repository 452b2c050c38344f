"""Pages: statistics, and one attempt."""

from datetime import UTC, datetime
from uuid import UUID

from flask import Blueprint, abort, make_response, render_template, request
from flask.typing import ResponseReturnValue

from project.reports import answers, pages, wording
from project.web import headings
from project.web.choices import Choice, read_choice
from project.web.languages import display_zone
from project.web.tools import tools

bp = Blueprint("reports", __name__)


@bp.get("/results/")
def results() -> ResponseReturnValue:
    """Show numbers and rows of what the URL chooses."""
    choice = read_choice(request.args, display_zone(), datetime.now(UTC))
    if choice.is_reversed:
        found = pages.Results(report=None)
        return render_template(
            "reports/results.html", choice=choice, found=found, wording=wording, headings=headings
        ), 400
    if choice.newer is not None:
        return _offer(choice, choice.newer)
    found = pages.get_results(tools().reading, choice)
    return render_template("reports/results.html", choice=choice, found=found, wording=wording, headings=headings)


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
