"""Forms of the auth door."""

from flask_babel import lazy_gettext as _
from flask_wtf import FlaskForm
from wtforms import PasswordField, StringField
from wtforms.validators import InputRequired


class LoginForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """Login and password, with the CSRF token that Flask-WTF adds."""

    login = StringField(_("Login"), [InputRequired()])
    password = PasswordField(_("Password"), [InputRequired()])
