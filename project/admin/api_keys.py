"""Administration pages that list, create and revoke API keys."""

from uuid import UUID

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from wtforms import StringField

from project.admin.confirmation import (
    Confirmation,
    ConfirmForm,
    is_reauthenticated,
    issued,
    key_of,
    redirect_to_issued,
    render_confirmation,
    show_issued,
)
from project.admin.routes import PAGE_SIZE, before, bp, list_state, render_list
from project.contract.error_codes import message_text
from project.domain.api_keys import derive_api_key, normalize_name
from project.domain.errors import RuleError
from project.http import reauthentication
from project.http.query_parameters import page_parameters
from project.http.request_state import request_state
from project.http.translations import gettext
from project.runtime import get_runtime
from project.services import api_keys as service

REVOKE = Confirmation(
    _("Revoke the key “%(name)s”?"),
    _("Programs that use it are refused within seconds. This cannot be undone; create a new key instead."),
    _("Revoke"),
    _("The key “%(name)s” is revoked."),
)


class KeyForm(ConfirmForm):
    """A form that creates an API key."""

    name = StringField(_("Purpose"))


@bp.get("/api-keys/")
@page_parameters("before")
def api_keys() -> ResponseReturnValue:
    """List all API keys, newest first, including revoked ones."""
    rows = service.find_page(get_runtime().read_database.primary, PAGE_SIZE + 1, before())
    values = {"is_required": get_runtime().config.api_keys_required, "came_from": list_state("before")}
    return render_list("admin/api_keys.html", rows, **values)


@bp.route("/api-keys/new/", methods=["GET", "POST"])
def create_api_key() -> ResponseReturnValue:
    """Show the form (GET), create an API key (POST), and after that show the key once (GET)."""
    runtime, form = get_runtime(), KeyForm(request.form)
    if kept := issued():
        api_key = derive_api_key(runtime.passwords, kept[0])
        if service.is_valid(runtime.database, api_key):
            title, back = gettext("New key: %(name)s", name=kept[1]), url_for("admin.api_keys")
            return show_issued(title, api_key, back, example=True)
    name = _checked_name(form) if request.method == "POST" else None
    if name is None or not is_reauthenticated(form):
        page = render_template("admin/new_api_key.html", form=form, asks_password=reauthentication.is_required())
        return page, 422 if form.errors else 200
    key = key_of(form)
    service.issue(runtime.database, name, request_state().account.id, derive_api_key(runtime.passwords, key))
    return redirect_to_issued(key, name)


def _checked_name(form: KeyForm) -> str | None:
    """Return the normalized name from the form; if invalid, return None and set form errors."""
    try:
        return normalize_name(form.name.data or "")
    except RuleError as error:
        form.name.errors = [message_text(error)]
    return None


@bp.route("/api-keys/<uuid:key_id>/revoke/", methods=["GET", "POST"])
@page_parameters("before")
def revoke_api_key(key_id: UUID) -> ResponseReturnValue:
    """Ask for confirmation (GET) or revoke an API key (POST)."""
    back = url_for("admin.api_keys", **list_state("before"))
    form = ConfirmForm(request.form)
    if request.method != "POST" or not is_reauthenticated(form):
        key = service.find(get_runtime().read_database.primary, key_id)
        if key is None:
            abort(404)
        return render_confirmation(REVOKE, key.name, back, form)
    name = service.revoke(get_runtime().database, key_id, request_state().account.id)
    flash(REVOKE.done % {"name": name}, "ok")
    return redirect(back)
