"""Pages that belong to no door: the front, the codes that an answer can name, and one for each of them."""

from typing import Any

from flask import Blueprint, Flask, abort, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from project.contract.error_codes import FIELD_CODES, PROBLEMS, FieldCode, Problem
from project.contract.responses import PROBLEM, problem_values
from project.http.guards import public
from project.http.request_state import request_state

bp = Blueprint("pages", __name__)


def init_app(app: Flask) -> None:
    """Add the pages."""
    app.register_blueprint(bp)


@bp.get("/")
@public
def front() -> ResponseReturnValue:
    """Lead to the statistics."""
    return redirect(url_for("reports.results"))


@bp.get("/problems/")
@public
def problems() -> ResponseReturnValue:
    """List every code."""
    return render_template("contract/codes.html", problems=PROBLEMS, field_codes=FIELD_CODES)


@bp.get("/problems/<code>")
@public
def problem(code: str) -> ResponseReturnValue:
    """Explain a code: `type` of every problem document leads here."""
    entry: Problem | FieldCode | None = PROBLEMS.get(code) or FIELD_CODES.get(code)
    if entry is None:
        abort(404)
    return render_template(
        "contract/code.html",
        code=code,
        title=_title(entry),
        status=entry.status,
        fields=entry.fields if isinstance(entry, FieldCode) else "",
        is_retryable=isinstance(entry, Problem) and entry.retryable,
        sentences=_sentences(entry),
        sample=_sample(code, entry),
    )


def _title(entry: Problem | FieldCode) -> str:
    return str(entry.title if isinstance(entry, Problem) else entry.short)


def _sentences(entry: Problem | FieldCode) -> list[str]:
    """Return every sentence of a code; what only a real case knows is shown as "…"."""
    texts = entry.details if isinstance(entry, Problem) else entry.messages
    return [_shown(str(texts[variant]), entry.sample if not variant else {}) for variant in texts]


class _Unknown(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "…"


def _shown(sentence: str, sample: Any) -> str:
    return sentence % _Unknown(sample) if "%(" in sentence else sentence


_FIELD_EXAMPLES = {"validation_failed": "invalid_phone", "conflict": "username_taken"}
"""Codes that come with errors in fields, and one of these."""


def _sample(code: str, entry: Problem | FieldCode) -> dict[str, Any]:
    """Return a problem document with this code, as a client gets it."""
    sentence = _sentences(entry)[0]
    if code in _FIELD_EXAMPLES:
        return _sample(_FIELD_EXAMPLES[code], FIELD_CODES[_FIELD_EXAMPLES[code]])
    if isinstance(entry, Problem):
        return _document(code, sentence)
    outer = "conflict" if entry.status == 409 else "validation_failed"
    detail = str(PROBLEMS[outer].details.get(code, PROBLEMS[outer].details[""]))
    field = "name" if entry.fields == "any" else entry.fields.split(", ")[0]
    return _document(outer, detail) | {"errors": [{"field": field, "code": code, "message": sentence}]}


def _document(code: str, detail: str) -> dict[str, Any]:
    return PROBLEM.dump(problem_values(code, detail, attempt_id=request_state().request_id))
