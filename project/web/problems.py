"""Every refusal of every door leaves through one function: it records the attempt, if there is one, and answers.

Programs get a problem document (RFC 9457), browsers a page that says the same. Text from the driver, tracebacks and
secrets never reach either.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Flask, Response, current_app, g, json, render_template, request
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from project.domain.attempts import NewAttempt
from project.domain.errors import FieldError, Params, RefusalError
from project.services import attempts
from project.web import limits
from project.web.catalogue import PROBLEMS, detail_text, message_text, summary_text
from project.web.request_id import request_id
from project.web.tools import tools

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = (1, 3)
"""Bounds of Retry-After; drawn anew each time so that clients do not return in step."""
_CODES = {
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How a request ends, whatever raised."""

    status: int
    code: str
    variant: str = ""
    params: Params = field(default_factory=dict)
    errors: tuple[FieldError, ...] = ()
    recorded: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        return self.errors[0].code if self.errors else self.code


def init_app(app: Flask) -> None:
    """Let every exception end here."""
    app.register_error_handler(Exception, answer)


def _problem_page(**values: object) -> str:
    return render_template("web/problem.html", **values)


def answer(error: Exception, page: Callable[..., str] = _problem_page) -> Response:
    """Record the attempt, if there is one, and answer with a document or with `page`, made of ending and detail."""
    ending = _read(error)
    g.code = ending.reason
    recorded = _record(ending)
    if _wants_page():
        response = current_app.make_response((page(ending=ending, detail=_detail(ending)), ending.status))
    else:
        response = _document(ending, recorded=recorded)
    response.headers.extend(ending.headers)
    return response


def _read(error: Exception) -> _Ending:
    match error:
        case RefusalError():
            return _Ending(
                status=PROBLEMS[error.code].status,
                code=error.code,
                variant=error.variant,
                params=error.params or _params(error.code),
                errors=error.errors,
                recorded=error.recorded,
                headers=_headers(error.code, error.retry_after_s),
            )
        case CSRFError():
            return _Ending(status=400, code="bad_request", variant="form_expired")
        case HTTPException(code=int(status)) if status < 500:
            code = _CODES.get(status, "bad_request")
            told = error.get_response().headers
            headers = {name: told[name] for name in ("Allow", "Retry-After") if name in told}
            return _Ending(status=status, code=code, params=_params(code), headers=_headers(code) | headers)
        case _:
            log.error("defect", exc_info=error)
            return _Ending(status=500, code="internal_error", headers=_headers("internal_error"))


def _params(code: str) -> Params:
    if code == "body_too_large":
        return {"limit": int(current_app.config["MAX_CONTENT_LENGTH"]) // 1024}
    return {}


def _headers(code: str, retry_after_s: int | None = None) -> dict[str, str]:
    if code == "unauthorized":
        return {"WWW-Authenticate": "Bearer"}  # RFC 9110, 15.5.2
    if not PROBLEMS[code].retryable:
        return {}
    return {"Retry-After": str(retry_after_s or random.randint(*RETRY_AFTER_S))}  # noqa: S311 - spreads load, guards nothing


def _record(ending: _Ending) -> bool:
    """Keep the attempt, if there is one that is not kept yet. Tell whether it is kept."""
    attempt: NewAttempt | None = g.get("attempt")
    if attempt is None or ending.recorded:
        return True
    if ending.code == "rate_limited" and not limits.takes_record():
        return False
    return attempts.record(
        tools().database,
        tools().spool,
        attempt,
        status=ending.status,
        code=ending.reason,
        errors=ending.errors,
    )


def _wants_page() -> bool:
    """A person's browser names text/html; programs name JSON, anything, or nothing."""
    if request.path.startswith("/api/") and request.method != "GET":
        return False
    accepts = request.accept_mimetypes
    return accepts["text/html"] > accepts["application/json"] and "text/html" in accepts.values()


def _document(ending: _Ending, *, recorded: bool) -> Response:
    problem: dict[str, object] = {
        "type": f"/problems/{ending.code}",
        "title": str(PROBLEMS[ending.code].title),
        "status": ending.status,
        "detail": _detail(ending),
        "code": ending.code,
    }
    if "attempt" in g:
        problem["attempt_id"] = str(request_id())
    else:
        problem["request_id"] = str(request_id())
    if ending.errors:
        problem["errors"] = [
            {"field": error.field, "code": error.code, "message": message_text(error)} for error in ending.errors
        ]
    if not recorded:
        problem["recorded"] = False
    if key := g.get("key"):
        problem["idempotency_key"] = key
    return Response(json.dumps(problem) + "\n", ending.status, mimetype=MEDIA_TYPE)


def _detail(ending: _Ending) -> str:
    if ending.code == "validation_failed":
        return summary_text(ending.errors)
    if ending.code == "rate_limited":
        return detail_text(ending.code, "", {"seconds": ending.headers["Retry-After"]})
    if ending.code in {"database_unavailable", "overloaded", "outcome_unknown"}:
        variant = "" if "attempt" in g else "read"
        return detail_text(ending.code, variant, {"seconds": ending.headers["Retry-After"]})
    return detail_text(ending.code, ending.variant, ending.params)
