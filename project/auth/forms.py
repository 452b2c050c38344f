"""Forms of the auth door."""

from flask_babel import lazy_gettext as _
from flask_wtf import FlaskForm
from wtforms import PasswordField, StringField
from wtforms.validators import EqualTo, InputRequired


class LoginForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Login and password, with the CSRF token that Flask-WTF adds."""

    login = StringField(_("Login"), [InputRequired()])
    password = PasswordField(_("Password"), [InputRequired()])


class PasswordForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """The password that holds, and the one that shall, twice."""

    current = PasswordField(_("Current password"), [InputRequired(_("Enter the current password."))])
    chosen = PasswordField(_("New password"), [InputRequired(_("Enter the new password."))])
    repeated = PasswordField(_("New password again"), [EqualTo("chosen", _("The two new passwords are not the same."))])
