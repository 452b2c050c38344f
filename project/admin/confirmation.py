"""Pages that confirm sensitive actions with re-authentication, or show a secret once."""

import re
import time
from dataclasses import dataclass

from flask import redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from wtforms import Form, HiddenField, PasswordField

from project.domain.passwords import new_idempotency_key
from project.http import reauthentication
from project.http.translations import gettext

SECRET_SHOWN_S = 60
"""Seconds for which a new password or API key can be shown."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The texts of a confirmation page.

    `done` is the message after the action, "" if there is none.
    """

    title: str
    explanation: str
    button: str
    done: str = ""


class ConfirmForm(Form):
    """A form that confirms a sensitive action. Its CSRF token is checked before any view runs."""

    password = PasswordField(_("Your password"))
    once = HiddenField(default=new_idempotency_key)
    """Derivation key of the new password or API key: if the form is sent twice, both requests issue the same secret."""


def render_confirmation(confirmation: Confirmation, name: str, back_url: str, form: ConfirmForm) -> ResponseReturnValue:
    """Return a confirmation page with a form that posts to the same address.

    `name` replaces `%(name)s` in the title; the cancel link leads to `back_url`.
    """
    page = render_template(
        "admin/confirmation.html",
        confirmation=confirmation,
        title=confirmation.title % {"name": name},
        back=back_url,
        form=form,
        asks_password=reauthentication.is_required(),
    )
    return page, 422 if form.errors else 200


def reauthenticate(form: ConfirmForm) -> bool:
    """Return whether the password was entered recently or is correct.

    If it is correct, the session stores the time; if not, form errors are set. Raises RateLimitedError after too many
    wrong passwords.
    """
    if not reauthentication.is_required() or reauthentication.verify_password(form.password.data or ""):
        return True
    error = gettext("This is not your password.") if form.password.data else gettext("Enter your password.")
    form.password.errors = [error]
    return False


def redirect_to_secret(key: str, name: str) -> ResponseReturnValue:
    """Redirect to the same address with GET, which shows the secret derived from `key` once.

    `name` is the login of the secret's user, or the name of the API key. The session cookie contains `key`, but not the
    setting PASSWORD_SECRET, without which the secret cannot be derived.
    """
    session["issued"] = {"path": request.path, "key": key, "name": name, "at": int(time.time())}
    return redirect(request.full_path.rstrip("?"))


def find_pending_secret() -> tuple[str, str] | None:
    """Return the key and name that redirect_to_secret() stored for this page.

    Returns None if there are none, after SECRET_SHOWN_S, and for other methods than GET.
    """
    pending = session.get("issued")
    if request.method != "GET" or not pending or pending["path"] != request.path:
        return None
    return None if time.time() - pending["at"] > SECRET_SHOWN_S else (pending["key"], pending["name"])


def render_secret(title: str, secret: str, back_url: str, *, has_example: bool) -> ResponseReturnValue:
    """Return a page that shows a secret; `has_example` adds an example request with an API key.

    Removes the secret's key from the session: if the page is reloaded, it shows the form instead.
    """
    session.pop("issued")
    return render_template("admin/secret.html", title=title, secret=secret, back=back_url, example=has_example)


def derivation_key(form: ConfirmForm) -> str:
    """Return the derivation key in the form, or a new key if the form has no valid one."""
    key = form.once.data or ""
    return key if re.fullmatch(r"[\w-]{16,64}", key, re.ASCII) else new_idempotency_key()
