"""What a client was answered, built again from what is kept of an attempt: bodies themselves are never stored."""

from collections.abc import Mapping
from typing import Any

from flask_babel import force_locale

from project.contract.error_codes import PROBLEMS, detail_text, summary_text
from project.contract.responses import PROBLEM, UNKNOWN, problem_values
from project.domain.attempts import CHECKED, AttemptDetail, AttemptRow
from project.domain.errors import FIELDS
from project.http.languages import LANGUAGES

HIDDEN_PASSWORD = "••••••"  # noqa: S105 - shows that there was one


def in_order(sent: Mapping[str, str]) -> dict[str, str]:
    """Return what was sent in the order in which people fill a form: the database keeps none."""
    return {name: sent[name] for name in (*FIELDS, *sent) if name in sent}


def media_type(attempt: AttemptRow) -> str:
    """Return how the answer was marked."""
    return "application/json" if (attempt.answered or 0) < 300 else "application/problem+json"


def rebuild(attempt: AttemptDetail) -> dict[str, Any] | None:
    """Return the body of the answer in the language it had, None if there was none."""
    if attempt.answered is None:
        return None
    if attempt.answered == 201:
        return {"login": attempt.username, "password": HIDDEN_PASSWORD, "attempt_id": str(attempt.id)}
    if attempt.code == CHECKED:
        return {"valid": True, "normalized": UNKNOWN, "attempt_id": str(attempt.id)}
    with force_locale(attempt.language if attempt.language in LANGUAGES else "en"):
        return _problem(attempt)


def _problem(attempt: AttemptDetail) -> dict[str, Any]:
    code = attempt.response_code if attempt.answered == attempt.status else _code_of_another_answer(attempt)
    errors = attempt.errors if attempt.answered == attempt.status else ()
    values = problem_values(code, _detail(attempt, code), errors, status=attempt.answered, attempt_id=attempt.id)
    return PROBLEM.dump(values)


def _code_of_another_answer(attempt: AttemptRow) -> str:
    """The client was told something else than what happened: that we did not know, or a defect in telling it."""
    return "outcome_unknown" if attempt.answered == 503 else "internal_error"


def _detail(attempt: AttemptDetail, code: str) -> str:
    """Return the sentence of the answer, "…" where what it was made of is not kept."""
    if code == "validation_failed" and attempt.errors:
        return summary_text(attempt.errors)
    if code == "conflict" and attempt.errors:
        return detail_text(code, attempt.errors[0].code if len(attempt.errors) == 1 else "")
    problem = PROBLEMS.get(code)
    if problem is None or problem.sample or len(problem.details) > 1:
        return UNKNOWN
    return detail_text(code)
