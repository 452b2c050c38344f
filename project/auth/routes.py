"""Logging in and out."""

import logging
import re

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from project.auth.forms import LoginForm
from project.http import rate_limits, sessions
from project.http.guards import public
from project.runtime import get_runtime
from project.services import login as service

bp = Blueprint("auth", __name__)
log = logging.getLogger(__name__)

_OWN_PAGE = re.compile(r"/(?:results|swagger|admin|account)/[\w./-]*(?:\?[\w.~%&=+:-]*)?", re.ASCII)
"""Where a login may lead. An allow-list, because browsers read `/\\evil`, `///evil` and tabs in their own way."""


@bp.route("/login/", methods=["GET", "POST"])
@public
def login() -> ResponseReturnValue:
    """Show the form; open a session for a login and its password. A miss does not tell which of them was wrong."""
    form = LoginForm(request.form)  # without request.files: a file in place of a text is no text
    if request.method != "POST":
        return render_template("auth/login.html", form=form, refused=False)
    account, throttle = None, rate_limits.PasswordThrottle.of_login(form.login.data or "")
    throttle.check()
    if form.validate():
        config = get_runtime().config
        account = service.authenticate(
            get_runtime().database,
            get_runtime().passwords,
            form.login.data or "",
            form.password.data or "",
            config.phone_region,
        )
    if account is None:
        throttle.record_failure()
        log.warning("login failed")
        return render_template("auth/login.html", form=form, refused=True), 401
    sessions.begin(account)
    log.info("login succeeded", extra={"user_id": str(account.id)})
    return redirect(_destination())


@bp.post("/logout/")
@public
def logout() -> ResponseReturnValue:
    """End every session of the reader."""
    sessions.end()
    return redirect(url_for("auth.login"))


def _destination() -> str:
    wanted = request.args.get("next", "")
    return wanted if _OWN_PAGE.fullmatch(wanted) else url_for("reports.results")
