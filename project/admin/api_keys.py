"""API keys: making one, whose value is shown once, and revoking."""

from uuid import UUID

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from wtforms import StringField

from project.admin.tables import Confirmation, ConfirmForm, Table, route
from project.contract.error_codes import message_text
from project.domain.api_keys import check_name
from project.domain.errors import FieldError, RuleError
from project.http.request_state import request_state
from project.http.translations import gettext
from project.models import ApiKey
from project.runtime import get_runtime
from project.services import api_keys as service

REVOKE = Confirmation(
    _("Revoke the key “%(name)s”?"),
    _("Programs that use it are refused within seconds. It cannot be taken back: one would make a new key."),
    _("Revoke"),
    _("The key “%(name)s” is revoked."),
)


class KeyForm(ConfirmForm):
    """What a new key is called."""

    name = StringField(_("What for"))


class ApiKeysView(Table):
    """All keys, revoked ones too; the keys themselves are nowhere."""

    addresses = Table.addresses | {"create", "revoke"}
    title = _("API keys")
    column_list = ("name", "created_at", "last_used", "revoked_at")
    list_template = "admin/api_keys.html"

    def __init__(self) -> None:
        super().__init__(ApiKey, "api_keys", "api-keys")

    @property
    def is_required(self) -> bool:
        """Whether users can be created with a key only."""
        return get_runtime().config.api_keys_required

    @route("/new/", methods=("GET", "POST"))
    def create(self) -> ResponseReturnValue:
        """Make a key and show it, this once."""
        form = KeyForm(request.form)
        name = self._checked_name(form) if form.validate_on_submit() else None
        if name is None or not self.is_proved(form):
            return self.render("admin/new_api_key.html", form=form), 422 if form.errors else 200
        issued = service.issue(get_runtime().database, name, request_state().account.id)
        title, back = gettext("New key: %(name)s", name=issued.name), url_for("api_keys.index_view")
        return self.render("admin/secret.html", title=title, secret=issued.key, back=back, example=True)

    def _checked_name(self, form: KeyForm) -> str | None:
        """Return the name for a key, or say beside the field what is wrong with it."""
        try:
            return check_name(form.name.data or "")
        except RuleError as error:
            form.name.errors = [message_text(FieldError("name", error.code, error.variant, error.params))]
        return None

    @route("/<uuid:key_id>/revoke/", methods=("GET", "POST"))
    def revoke(self, key_id: UUID) -> ResponseReturnValue:
        """Ask, then make a key void."""
        back = url_for("api_keys.index_view")
        form = ConfirmForm(request.form)
        if request.method != "POST" or not self.is_proved(form):
            key = self.get_one(key_id)
            if key is None:
                abort(404)
            return self.ask(REVOKE, key.name, back, form)
        name = service.revoke(get_runtime().database, key_id, request_state().account.id)
        flash(REVOKE.done % {"name": name}, "ok")
        return redirect(back)
