"""Confirmation of changes; asks for the password unless it was entered recently."""

import secrets
from dataclasses import dataclass

from flask import flash, render_template, session
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from wtforms import Form, HiddenField, PasswordField

from project.http import reauthentication
from project.http.translations import gettext

MAX_SENT = 8
"""Forms that a session remembers."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Texts of a confirmation page, and the message shown after the change."""

    title: str
    explanation: str
    button: str
    done: str = ""


class ConfirmForm(Form):
    """Form that confirms a sensitive action. CSRFProtect has checked its token."""

    password = PasswordField(_("Your password"))
    once = HiddenField(default=lambda: secrets.token_urlsafe(12))
    """Names the form: reloading the response sends the same form again."""


def ask(confirmation: Confirmation, name: str, back: str, form: ConfirmForm) -> ResponseReturnValue:
    """Return the confirmation page, whose form sends a POST to the same address."""
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
    """Return whether the password was entered recently or is correct now; else set form errors."""
    if not reauthentication.is_required() or reauthentication.verify(form.password.data or ""):
        return True
    error = gettext("This is not your password.") if form.password.data else gettext("Enter your password.")
    form.password.errors = [error]
    return False


def is_sent_again(form: ConfirmForm) -> bool:
    """Return whether this form was sent before, and say so on the next page; remember it.

    A response with a secret is not redirected, since the secret would have to be kept until then.
    """
    sent: list[str] = session.get("sent", [])
    if not form.once.data:
        return False
    if form.once.data in sent:
        flash(gettext("This form was sent already. What it created was shown once."), "bad")
        return True
    session["sent"] = [*sent[1 - MAX_SENT :], form.once.data]
    return False
