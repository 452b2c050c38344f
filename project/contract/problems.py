"""The error handler of the application: records the attempt, if there is one, and responds.

Programs get a problem document (RFC 9457), browsers get a page with the same content. Responses never contain driver
messages, tracebacks or secrets.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from flask import Flask, Response, current_app, render_template
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from project.contract.error_codes import PROBLEMS, detail_text, validation_detail
from project.contract.responses import PROBLEM_SCHEMA, json_response, problem_members
from project.domain.errors import FieldError, Params, RefusalError
from project.domain.text import clean
from project.http import languages, rate_limits
from project.http.hosts import UnknownHostError
from project.http.negotiation import prefers_page
from project.http.request_state import MAX_BODY_BYTES, current_request, request_state, requested_endpoint
from project.runtime import get_runtime
from project.services import attempts

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = (1, 3)
"""Bounds of Retry-After in seconds, unless the error has a time of its own. The value is random, so that clients do not
retry at the same time."""
_CODES_BY_STATUS = {
    403: "forbidden",
    404: "not_found",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    431: "head_too_large",
    501: "transfer_coding_not_supported",
    505: "http_version_not_supported",
}
_POST_VARIANTS = {"api.useradd": "user", "api.useradd_bulk": "users"}
"""Endpoint -> variant of `method_not_allowed` with an example of a body to POST."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The problem (RFC 9457) of a failed request, built from any exception."""

    status: int
    code: str
    variant: str = ""
    """Variant of the detail: a key of `details` of the ProblemType."""
    params: Params = field(default_factory=dict)
    """Parameters of the detail."""
    errors: tuple[FieldError, ...] = ()
    is_recorded: bool = False
    """Whether the transaction that refused the request has already recorded the attempt."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The code that is recorded: the code of the first invalid field, or else `code`."""
        return self.errors[0].code if self.errors else self.code


def init_app(app: Flask) -> None:
    """Register the handler for all exceptions."""
    app.register_error_handler(Exception, respond)


_problem_page = partial(render_template, "contract/problem.html")


def respond(error: Exception, page: Callable[..., str] = _problem_page) -> Response:
    """Handle an exception: record the attempt, and return a problem document or a page.

    `page` renders the page from the keyword arguments `problem` and `detail`.
    """
    problem = build_problem(error)
    request_state().code = problem.reason
    is_recorded = _record_attempt(problem)
    detail = problem_detail(problem, is_attempt=request_state().attempt is not None)
    if prefers_page():
        response = current_app.make_response((page(problem=problem, detail=detail), problem.status))
    else:
        response = _problem_response(problem, detail, is_recorded=is_recorded)
    response.headers.extend(problem.headers)
    return response


