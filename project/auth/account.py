"""The account page of the logged-in user: personal data and password."""

from collections.abc import Mapping

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _

from project.auth.forms import ChangePasswordForm
from project.auth.routes import bp
from project.domain.password_policy import WeakPasswordError
from project.domain.passwords import MAX_LENGTH, MIN_CHOSEN_LENGTH
from project.domain.registration import User
from project.http import rate_limits, sessions
from project.http.request_state import request_state
from project.http.translations import gettext
from project.runtime import get_runtime
from project.services import users as service

WEAKNESS_TEXTS: Mapping[str, str] = {
    "short": _("Use at least %(least)s characters.", least=MIN_CHOSEN_LENGTH),
    "long": _("Use at most %(most)s characters.", most=MAX_LENGTH),
    "own": _("Do not use your login, e-mail address or phone number: attackers try them first."),
    "common": _("This password is too easy to guess. Use several unrelated words."),
}


@bp.route("/account/", methods=["GET", "POST"])
def account() -> ResponseReturnValue:
    """Show the logged-in user's data (GET) or change the password (POST)."""
    user = service.find_user(get_runtime().database, request_state().account.id)
    if user is None:
        abort(404)
    form = ChangePasswordForm(request.form)
    if request.method != "POST":
        return render_template("auth/account.html", user=user, form=form, least=MIN_CHOSEN_LENGTH)
    if form.validate() and _change_password(form, user):
        flash(gettext("The password was changed. You have been logged out on all other devices."), "ok")
        return redirect(url_for("auth.account"))
    return render_template("auth/account.html", user=user, form=form, least=MIN_CHOSEN_LENGTH), 422


def _change_password(form: ChangePasswordForm, user: User) -> bool:
    """Change the password and start a new session, or set form errors and return False.

    Raises RateLimitedError after too many wrong passwords.
    """
    current, new = form.current.data or "", form.new.data or ""
    runtime, account = get_runtime(), request_state().account
    try:
        with rate_limits.PasswordThrottle() as throttle:
            throttle.consume_accounts(str(user.id))
            try:
                changed = service.change_password(runtime.database, runtime.passwords, account, user, current, new)
            except service.WrongPasswordError:
                throttle.record_failure()
                raise
    except service.WrongPasswordError:
        form.current.errors = [gettext("This is not your current password.")]
    except WeakPasswordError as error:
        form.new.errors = [str(WEAKNESS_TEXTS[error.reason])]
    else:
        sessions.start_session(changed)
        return True
    return False
