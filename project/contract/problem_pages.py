"""Views that redirect / to the statistics, list the error codes, and explain each of them."""

from collections import defaultdict
from typing import Any

from flask import Blueprint, abort, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from project.contract.error_codes import EXAMPLE_USER, FIELD_CODES, PROBLEMS, FieldCode, ProblemType
from project.contract.responses import PROBLEM_SCHEMA, problem_members
from project.http.guards import public
from project.http.request_state import request_state

bp = Blueprint("pages", __name__)


@bp.get("/")
@public
def index() -> ResponseReturnValue:
    """Redirect to the statistics."""
    return redirect(url_for("reports.results"))


@bp.get("/problems/")
@public
def problems() -> ResponseReturnValue:
    """List all error codes."""
    return render_template("contract/codes.html", problems=PROBLEMS, field_codes=FIELD_CODES)


@bp.get("/problems/<code>")
@public
def problem(code: str) -> ResponseReturnValue:
    """Explain an error code. The `type` of a problem document is the address of this page."""
    entry: ProblemType | FieldCode | None = PROBLEMS.get(code) or FIELD_CODES.get(code)
    if entry is None:
        abort(404)
    return render_template(
        "contract/code.html",
        code=code,
        title=str(entry.title if isinstance(entry, ProblemType) else entry.short_text),
        status=entry.status,
        fields=entry.fields if isinstance(entry, FieldCode) else "",
        is_retryable=isinstance(entry, ProblemType) and entry.is_retryable,
        sentences=_sentences(entry),
        sample=_example_response(code, entry),
    )


def _sentences(entry: ProblemType | FieldCode) -> list[str]:
    """Return the messages of a code; samples, or else "…", replace their parameters."""
    texts = entry.details if isinstance(entry, ProblemType) else entry.messages
    user = {"user": str(EXAMPLE_USER)}
    samples = {variant: defaultdict(lambda: "…", user if variant else {**user, **entry.sample}) for variant in texts}
    return [str(text) % samples[variant] if "%(" in str(text) else str(text) for variant, text in texts.items()]


_FIELD_EXAMPLES = {"validation_failed": "invalid_phone", "conflict": "username_taken"}
"""Code of a problem that lists field errors -> code of the field error in its example."""


def _example_response(code: str, entry: ProblemType | FieldCode) -> dict[str, Any]:
    sentence = _sentences(entry)[0]
    if code in _FIELD_EXAMPLES:
        return _example_response(_FIELD_EXAMPLES[code], FIELD_CODES[_FIELD_EXAMPLES[code]])
    if isinstance(entry, ProblemType):
        return _example_document(code, sentence)
    outer = "conflict" if entry.status == 409 else "validation_failed"
    detail = str(PROBLEMS[outer].details.get(code, PROBLEMS[outer].details[""]))
    field = "name" if entry.fields == "any" else entry.fields.split(", ")[0]
    return _example_document(outer, detail) | {"errors": [{"field": field, "code": code, "message": sentence}]}


def _example_document(code: str, detail: str) -> dict[str, Any]:
    return PROBLEM_SCHEMA.dump(problem_members(code, detail, attempt_id=request_state().request_id))
