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

SHOWN_S = 60
"""Seconds after which an issued secret is no longer shown."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The texts of a confirmation page, and the message after the change."""

    title: str
    explanation: str
    button: str
    done: str = ""


class ConfirmForm(Form):
    """A form that confirms a sensitive action. CSRFProtect has checked its CSRF token."""

    password = PasswordField(_("Your password"))
    once = HiddenField(default=new_key)
    """The key from which an issued secret is derived, so that a form that is sent twice issues the same secret."""


def render_confirmation(confirmation: Confirmation, name: str, back: str, form: ConfirmForm) -> ResponseReturnValue:
    """Return a confirmation page, whose form sends a POST to the same address."""
    page = render_template(
        "admin/confirmation.html",
        confirmation=confirmation,
        title=confirmation.title % {"name": name},
        back=back,
        form=form,
        asks_password=reauthentication.is_required(),
    )
    return page, 422 if form.errors else 200


def is_reauthenticated(form: ConfirmForm) -> bool:
    """Return whether the password was entered recently or is correct; if not, set form errors."""
    if not reauthentication.is_required() or reauthentication.verify(form.password.data or ""):
        return True
    error = gettext("This is not your password.") if form.password.data else gettext("Enter your password.")
    form.password.errors = [error]
    return False


def redirect_to_issued(key: str, name: str) -> ResponseReturnValue:
    """Redirect to the same address with GET, which shows the secret derived from this key once.

    The session contains the key. Without PASSWORD_SECRET, nobody can derive the secret from it.
    """
    session["issued"] = {"path": request.path, "key": key, "name": name, "at": int(time.time())}
    return redirect(request.full_path.rstrip("?"))


def issued() -> tuple[str, str] | None:
    """Return derivation key and name of the secret that this page has to show, or None."""
    kept = session.get("issued")
    if request.method != "GET" or not kept or kept["path"] != request.path or time.time() - kept["at"] > SHOWN_S:
        return None
    return kept["key"], kept["name"]


def show_issued(title: str, secret: str, back: str, *, example: bool) -> ResponseReturnValue:
    """Return the page that shows a secret. If it is reloaded, the form is shown instead."""
    session.pop("issued")
    return render_template("admin/secret.html", title=title, secret=secret, back=back, example=example)


def key_of(form: ConfirmForm) -> str:
    """Return the key of a form, or a new key if it is missing or invalid."""
    key = form.once.data or ""
    return key if re.fullmatch(r"[\w-]{16,64}", key, re.ASCII) else new_key()
