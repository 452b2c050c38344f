"""Forms of the auth door. What guards them against forgery is checked before any view (CSRFProtect)."""

from flask_babel import lazy_gettext as _
from wtforms import Form, PasswordField, StringField
from wtforms.validators import EqualTo, InputRequired


class LoginForm(Form):
    """Login and password."""

    login = StringField(_("Login"), [InputRequired()])
    password = PasswordField(_("Password"), [InputRequired()])


class PasswordForm(Form):
    """The password that holds, and the one that shall, twice."""

    current = PasswordField(_("Current password"), [InputRequired(_("Enter the current password."))])
    chosen = PasswordField(_("New password"), [InputRequired(_("Enter the new password."))])
    repeated = PasswordField(_("New password again"), [EqualTo("chosen", _("The two new passwords are not the same."))])
