"""Administration pages that list, create and revoke API keys."""

from uuid import UUID

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from wtforms import StringField

from project.admin.confirmation import (
    Confirmation,
    ConfirmForm,
    derivation_key,
    find_pending_secret,
    reauthenticate,
    redirect_to_secret,
    render_confirmation,
    render_secret,
)
from project.admin.routes import PAGE_SIZE, bp, list_parameters, page_cursor, render_list
from project.contract.error_codes import message_text
from project.domain.api_keys import derive_api_key, normalize_key_name
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
    rows = service.find_keys(get_runtime().read_database.primary, PAGE_SIZE + 1, page_cursor())
    values = {"is_required": get_runtime().config.api_keys_required, "came_from": list_parameters("before")}
    return render_list("admin/api_keys.html", rows, **values)


@bp.route("/api-keys/new/", methods=["GET", "POST"])
def create_api_key() -> ResponseReturnValue:
    """Show the form (GET), create an API key (POST), or show the new key once (GET)."""
    if (page := _render_new_key()) is not None:
        return page
    form = KeyForm(request.form)
    name = _validated_name(form) if request.method == "POST" else None
    if name is None or not reauthenticate(form):
        page = render_template("admin/new_api_key.html", form=form, asks_password=reauthentication.is_required())
        return page, 422 if form.errors else 200
    return _issue_key(name, form)


def _issue_key(name: str, form: KeyForm) -> ResponseReturnValue:
    """Create an API key, and redirect to the page that shows it once."""
    runtime, key = get_runtime(), derivation_key(form)
    service.issue_key(runtime.database, name, request_state().account.id, derive_api_key(runtime.passwords, key))
    return redirect_to_secret(key, name)


def _render_new_key() -> ResponseReturnValue | None:
    """Return the page that shows the key created by _issue_key(); None if there is no new key."""
    pending, runtime = find_pending_secret(), get_runtime()
    if pending is None:
        return None
    key, name = pending
    api_key = derive_api_key(runtime.passwords, key)
    if not service.is_valid_key(runtime.database, api_key):
        return None
    title = gettext("New key: %(name)s", name=name)
    return render_secret(title, api_key, url_for("admin.api_keys"), has_example=True)


def _validated_name(form: KeyForm) -> str | None:
    """Return the normalized name in the form, or set form errors and return None."""
    try:
        return normalize_key_name(form.name.data or "")
    except RuleError as error:
        form.name.errors = [message_text(error)]
    return None


@bp.route("/api-keys/<uuid:key_id>/revoke/", methods=["GET", "POST"])
@page_parameters("before")
def revoke_api_key(key_id: UUID) -> ResponseReturnValue:
    """Ask for confirmation (GET) or revoke an API key (POST)."""
    back_url = url_for("admin.api_keys", **list_parameters("before"))
    form = ConfirmForm(request.form)
    if request.method != "POST" or not reauthenticate(form):
        key = service.find_key(get_runtime().read_database.primary, key_id)
        if key is None:
            abort(404)
        return render_confirmation(REVOKE, key.name, back_url, form)
    name = service.revoke_key(get_runtime().database, key_id, request_state().account.id)
    flash(REVOKE.done % {"name": name}, "ok")
    return redirect(back_url)
