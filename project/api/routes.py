"""POST /useradd at four addresses, because with a redirect clients may lose the body."""

import re
from uuid import uuid4

from flask import Blueprint, Request, Response, request

from project.contract import responses
from project.contract.responses import json_response
from project.contract.schemas import user_add_schema
from project.database import reserve_seconds
from project.domain.attempts import CREATED, DRY_RUN, REPLAYED, NewAttempt
from project.domain.errors import OverloadedError, RefusalError
from project.domain.masking import mask, mask_user_agent
from project.domain.passwords import hash_idempotency_key, new_idempotency_key
from project.domain.registration import Credentials, NewUser
from project.domain.strict_json import parse_object
from project.domain.text import clean
from project.http import rate_limits
from project.http.guards import public, require_api_key
from project.http.languages import language
from project.http.negotiation import FORM_TYPES
from project.http.query_parameters import check_parameters, read_boolean
from project.http.request_ids import client_request_id
from project.http.request_state import RequestState, current_request, request_state, requested_endpoint
from project.runtime import Runtime, get_runtime
from project.services import attempts, registration

bp = Blueprint("api", __name__)

PATHS = ("/api/v1/useradd/", "/api/v1/useradd", "/useradd/", "/useradd")
ATTEMPT_ENDPOINTS = frozenset({"api.useradd", "api.useradd_bulk"})
"""Endpoints whose requests are attempts, whatever their method."""
MAX_QUEUE_S = 0.5
"""Maximum seconds for which a request to POST /useradd may have waited for a thread; otherwise it is refused as
overloaded."""
_IDEMPOTENCY_KEY = re.compile(r'("?)([\x21\x23-\x7e]{21,255})\1')
"""Matches an idempotency key, quoted or not. A key must be hard to guess: a nanoid of 21 characters has 126 bits."""
JSON_MEDIA_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
NDJSON_MEDIA_TYPE = re.compile(r"application/(?:x-)?(?:ndjson|jsonl|jsonlines)", re.IGNORECASE)


@bp.before_app_request
def begin_attempt() -> None:
    """Create the attempt of a request to /useradd, even if no view will run (405).

    Does nothing for other paths. Counts the request for the rate limits. Raises RateLimitedError.
    """
    if requested_endpoint() not in ATTEMPT_ENDPOINTS:
        return
    environ = request.environ
    state = request_state()
    state.attempt = NewAttempt(
        id=state.request_id,
        received_at=state.arrival.received_at,
        started=state.arrival.started,
        method=mask(clean(environ["REQUEST_METHOD"], 16)),
        language=language(),
        client_address=environ.get("REMOTE_ADDR", ""),
        user_agent=mask_user_agent(clean(environ.get("HTTP_USER_AGENT", ""), 300)),
        client_request_id=client_request_id(),
    )
    get_runtime().upkeep.ensure_running()
    rate_limits.consume_attempts(1)


@bp.after_request
def record_conflict(response: Response) -> Response:
    """Count the response for the rate limits if its status is 409: it reveals taken values."""
    if response.status_code == 409:
        rate_limits.record_conflicts(1)
    return response


@bp.teardown_app_request
def end_attempt(error: BaseException | None) -> None:
    """Delete the intent of the attempt from the spool, because the attempt is recorded now."""
    state = request_state()
    if state.intent is not None:
        get_runtime().spool.clear_intent(state.intent)
        state.intent = None


@public
def useradd() -> Response:
    """Create a user and respond with its login and password."""
    request, runtime, state = current_request(), get_runtime(), request_state()
    with reserve_seconds(attempts.DISK_RESERVE_S), runtime.database.pending_writers:
        require_api_key()
        is_dry_run = read_dry_run(request)
        attempt, key, new_user = _read_request(request, runtime, state)
        if is_dry_run:
            return _dry_run_response(attempt, new_user)
        credentials = registration.register(runtime.database, runtime.passwords, attempt, key, new_user)
    state.code = REPLAYED if credentials.replayed else CREATED
    return _created_response(request, attempt, key, credentials)


