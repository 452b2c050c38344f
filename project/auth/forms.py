"""Forms of the auth blueprint. CSRFProtect checks their tokens before any view."""

from flask_babel import lazy_gettext as _
from wtforms import Form, PasswordField, StringField
from wtforms.validators import EqualTo, InputRequired


class LoginForm(Form):
    """Login and password."""

    login = StringField(_("Login"), [InputRequired()])
    password = PasswordField(_("Password"), [InputRequired()])


class PasswordForm(Form):
    """Current password, new password, confirmation."""

    current = PasswordField(_("Current password"), [InputRequired(_("Enter the current password."))])
    new = PasswordField(_("New password"), [InputRequired(_("Enter the new password."))])
    confirmation = PasswordField(_("Confirm the new password"), [EqualTo("new", _("The new passwords do not match."))])
