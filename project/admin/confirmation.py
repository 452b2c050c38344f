"""Confirmation pages and forms, re-authentication, and pages that show a secret once."""

import re
import time
from dataclasses import dataclass

from flask import redirect, render_template, request, session
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from wtforms import Form, HiddenField, PasswordField

from project.domain.passwords import new_key
from project.http import reauthentication
from project.http.translations import gettext

SECRET_SHOWN_S = 60
"""Seconds after which a new password or API key is no longer shown."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The texts of a confirmation page; `done` is the message after the change."""

    title: str
    explanation: str
    button: str
    done: str = ""


class ConfirmForm(Form):
    """A form that confirms a sensitive action. CSRFProtect has checked its CSRF token."""

    password = PasswordField(_("Your password"))
    once = HiddenField(default=new_key)
    """Key from which the new password or API key is derived: a form that is sent twice issues the same secret."""


def render_confirmation(confirmation: Confirmation, name: str, back_url: str, form: ConfirmForm) -> ResponseReturnValue:
    """Return a confirmation page, whose form sends a POST to the same address.

    `name` replaces `%(name)s` in its title, and `back_url` is the address of its cancel link.
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
    """Return whether the password was entered recently or is correct; if not, set form errors."""
    if not reauthentication.is_required() or reauthentication.verify_password(form.password.data or ""):
        return True
    error = gettext("This is not your password.") if form.password.data else gettext("Enter your password.")
    form.password.errors = [error]
    return False


def redirect_to_secret(key: str, name: str) -> ResponseReturnValue:
    """Redirect to the same address with GET, which shows once the secret derived from `key`.

    `name` is the name of the user or API key to which the secret belongs. The session cookie contains `key`, but
    deriving the secret from it also takes PASSWORD_SECRET.
    """
    session["issued"] = {"path": request.path, "key": key, "name": name, "at": int(time.time())}
    return redirect(request.full_path.rstrip("?"))


def find_pending_secret() -> tuple[str, str] | None:
    """Return the arguments of redirect_to_secret() if it redirected to this page, or None."""
    pending = session.get("issued")
    if request.method != "GET" or not pending or pending["path"] != request.path:
        return None
    return None if time.time() - pending["at"] > SECRET_SHOWN_S else (pending["key"], pending["name"])


def render_secret(title: str, secret: str, back_url: str, *, example: bool) -> ResponseReturnValue:
    """Return a page that shows a secret, with an example request for an API key if `example`.

    A reload of the page shows the form instead.
    """
    session.pop("issued")
    return render_template("admin/secret.html", title=title, secret=secret, back=back_url, example=example)


def derivation_key(form: ConfirmForm) -> str:
    """Return the value of the field `once`, or a new key if it is missing or invalid."""
    key = form.once.data or ""
    return key if re.fullmatch(r"[\w-]{16,64}", key, re.ASCII) else new_key()
