"""Session cookies: login, expiry and revocation of sessions."""

import time
from typing import Any
from uuid import UUID

from flask import Flask, Request, Response, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask_login import UserMixin, current_user, login_user, logout_user
from itsdangerous import SignatureExpired, TimestampSigner, URLSafeTimedSerializer
from werkzeug.wrappers import Response as BaseResponse

from project.domain.errors import DatabaseUnavailableError, OverloadedError, RefusalError
from project.domain.registration import Account, Role
from project.extensions import login_manager
from project.http.guards import allows_api_keys, can_work_in_outage
from project.http.negotiation import prefers_page
from project.http.request_state import request_state
from project.runtime import get_runtime
from project.services import login as service

IDLE_TIMEOUT_S = 30 * 60
"""Seconds without a request after which a session expires (ASVS 5.0.0, 7.3.1)."""
ABSOLUTE_TIMEOUT_S = 12 * 3600
"""Seconds after the login after which a session expires (ASVS 5.0.0, 7.3.2)."""
_SEEN_EVERY_S = 60
"""Minimum seconds between updates of the last visit in the session, so that few responses set the cookie."""
CLOCK_TOLERANCE_S = 60
"""Maximum seconds by which a signature may be from the future, because the clocks of instances differ."""


class SessionUser(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """A logged-in user. Increasing the counter `account.epoch` ends all sessions of the user."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def get_id(self) -> str:
        """Return the value that the session cookie stores: user ID and epoch."""
        return f"{self.account.id}.{self.account.epoch}"


class _Signer(TimestampSigner):
    """A signer that also accepts signatures up to CLOCK_TOLERANCE_S in the future."""

    def unsign(self, signed_value: str | bytes, max_age: int | None = None, return_timestamp: bool = False) -> Any:
        """Return the signed value. Raises BadSignature or its subclass SignatureExpired."""
        value, signed_at = super().unsign(signed_value, return_timestamp=True)
        age_s = time.time() - signed_at.timestamp()
        if age_s < -CLOCK_TOLERANCE_S or (max_age is not None and age_s > max_age):
            raise SignatureExpired("signed in the future, or too long ago")
        return (value, signed_at) if return_timestamp else value


class SecureSessionInterface(SecureCookieSessionInterface):
    """A session interface that sets Secure cookies with the prefix `__Host-`.

    It sets them under https, and always if HTTPS_ONLY is set.
    """

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        """Return Flask's serializer, changed to sign with _Signer; None without a secret key."""
        serializer = super().get_signing_serializer(app)
        if serializer is not None:
            serializer.signer = _Signer
        return serializer

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Return the session in the cookie, or a new empty session without a valid cookie.

        Returns None without a secret key.
        """
        if "HTTP_COOKIE" not in request.environ or self.get_cookie_name(app) not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Save the session if it was accessed in this request."""
        if session.accessed or session.modified:
            super().save_session(app, session, response)

    def get_cookie_name(self, app: Flask) -> str:
        """Return the cookie name. With `__Host-`, no other host can set it (RFC 6265bis, 4.1.3.2)."""
        return "__Host-session" if self.get_cookie_secure(app) else "session"

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return whether the cookie is Secure: with https, and always if HTTPS_ONLY is set."""
        return request.is_secure or get_runtime().config.https_only


def init_app(app: Flask) -> None:
    """Register sessions and the login manager; pass the function `cookie_login` to templates."""
    app.session_interface = SecureSessionInterface()
    app.config.update(SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax", SESSION_REFRESH_EACH_REQUEST=False)
    login_manager.session_protection = None  # it marks sessions as stale, which nothing here uses
    login_manager.init_app(app, add_context_processor=False)
    login_manager.user_loader(_load_user)
    login_manager.unauthorized_handler(_handle_unauthorized)
    app.context_processor(lambda: {"cookie_login": _cookie_login})
    app.after_request(_record_visit)


def start_session(account: Account) -> None:
    """Log a user in with a new session, without data of the previous one (ASVS 5.0.0, 7.2.4)."""
    session.clear()
    login_user(SessionUser(account))
    session["began"] = session["seen"] = session["proved"] = int(time.time())
    session["name"], session["role"] = account.username, account.role


def log_out() -> None:
    """Log the user out and end all sessions of the user, so that copied cookies become invalid."""
    if current_user.is_authenticated:
        service.end_sessions(get_runtime().database, current_user.account.id)
    logout_user()
    session.clear()


def offer_download(url: str) -> None:
    """Store the address of a download, which the results page starts when it is next shown."""
    session["download"] = url


def pop_download() -> str | None:
    """Remove the address stored by offer_download() and return it; None if there is none."""
    if "download" not in session:  # session.pop() would make every page set the cookie
        return None
    download: str = session.pop("download")
    return download


def _load_user(session_id: str) -> SessionUser | None:
    """Return the user of a session; None if the session has ended or the user is blocked.

    Reads the primary through the pool of /useradd, because the pool of statistics has few connections. If PostgreSQL is
    unavailable, returns the user in the cookie for views that work in an outage; for other views, the error propagates.
    """
    if _has_expired():
        return None
    user_id, _, epoch = session_id.partition(".")
    try:
        account = service.find_account(get_runtime().database, UUID(user_id))
    except (DatabaseUnavailableError, OverloadedError):
        if "role" not in session or not can_work_in_outage(request.endpoint):
            raise
        return SessionUser(_account_from_cookie(UUID(user_id), int(epoch)))
    if account is None or not account.is_active or str(account.epoch) != epoch:
        return None
    return SessionUser(account)


def _account_from_cookie(user_id: UUID, epoch: int) -> Account:
    """Return the account with the name and role that it had at login, from the session cookie."""
    name, role = session["name"], Role(session["role"])
    return Account(id=user_id, username=name, password_hash="", epoch=epoch, is_active=True, role=role)


def _cookie_login() -> str | None:
    """Return the user's login from the session cookie, for error pages; None if not logged in."""
    return session["name"] if "name" in session and not _has_expired() else None


def _has_expired() -> bool:
    now = time.time()
    seen, began = int(session.get("seen", 0)), int(session.get("began", 0))
    return now - seen > IDLE_TIMEOUT_S or now - began > ABSOLUTE_TIMEOUT_S


def _record_visit(response: Response) -> Response:
    is_logged_in = request_state().reader is not None and "_user_id" in session
    if is_logged_in and time.time() - session["seen"] > _SEEN_EVERY_S and _is_made_by_person():
        session["seen"] = int(time.time())
    return response


def _is_made_by_person() -> bool:
    """Return whether a person made the request; an open page polls even in the user's absence."""
    return request.headers.get("HX-Request-Type") != "partial"


def _handle_unauthorized() -> BaseResponse:
    """Redirect browsers to the login page; refuse programs and polling pages with 401.

    If redirected, a program would save the login page as the requested file. Raises RefusalError for programs.
    """
    if request.path.startswith("/api/") or (allows_api_keys(request.endpoint) and not prefers_page()):
        raise RefusalError("unauthorized", "session")
    match request.headers.get("HX-Request-Type"):
        case "partial":
            return Response(render_template("layout/_session_ended.html"), 401)
        case "full":
            return Response("", 401, {"HX-Refresh": "true"})
    destination = request.full_path.rstrip("?") if request.method in {"GET", "HEAD"} else None
    return redirect(url_for("auth.login", next=destination))
