"""Rebuilds the response bodies of recorded attempts, because bodies are not stored."""

from collections.abc import Mapping
from typing import Any

from flask_babel import force_locale

from project.contract.error_codes import PROBLEMS, detail_text, validation_detail
from project.contract.responses import PLACEHOLDER, PROBLEM_SCHEMA, problem_members
from project.domain.attempts import DRY_RUN, AttemptDetail, AttemptRow
from project.domain.errors import FIELDS
from project.http.languages import LANGUAGES

HIDDEN_PASSWORD = "••••••"  # noqa: S105 - not a password


def sort_fields(sent: Mapping[str, str]) -> dict[str, str]:
    """Sort request fields in the order of FIELDS, because jsonb does not preserve their order."""
    return {name: sent[name] for name in (*FIELDS, *sent) if name in sent}


def media_type(attempt: AttemptRow) -> str:
    """Return the media type of the response to an attempt: of JSON or a problem document.

    Without a response, it is that of JSON.
    """
    return "application/json" if (attempt.answered or 0) < 300 else "application/problem+json"


def rebuild_body(attempt: AttemptDetail) -> dict[str, Any] | None:
    """Return the body of the response to an attempt, or None if there was no response.

    The body is in the language of that response. Parts that are not stored are missing, hidden or replaced by "…".
    """
    if attempt.answered is None:
        return None
    if attempt.answered == 201:
        return {"login": attempt.username, "password": HIDDEN_PASSWORD, "attempt_id": str(attempt.id)}
    if attempt.code == DRY_RUN:
        return {"valid": True, "normalized": PLACEHOLDER, "attempt_id": str(attempt.id)}
    with force_locale(attempt.language if attempt.language in LANGUAGES else "en"):
        return _problem(attempt)


def _problem(attempt: AttemptDetail) -> dict[str, Any]:
    code = attempt.response_code if attempt.answered == attempt.status else _unplanned_code(attempt)
    errors = attempt.errors if attempt.answered == attempt.status else ()
    values = problem_members(code, _detail_text(attempt, code), errors, status=attempt.answered, attempt_id=attempt.id)
    return PROBLEM_SCHEMA.dump(values)


def _unplanned_code(attempt: AttemptRow) -> str:
    """Return the code of a response with another status than the attempt: 503 or 500."""
    return "outcome_unknown" if attempt.answered == 503 else "internal_error"


def _detail_text(attempt: AttemptDetail, code: str) -> str:
    """Return the detail of the response, or "…" if it depends on data that was not recorded."""
    if code == "validation_failed" and attempt.errors:
        return validation_detail(attempt.errors)
    if code == "conflict" and attempt.errors:
        return detail_text(code, attempt.errors[0].code if len(attempt.errors) == 1 else "")
    problem = PROBLEMS.get(code)
    if problem is None or problem.sample or len(problem.details) > 1:
        return PLACEHOLDER
    return detail_text(code)
