"""Views for logging in and out."""

import logging
import re

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user
from flask_wtf.csrf import CSRFError

from project.auth.forms import LoginForm
from project.contract import problems
from project.domain.errors import RefusalError
from project.domain.registration import Account
from project.http import rate_limits, sessions
from project.http.guards import public
from project.http.negotiation import prefers_page
from project.http.query_parameters import page_parameters
from project.http.translations import gettext
from project.runtime import get_runtime
from project.services import login as service

bp = Blueprint("auth", __name__)
log = logging.getLogger(__name__)

_QUERY_PATTERN = r"(?P<query>\?[\w.~%&=+:-]*)?"
_NEXT_PATH = re.compile(rf"/(?:results|swagger|admin|account)/[\w./-]*{_QUERY_PATTERN}", re.ASCII)
"""Matches a path to which a login may redirect. Strict, because browsers may take `/\\evil` or `///evil` for a host."""
_DOWNLOAD_PATH = re.compile(rf"/results/export\.\w+{_QUERY_PATTERN}", re.ASCII)


@bp.route("/login/", methods=["GET", "POST"])
@public
@page_parameters("next")
def login() -> ResponseReturnValue:
    """Show the form (GET) or log a user in (POST).

    Errors do not reveal whether the login or the password was wrong. Raises RateLimitedError.
    """
    form = LoginForm(request.form)
    if request.method != "POST":
        return render_template("auth/login.html", form=form, refused=False)
    with rate_limits.PasswordThrottle() as throttle:
        account = _authenticate(form, throttle) if form.validate() else None
        if account is None:
            throttle.record_failure()
            log.warning("login failed")
            return render_template("auth/login.html", form=form, refused=True), 401
    sessions.start_session(account)
    get_runtime().activity.record_login(account.id)
    log.info("login succeeded", extra={"user_id": str(account.id)})
    return redirect(_destination())


def _authenticate(form: LoginForm, throttle: rate_limits.PasswordThrottle) -> Account | None:
    runtime, login = get_runtime(), form.login.data or ""
    accounts = service.find_accounts(runtime.database, login, runtime.config.phone_region)
    throttle.consume_login(login)
    return service.authenticate(runtime.passwords, accounts, form.password.data or "")


@bp.post("/logout/")
@public
def logout() -> ResponseReturnValue:
    """End all sessions of the user and redirect to the login page."""
    sessions.log_out()
    return redirect(url_for("auth.login"))


@bp.app_errorhandler(CSRFError)
def handle_csrf_error(error: CSRFError) -> ResponseReturnValue:
    """Handle a CSRF error: show the form again, or redirect if already logged in or out.

    Usually another tab has logged in or out, or the browser has lost the session cookie. Programs, and forms without a
    page of their own, get a problem response.
    """
    if not prefers_page():
        return problems.respond(error)
    try:
        is_logged_in = current_user.is_authenticated
    except RefusalError as unavailable:
        return problems.respond(unavailable)
    methods = request.url_rule.methods if request.url_rule else None
    if request.endpoint == "auth.login" and is_logged_in:
        return redirect(_destination())
    if request.endpoint == "auth.logout" and not is_logged_in:
        return redirect(url_for("auth.login"))
    if request.endpoint != "auth.logout" and "GET" not in (methods or ()):
        return problems.respond(error)
    flash(gettext("The form had expired. Please send it again."), "bad")
    return redirect(url_for("auth.account") if request.endpoint == "auth.logout" else request.full_path.rstrip("?"))


def _destination() -> str:
    """Return the path to redirect to after a login: `?next=`, by default the results page.

    If `next` is a download, stores it in the session and returns the results page, which then starts the download.
    """
    next_path = request.args.get("next", "")
    if match := _DOWNLOAD_PATH.fullmatch(next_path):
        sessions.offer_download(next_path)
        return url_for("reports.results") + (match["query"] or "")
    return next_path if _NEXT_PATH.fullmatch(next_path) else url_for("reports.results")
