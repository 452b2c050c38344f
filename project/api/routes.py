"""POST /useradd: one view under four addresses, none of which ever redirects (a redirect loses the body)."""

import json
import re
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Blueprint, Request, Response, g, request
from flask.ctx import _AppCtxGlobals

from project.domain.attempts import CHECKED, CREATED, REPLAYED, NewAttempt
from project.domain.errors import OverloadedError, RefusalError
from project.domain.passwords import hash_key, new_key
from project.domain.registration import Credentials, NewUser
from project.domain.strict_json import parse_object
from project.domain.text import clean
from project.services import attempts, registration
from project.web import limits
from project.web.context import this_g, this_request
from project.web.guards import open_to_all, require_key
from project.web.languages import language, local
from project.web.request_id import client_request_id, request_id
from project.web.schemas import user_add_schema
from project.web.tools import Tools, tools

bp = Blueprint("api", __name__)

ADDRESSES = ("/api/v1/useradd/", "/api/v1/useradd", "/useradd/", "/useradd")
PATIENCE_S = 0.5
"""Seconds in the queue after which a request is turned away: its client would not wait for all that is before it."""
_KEY = re.compile(r'"?([\x21\x23-\x7e]{22,255})"?')
"""22 visible ASCII characters can hold 128 bits: on an open endpoint the key itself must be unguessable."""
_encode = json.JSONEncoder(ensure_ascii=False).encode
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)


class Answer(Response):
    """An answer that is there as a whole with all its headers: werkzeug need not look what is missing."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Hand it to the server."""
        start_response(self.status, self.headers.to_wsgi_list())
        return self.iter_encoded()


@bp.before_app_request
def begin_attempt() -> None:
    """Every request to the addresses is an attempt, also one that Flask itself refuses (405, 413)."""
    environ = request.environ
    if environ["PATH_INFO"] not in ADDRESSES:
        return
    here = this_g()
    arrival = here.arrival
    here.attempt = NewAttempt(
        id=request_id(),
        received_at=arrival.at,
        started=arrival.started,
        method=clean(environ["REQUEST_METHOD"], 16),
        language=language(),
        client_address=environ.get("REMOTE_ADDR", ""),
        user_agent=clean(environ.get("HTTP_USER_AGENT", ""), 300),
        client_request_id=client_request_id(),
    )
    tools().upkeep.ensure_running()
    limits.spend_attempt()


@bp.after_request
def note_conflict(response: Response) -> Response:
    """Remember who was told that something is taken."""
    if response.status_code == 409:
        limits.note_conflict()
    return response


@bp.teardown_app_request
def end_attempt(error: BaseException | None) -> None:
    """The attempt is recorded by now, whatever its end."""
    if (intent := g.pop("intent", None)) is not None:
        tools().spool.finish(intent)


@open_to_all
def useradd() -> Response:
    """Create a user and answer with its login and password."""
    here, asked, parts = this_g(), this_request(), tools()
    require_key()
    new_user = _read(here, asked, parts)
    if asked.environ.get("QUERY_STRING") and asked.args.get("dry_run") in {"true", "1"}:
        return _checked(new_user)
    credentials = registration.register(parts.database, parts.passwords, here.attempt, here.key, new_user)
    here.code = REPLAYED if credentials.replayed else CREATED
    return _created(asked, here.key, credentials)


for address in ADDRESSES:
    bp.add_url_rule(address, view_func=useradd, methods=["POST"], provide_automatic_options=False)


def _read(here: _AppCtxGlobals, request: Request, parts: Tools) -> NewUser:
    """Return what the client asks for, or raise what is wrong with it; the attempt keeps what was sent."""
    attempt: NewAttempt = here.attempt
    told: WSGIEnvironment = request.environ  # werkzeug's headers raise and catch an exception for each that is missing
    if told.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
        raise RefusalError("unsupported_media_type", "encoded")
    if not _JSON.fullmatch(request.mimetype):
        raise RefusalError("unsupported_media_type")
    here.key = key = _key(told.get("HTTP_IDEMPOTENCY_KEY"))
    attempt.key_hash = hash_key(key)
    if here.arrival.waited_s > PATIENCE_S:
        raise OverloadedError
    body = parse_object(request.get_data(cache=False))
    attempt.keep_body(body)
    here.intent = attempts.begin(parts.spool, attempt)
    new_user: NewUser = user_add_schema(parts.config.phone_region).load(body)
    return new_user


def _key(given: str | None) -> str:
    """Return the client's idempotency key, or a fresh one that the answer will name."""
    if given is None:
        return new_key()
    match = _KEY.fullmatch(given.strip())
    if match is None:
        raise RefusalError("bad_idempotency_key")
    return match[1]


def _created(request: Request, key: str, credentials: Credentials) -> Answer:
    user = credentials.user
    root = f"{request.scheme}://{request.host}{request.script_root}"
    answer = _answer(
        {
            "login": credentials.login,
            "password": credentials.password,
            "user": {
                "id": str(user.id),
                "name": user.name,
                "username": user.username,
                "phone": user.phone,
                "email": user.email,
                "birth_date": user.birth_date and user.birth_date.isoformat(),
                "created_at": local(user.created_at).isoformat(timespec="milliseconds"),
            },
            "attempt_id": str(request_id()),
            "idempotency_key": key,
            "links": {"login": f"{root}/login/", "results": f"{root}/results/"},
        },
        201,
    )
    answer.headers["Location"] = f"{request.script_root}/results/{user.id}/"
    if credentials.replayed:
        answer.headers["Idempotent-Replayed"] = "true"
    return answer


def _checked(new_user: NewUser) -> Answer:
    """Record and answer a dry run that found nothing wrong."""
    g.code = CHECKED
    recorded = attempts.record(tools().database, tools().spool, g.attempt, status=200, code=CHECKED)
    return _answer(_normalized(new_user) | ({} if recorded else {"recorded": False}), 200)


def _normalized(new_user: NewUser) -> dict[str, object]:
    normalized = {
        "name": new_user.name,
        "username": new_user.username,
        "phone": new_user.phone,
        "email": new_user.email,
        "birth_date": new_user.birth_date and new_user.birth_date.isoformat(),
    }
    return {"valid": True, "normalized": normalized, "attempt_id": str(g.attempt.id)}


def _answer(body: dict[str, object], status: int) -> Answer:
    return Answer(_encode(body) + "\n", status, mimetype="application/json")
