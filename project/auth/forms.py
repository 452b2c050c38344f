"""Forms for login and password. CSRFProtect checks their CSRF tokens before any view runs."""

from flask_babel import lazy_gettext as _
from wtforms import Form, PasswordField, StringField
from wtforms.validators import EqualTo, InputRequired


class LoginForm(Form):
    """Form for login and password."""

    login = StringField(_("Login"), [InputRequired()])
    password = PasswordField(_("Password"), [InputRequired()])


class ChangePasswordForm(Form):
    """Form for the current password, a new password and its confirmation."""

    current = PasswordField(_("Current password"), [InputRequired(_("Enter the current password."))])
    new = PasswordField(_("New password"), [InputRequired(_("Enter the new password."))])
    confirmation = PasswordField(_("Confirm the new password"), [EqualTo("new", _("The new passwords do not match."))])
