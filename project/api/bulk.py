"""POST /useradd/bulk creates many users in one request. Each line is a separate attempt."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from threading import BoundedSemaphore
from typing import Any

from flask import Request, Response, stream_with_context

from project.api.routes import (
    JSON_MEDIA_TYPE,
    NDJSON_MEDIA_TYPE,
    bp,
    read_dry_run,
    read_idempotency_key,
    refuse_encoded,
)
from project.contract import responses
from project.contract.batches import BulkLine, check_line, register_lines
from project.contract.problems import build_problem, problem_detail
from project.contract.responses import error_members
from project.database import deadline
from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import OverloadedError, RateLimitedError, RefusalError
from project.domain.json_elements import check_lines, split_array, split_lines
from project.http import rate_limits
from project.http.guards import public, require_api_key
from project.http.request_state import RequestState, current_request, request_state
from project.runtime import Runtime, get_runtime
from project.services.registration import MAX_GROUP_SIZE

PATHS = ("/api/v1/useradd/bulk/", "/api/v1/useradd/bulk", "/useradd/bulk/", "/useradd/bulk")
MAX_USERS, MAX_BULK_BODY_BYTES = 10_000, 8 * 2**20
"""Maximum number of users in a request body, and its maximum size in bytes."""
MAX_CONCURRENT = 2
"""Maximum number of concurrent bulk requests per process: more would take threads and time from /useradd."""
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode

_permits = BoundedSemaphore(MAX_CONCURRENT)


@public
def useradd_bulk() -> Response:
    """Create a user for each line of the request, and stream the results in groups of lines.

    Raises RefusalError if the whole request is refused.
    """
    request, runtime, state = current_request(), get_runtime(), request_state()
    require_api_key()
    is_dry_run = read_dry_run(request)
    refuse_encoded(request)
    is_json = _is_json(request)
    state.idempotency_key = key = read_idempotency_key(request)
    lines, is_array = _read_lines(request, is_json=is_json)
    if not _permits.acquire(blocking=False):
        raise OverloadedError
    with ExitStack() as stack:
        stack.callback(_permits.release)
        template, state.attempt = state.attempt, None  # from here on, each line is an attempt instead
        rate_limits.refund_attempts(1)
        assert template is not None  # noqa: S101 - tells mypy: begin_attempt() has run
        results = _register_groups(runtime, state, template, key, lines, is_dry_run=is_dry_run)
        response = Response(stream_with_context(_json_array_parts(results) if is_array else _ndjson_parts(results)))
        response.mimetype = "application/json" if is_array else "application/x-ndjson"
        response.headers["Cache-Control"] = "no-store"
        response.call_on_close(stack.pop_all().close)
    return response


for path in PATHS:
    bp.add_url_rule(path, view_func=useradd_bulk, methods=["POST"], provide_automatic_options=False)


def _is_json(request: Request) -> bool:
    """Return True for a JSON body, False for NDJSON. Raises RefusalError for anything else."""
    if JSON_MEDIA_TYPE.fullmatch(request.mimetype):
        return True
    if NDJSON_MEDIA_TYPE.fullmatch(request.mimetype):
        return False
    raise RefusalError("unsupported_media_type", "bulk")


def _read_lines(request: Request, *, is_json: bool) -> tuple[list[tuple[int, bytes]], bool]:
    """Return the numbered lines or array elements of the body, and whether it is an array.

    Raises RefusalError if there are no lines or too many.
    """
    request.max_content_length = MAX_BULK_BODY_BYTES
    body = request.get_data(cache=False)
    is_array = is_json and body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if not is_array:
        check_lines(body)
    lines = list(islice(split_array(body) if is_array else split_lines(body), MAX_USERS + 1))
    if len(lines) > MAX_USERS:
        raise RefusalError("too_many", limit=MAX_USERS)
    if not lines:
        raise RefusalError("malformed_json", "empty_list")
    return lines, is_array


def _register_groups(
    runtime: Runtime,
    state: RequestState,
    template: NewAttempt,
    key: str,
    lines: list[tuple[int, bytes]],
    *,
    is_dry_run: bool,
) -> Iterator[list[dict[str, Any]]]:
    """Create the users of the lines in groups; yield the results of each group, in order.

    The first result contains the idempotency key of the request.
    """
    lines.reverse()  # so that pop() returns the next line and frees its memory
    request_values: dict[str, Any] = {"idempotency_key": key}
    while lines:
        group = [
            check_line(number, _new_attempt(template, state), sent, runtime.config.phone_region)
            for number, sent in (lines.pop() for _ in range(min(MAX_GROUP_SIZE, len(lines))))
        ]
        _apply_rate_limits(group)
        with deadline(runtime.config.request_deadline_s):
            register_lines(runtime, key, group, is_dry_run=is_dry_run)
        _count_group(runtime, group)
        results = [_serialize_result(line) for line in group]
        results[0] |= request_values
        request_values = {}
        yield results


def _new_attempt(template: NewAttempt, state: RequestState) -> NewAttempt:
    """Return a new attempt for a line, with the client and language of the request.

    All attempts of a bulk request have the same client request ID.
    """
    now = datetime.now(UTC)
    return replace(
        template,
        id=new_id(now),
        received_at=now,
        started=time.monotonic(),
        client_request_id=template.client_request_id or str(state.request_id),
    )


def _apply_rate_limits(group: list[BulkLine]) -> None:
    """Count the lines for the rate limits; refuse all lines if a limit was reached before."""
    try:
        rate_limits.consume_attempts(len(group))
    except RateLimitedError as refusal:
        for line in group:
            line.new_user, line.problem = None, build_problem(refusal)


def _count_group(runtime: Runtime, group: list[BulkLine]) -> None:
    """Count the lines in metrics; adjust the rate limits for replayed and conflicting lines."""
    for line in group:
        for callback in runtime.on_bulk_line:
            callback(line.code, time.monotonic() - line.attempt.started)
    rate_limits.refund_attempts(sum(line.credentials is not None and line.credentials.replayed for line in group))
    rate_limits.record_conflicts(sum(line.problem is not None and line.problem.status == 409 for line in group))


def _serialize_result(line: BulkLine) -> dict[str, Any]:
    values: dict[str, Any] = {"line": line.number, "attempt_id": str(line.attempt.id)}
    if line.problem:
        values |= {"status": line.problem.status, "code": line.problem.code, "detail": problem_detail(line.problem)}
        if line.problem.errors:
            values["errors"] = error_members(line.problem.errors)
        if retry_after := line.problem.headers.get("Retry-After"):
            values["retry_after"] = int(retry_after)
    elif line.credentials:
        values |= {"status": 201, "login": line.credentials.login, "password": line.credentials.password}
        if line.credentials.replayed:
            values["replayed"] = True
    else:
        values |= {"status": 200, "valid": True, "normalized": line.new_user}
    if not line.is_recorded:
        values["recorded"] = False
    return responses.LINE_SCHEMA.dump(values)


def _ndjson_parts(groups: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    for group in groups:
        yield "".join([f"{_encode(result)}\n" for result in group])


def _json_array_parts(groups: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    separator = "["
    for group in groups:
        yield separator + ",\n".join(map(_encode, group))
        separator = ",\n"
    yield "]\n"
