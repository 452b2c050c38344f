"""Logging in and out."""

import logging
import re

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from project.auth.forms import LoginForm
from project.services import login as service
from project.web import limits, sessions
from project.web.guards import open_to_all
from project.web.tools import tools

bp = Blueprint("auth", __name__)
log = logging.getLogger(__name__)

_OWN_PAGE = re.compile(r"/(?:results|swagger|admin|account)/[\w./-]*(?:\?[\w.~%&=+:-]*)?", re.ASCII)
"""Where a login may lead. An allow-list, because browsers read `/\\evil`, `///evil` and tabs in their own way."""


@bp.route("/login/", methods=["GET", "POST"])
@open_to_all
def login() -> ResponseReturnValue:
    """Show the form; open a session for a login and its password. A miss does not tell which of them was wrong."""
    form = LoginForm(request.form)  # without request.files: a file in place of a text is no text
    if request.method != "POST":
        return render_template("auth/login.html", form=form, refused=False)
    account, guesses = None, limits.Guesses.of_login(form.login.data or "")
    guesses.check()
    if form.validate():
        config = tools().config
        account = service.authenticate(
            tools().database, tools().passwords, form.login.data or "", form.password.data or "", config.phone_region
        )
    if account is None:
        guesses.note()
        log.warning("login refused")
        return render_template("auth/login.html", form=form, refused=True), 401
    sessions.begin(account)
    log.info("login accepted", extra={"user_id": str(account.id)})
    return redirect(_destination())


@bp.post("/logout/")
@open_to_all
def logout() -> ResponseReturnValue:
    """End every session of the reader."""
    sessions.end()
    return redirect(url_for("auth.login"))


def _destination() -> str:
    wanted = request.args.get("next", "")
    return wanted if _OWN_PAGE.fullmatch(wanted) else url_for("reports.results")
