"""Rebuild the response body of a recorded attempt: bodies themselves are never stored."""

from collections.abc import Mapping
from typing import Any

from flask_babel import force_locale

from project.contract.error_codes import PROBLEMS, detail_text, message_text, summary_text
from project.domain.attempts import CHECKED, AttemptDetail, AttemptRow
from project.domain.errors import FIELDS
from project.http.languages import LANGUAGES

HIDDEN_PASSWORD = "••••••"  # noqa: S105 - not a password
UNKNOWN = "…"


def in_form_order(sent: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a request in the order of a form: jsonb does not keep their order."""
    return {name: sent[name] for name in (*FIELDS, *sent) if name in sent}


def problem_code(attempt: AttemptRow) -> str:
    """Return the code of the response; `attempt.code` is the more specific one of the first invalid field."""
    if attempt.errors:
        return "conflict" if attempt.status == 409 else "validation_failed"
    return attempt.code


def media_type(attempt: AttemptRow) -> str:
    """Return the media type of the response."""
    return "application/json" if (attempt.answered or 0) < 300 else "application/problem+json"


def rebuild(attempt: AttemptDetail) -> dict[str, Any] | None:
    """Return the body of the response in its original language, None if there was no response."""
    if attempt.answered is None:
        return None
    if attempt.answered == 201:
        return {"login": attempt.username, "password": HIDDEN_PASSWORD, "attempt_id": str(attempt.id)}
    if attempt.code == CHECKED:
        return {"valid": True, "normalized": UNKNOWN, "attempt_id": str(attempt.id)}
    with force_locale(attempt.language if attempt.language in LANGUAGES else "en"):
        return _problem(attempt)


def _problem(attempt: AttemptDetail) -> dict[str, Any]:
    code = problem_code(attempt) if attempt.answered == attempt.status else _unplanned_code(attempt)
    problem = PROBLEMS.get(code)
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": str(problem.title) if problem else UNKNOWN,
        "status": attempt.answered,
        "detail": _detail(attempt, code),
        "code": code,
        "attempt_id": str(attempt.id),
    }
    if attempt.errors and attempt.answered == attempt.status:
        body["errors"] = [
            {"field": error.field, "code": error.code, "message": message_text(error)} for error in attempt.errors
        ]
    return body


def _unplanned_code(attempt: AttemptRow) -> str:
    """Return the code of a response that differs from the outcome: it was unknown then, or responding failed."""
    return "outcome_unknown" if attempt.answered == 503 else "internal_error"


def _detail(attempt: AttemptDetail, code: str) -> str:
    """Return the detail of the response, "…" if its parameters were not recorded."""
    if code == "validation_failed" and attempt.errors:
        return summary_text(attempt.errors)
    if code == "conflict" and attempt.errors:
        return detail_text(code, attempt.errors[0].code if len(attempt.errors) == 1 else "")
    problem = PROBLEMS.get(code)
    if problem is None or problem.sample or len(problem.details) > 1:
        return UNKNOWN
    return detail_text(code)
