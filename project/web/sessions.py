"""Session cookies: who is logged in, since when, and when it must end."""

import time
from uuid import UUID

from flask import Flask, Request, Response, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask_login import UserMixin, current_user, login_user, logout_user
from werkzeug.wrappers import Response as BaseResponse

from project.domain.errors import RefusalError
from project.domain.registration import Account
from project.extensions import login_manager
from project.services import login as service
from project.web.context import this_g
from project.web.tools import tools

IDLE_S = 30 * 60
"""ASVS 5.0.0, 7.3.1."""
ABSOLUTE_S = 12 * 3600
"""ASVS 5.0.0, 7.3.2."""
_SEEN_EVERY_S = 60
"""How exactly the last visit is kept: a new cookie once a minute, not with each answer."""


class Reader(UserMixin):  # type: ignore[misc]  # Flask-Login has no types
    """Who is logged in. The id in the cookie names the epoch too: a session of an older epoch is void."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def get_id(self) -> str:
        """Return what the cookie keeps."""
        return f"{self.account.id}.{self.account.epoch}"

    @property
    def username(self) -> str:
        """Login as its owner typed it."""
        return self.account.username

    @property
    def is_admin(self) -> bool:
        """Whether the administrators' pages are open to this reader."""
        return self.account.is_admin


class Sessions(SecureCookieSessionInterface):
    """Cookies are `__Host-`, Secure wherever https is; plain http, as on one's own machine, goes without."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """A program brings no cookie: its empty session costs nothing."""
        if "HTTP_COOKIE" not in request.environ or self.get_cookie_name(app) not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Nobody has looked at it: there is nothing to keep, and the answer does not depend on it."""
        if session.accessed or session.modified:
            super().save_session(app, session, response)

    def get_cookie_name(self, app: Flask) -> str:
        """A `__Host-` cookie cannot be set by another host or for another path (RFC 6265bis, 4.1.3.2)."""
        return "__Host-session" if self.get_cookie_secure(app) else "session"

    def get_cookie_secure(self, app: Flask) -> bool:
        """Never send a session in the clear once it began under https."""
        return request.is_secure or tools().config.https_only


def init_app(app: Flask) -> None:
    """Bind the login manager; an error page must not need the database to say who reads it."""
    app.session_interface = Sessions()
    app.config.update(SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Lax", SESSION_REFRESH_EACH_REQUEST=False)
    login_manager.session_protection = None  # it would mark sessions as stale, which nothing here asks about
    login_manager.init_app(app, add_context_processor=False)
    login_manager.user_loader(_load)
    login_manager.unauthorized_handler(_send_to_login)
    app.context_processor(lambda: {"known_as": _known_as})
    app.after_request(_note_visit)


def begin(account: Account) -> None:
    """Start a session that has nothing of the one before (ASVS 5.0.0, 7.2.4)."""
    session.clear()
    login_user(Reader(account))
    session["began"] = session["seen"] = session["proved"] = int(time.time())
    session["name"] = account.username


def end() -> None:
    """Log the reader out here and wherever else a copy of the cookie is."""
    if current_user.is_authenticated:
        service.end_sessions(tools().database, current_user.account.id)
    logout_user()
    session.clear()


def _load(kept: str) -> Reader | None:
    """Not by way of the statistics' few connections: who is logged in must be known at once, and as of now."""
    if _is_over():
        return None
    user_id, _, epoch = kept.partition(".")
    account = service.find(tools().database, UUID(user_id))
    if account is None or not account.is_active or str(account.epoch) != epoch:
        return None
    return Reader(account)


def _known_as() -> str | None:
    """Return whose session this says it is: all that can be told without the database. Nothing is opened by it."""
    return session["name"] if "name" in session and not _is_over() else None


def _is_over() -> bool:
    now = time.time()
    seen, began = int(session.get("seen", 0)), int(session.get("began", 0))
    return now - seen > IDLE_S or now - began > ABSOLUTE_S


def _note_visit(response: Response) -> Response:
    if "reader" in this_g() and "_user_id" in session and time.time() - session["seen"] > _SEEN_EVERY_S and _is_visit():
        session["seen"] = int(time.time())
    return response


def _is_visit() -> bool:
    """What an open page asks by itself is none: nobody may be there."""
    return request.headers.get("HX-Request-Type") != "partial"


def _send_to_login() -> BaseResponse:
    """A person is asked to log in and comes back; a program is told; a page that asks by itself is not replaced."""
    if request.path.startswith("/api/") and not request.path.startswith("/api/v1/download"):
        raise RefusalError("unauthorized", "session")
    match request.headers.get("HX-Request-Type"):
        case "partial":
            return Response(render_template("web/_ended.html"), 401)
        case "full":
            return Response("", 401, {"HX-Refresh": "true"})
    wanted = request.full_path.rstrip("?") if request.method in {"GET", "HEAD"} else None
    return redirect(url_for("auth.login", next=wanted))
