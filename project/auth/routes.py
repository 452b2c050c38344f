"""Views for logging in and out."""

import logging
import re

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from project.auth.forms import LoginForm
from project.domain.registration import Account
from project.http import rate_limits, sessions
from project.http.guards import public
from project.http.query_parameters import page_parameters
from project.runtime import get_runtime
from project.services import login as service

bp = Blueprint("auth", __name__)
log = logging.getLogger(__name__)

_NEXT_PATH = re.compile(r"/(?:results|swagger|admin|account)/[\w./-]*(?:\?[\w.~%&=+:-]*)?", re.ASCII)
"""Paths to which a login may redirect. A strict list, because browsers may take `/\\evil` or `///evil` for a host."""


@bp.route("/login/", methods=["GET", "POST"])
@public
@page_parameters("next")
def login() -> ResponseReturnValue:
    """Show the form (GET) or start a session (POST). Errors do not reveal what was wrong."""
    form = LoginForm(request.form)  # without request.files: a password is not a file
    if request.method != "POST":
        return render_template("auth/login.html", form=form, refused=False)
    with rate_limits.PasswordThrottle() as throttle:
        account = _authenticate(form, throttle) if form.validate() else None
        if account is None:
            throttle.record_failure()
            log.warning("login failed")
            return render_template("auth/login.html", form=form, refused=True), 401
    sessions.begin(account)
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
    sessions.end()
    return redirect(url_for("auth.login"))


def _destination() -> str:
    next_path = request.args.get("next", "")
    return next_path if _NEXT_PATH.fullmatch(next_path) else url_for("reports.results")