for path in PATHS:
    bp.add_url_rule(path, view_func=useradd, methods=["POST"], provide_automatic_options=False)


def read_dry_run(request: Request) -> bool:
    """Return the query parameter `dry_run`, False if absent.

    Raises RefusalError if it is invalid or repeated, or if there are other query parameters.
    """
    if not request.environ.get("QUERY_STRING"):
        return False
    check_parameters(request.args, ("dry_run",))
    return read_boolean(request.args, "dry_run")


def _read_request(request: Request, runtime: Runtime, state: RequestState) -> tuple[NewAttempt, str, NewUser]:
    """Validate the request; return its attempt, idempotency key and user. Raises RefusalError."""
    attempt = state.attempt
    assert attempt is not None  # noqa: S101 - tells mypy: begin_attempt() has run
    refuse_encoded(request)
    if not JSON_MEDIA_TYPE.fullmatch(request.mimetype):
        raise _media_type_error(request)
    state.idempotency_key = key = read_idempotency_key(request)
    attempt.key_hash = hash_idempotency_key(key)
    if state.arrival.waited_s > MAX_QUEUE_S:
        raise OverloadedError
    body = parse_object(request.get_data(cache=False), has_content_length="CONTENT_LENGTH" in request.environ)
    attempt.store_body(body, runtime.config.phone_region)
    state.intent = attempts.write_intent(runtime.spool, attempt)
    new_user = user_add_schema(runtime.config.phone_region).load(body)
    return attempt, key, new_user


def refuse_encoded(request: Request) -> None:
    """Raise RefusalError if the body has a Content-Encoding."""
    # Faster than request.headers, which raises and catches an exception for a missing header
    if request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower() not in {"", "identity"}:
        raise RefusalError("unsupported_media_type", "encoded")


def _media_type_error(request: Request) -> RefusalError:
    if not request.mimetype:
        return RefusalError("unsupported_media_type", "missing")
    if request.mimetype in FORM_TYPES:
        return RefusalError("unsupported_media_type", "form")
    variant = "lines" if NDJSON_MEDIA_TYPE.fullmatch(request.mimetype) else "other"
    return RefusalError("unsupported_media_type", variant, type=clean(request.mimetype, 60))


def read_idempotency_key(request: Request) -> str:
    """Return the client's idempotency key, or a new key. Raises RefusalError if malformed."""
    header = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return new_idempotency_key()
    match = _IDEMPOTENCY_KEY.fullmatch(header.strip())
    if match is None:
        # Each response has another example, because some clients will send exactly this key
        raise RefusalError("bad_idempotency_key", example=str(uuid4()))
    return match[2]


def _created_response(request: Request, attempt: NewAttempt, key: str, credentials: Credentials) -> Response:
    root = f"{request.scheme}://{request.host}{request.script_root}"
    body = {
        "login": credentials.login,
        "password": credentials.password,
        "user": credentials.user,
        "attempt_id": attempt.id,
        "idempotency_key": key,
        "links": {"login": f"{root}/login/", "results": f"{root}/results/"},
    }
    response = json_response(responses.CREATED_SCHEMA, body, 201)
    response.headers.add("Location", f"{request.script_root}/results/{credentials.user.id}/")
    if credentials.replayed:
        response.headers.add("Idempotent-Replayed", "true")
    return response


def _dry_run_response(attempt: NewAttempt, new_user: NewUser) -> Response:
    runtime = get_runtime()
    request_state().code = DRY_RUN
    is_recorded = attempts.record_attempt(runtime.database, runtime.spool, attempt, status=200, code=DRY_RUN)
    body = {"valid": True, "normalized": new_user, "attempt_id": attempt.id}
    return json_response(responses.CHECKED_SCHEMA, body if is_recorded else body | {"recorded": False})