def describe_refusal(
    app: Flask, status: int, params: Params, accept_language: str
) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and body of the response to a request that the HTTP server refuses.

    The request is not recorded as an attempt. `params` are the parameters of the message; for status 413, `limit` is
    the maximum size of the body in bytes, by default MAX_BODY_BYTES.
    """
    code = _CODES_BY_STATUS.get(status, "bad_request" if status < 500 else "internal_error")
    with app.test_request_context("/api/", headers={"Accept-Language": accept_language}):
        if status == 413:
            problem = _body_too_large(int(params.get("limit", MAX_BODY_BYTES)))
        else:
            variant = "incomplete" if "length" in params else "malformed" if code == "bad_request" else ""
            problem = Problem(status=status, code=code, variant=variant, params=params, headers=_problem_headers(code))
        response = _problem_response(problem, problem_detail(problem), is_recorded=False)
        headers = problem.headers | {
            "Content-Type": response.headers["Content-Type"],
            "Content-Language": languages.language(),
            "X-Request-Id": str(request_state().request_id),
            "X-Content-Type-Options": "nosniff",
        }
        return list(headers.items()), response.get_data()


def build_problem(error: Exception) -> Problem:
    """Return the problem for an exception; log unexpected exceptions and unknown hosts.

    HTTP exceptions keep their status if it is below 500. All others, such as that of abort(503), are unexpected and get
    the status 500.
    """
    match error:
        case RefusalError():
            return Problem(
                status=PROBLEMS[error.code].status,
                code=error.code,
                variant=error.variant,
                params=error.params,
                errors=error.errors,
                is_recorded=error.recorded,
                headers=_problem_headers(error.code, error.retry_after_s),
            )
        case UnknownHostError(host=host):
            if rate_limits.should_log_host(host):
                log.warning("host refused: add it to TRUSTED_HOSTS if it is yours", extra={"host": host})
            return Problem(status=400, code="unknown_host", params={"host": host})
        case CSRFError():
            return Problem(status=400, code="bad_request", variant="form_expired")
        case MethodNotAllowed(valid_methods=allowed):
            return _method_not_allowed(sorted(allowed or ()))
        case RequestEntityTooLarge():
            return _body_too_large(current_request().max_content_length or MAX_BODY_BYTES)
        case HTTPException(code=int(status)) if status < 500:
            code = _CODES_BY_STATUS.get(status, "bad_request")
            original = error.get_response().headers
            headers = {name: original[name] for name in ("Allow", "Retry-After") if name in original}
            return Problem(status=status, code=code, headers=_problem_headers(code) | headers)
        case _:
            log.error("unhandled exception", exc_info=error)
            return Problem(status=500, code="internal_error", headers=_problem_headers("internal_error"))


def _method_not_allowed(allowed: list[str]) -> Problem:
    """Return the problem for a method that the path does not support."""
    params = {"method": clean(current_request().method, 16), "allowed": ", ".join(allowed)}
    return Problem(
        status=405,
        code="method_not_allowed",
        variant=_POST_VARIANTS.get(requested_endpoint() or "", ""),
        params=params,
        headers={"Allow": params["allowed"]},
    )


def _body_too_large(limit: int) -> Problem:
    """Return the problem for a body of more than `limit` bytes.

    Requests and files with several users have a higher limit than MAX_BODY_BYTES.
    """
    variant = "bulk" if limit > MAX_BODY_BYTES else ""
    return Problem(status=413, code="body_too_large", variant=variant, params={"limit": limit // 1024})


def _problem_headers(code: str, retry_after_s: int | None = None) -> dict[str, str]:
    if code == "unauthorized":
        return {"WWW-Authenticate": "Bearer"}  # RFC 9110, 15.5.2
    if not PROBLEMS[code].is_retryable:
        return {}
    return {"Retry-After": str(retry_after_s or random.randint(*RETRY_AFTER_S))}  # noqa: S311 - spreads load, guards nothing


def _record_attempt(problem: Problem) -> bool:
    """Record the attempt of the request; return False if recording fails or is skipped.

    Most rate-limited attempts of a flood are skipped. Returns True if there is no attempt, or if it is already
    recorded.
    """
    attempt = request_state().attempt
    if attempt is None or problem.is_recorded:
        return True
    if problem.code == "rate_limited" and not rate_limits.should_record_refusal():
        return False
    runtime, reason = get_runtime(), problem.reason
    return attempts.record_attempt(
        runtime.database, runtime.spool, attempt, status=problem.status, code=reason, errors=problem.errors
    )


def _problem_response(problem: Problem, detail: str, *, is_recorded: bool) -> Response:
    state = request_state()
    values: dict[str, object] = {"attempt_id" if state.attempt else "request_id": state.request_id}
    if not is_recorded:
        values["recorded"] = False
    if state.idempotency_key:
        values["idempotency_key"] = state.idempotency_key
    body = problem_members(problem.code, detail, problem.errors, status=problem.status, **values)
    return json_response(PROBLEM_SCHEMA, body, problem.status, MEDIA_TYPE)


def problem_detail(problem: Problem, *, is_attempt: bool = True) -> str:
    """Return the detail of a problem in the language of the response.

    `is_attempt` selects the detail of `database_unavailable`, `overloaded` and `outcome_unknown` for requests to
    /useradd, which says that the user was not created and names the Idempotency-Key.
    """
    match problem.code:
        case "validation_failed":
            return validation_detail(problem.errors)
        case "rate_limited":
            return detail_text(problem.code, "", {"seconds": problem.headers["Retry-After"]})
        case "database_unavailable" | "overloaded" | "outcome_unknown":
            variant = "" if is_attempt else "read"
            return detail_text(problem.code, variant, {"seconds": problem.headers["Retry-After"]})
        case _:
            return detail_text(problem.code, problem.variant, problem.params)
