"""Administration pages that find and change users."""

from collections.abc import Callable, Mapping
from uuid import UUID

from flask import abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _

from project.admin.audit import action_label, actor_label
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
from project.database import Database
from project.domain.registration import Role
from project.domain.text import clean
from project.domain.users import UserDetail, UserFilter
from project.http.query_parameters import page_parameters
from project.http.request_state import request_state
from project.http.translations import gettext
from project.runtime import get_runtime
from project.services import audit
from project.services import users as service

MAX_SEARCH_LENGTH = 200
HISTORY_SIZE = 10
"""Number of entries of the audit log on the page of a user."""
LIST_PARAMETERS = ("search", "active", "role", "before")
YES_NO = {"yes": True, "no": False}
"""Value of the query parameter `active` -> whether the listed users are active."""
RESET = "reset"
"""The action that issues a new password. It is not in CHANGES, because a page then shows the password."""
CONFIRMATIONS: Mapping[str, Confirmation] = {
    "block": Confirmation(
        _("Block %(name)s?"),
        _("The user is logged out everywhere at once and cannot log in until unblocked. Nothing is deleted."),
        _("Block"),
        _("%(name)s is blocked."),
    ),
    "unblock": Confirmation(
        _("Unblock %(name)s?"),
        _("The user can log in again with the same password."),
        _("Unblock"),
        _("%(name)s can log in again."),
    ),
    "audit": Confirmation(
        _("Make %(name)s an auditor?"),
        _("Auditors see and search names, birth dates and clients of all requests. The user has to log in again."),
        _("Make auditor"),
        _("%(name)s is an auditor now."),
    ),
    "grant": Confirmation(
        _("Make %(name)s an administrator?"),
        _("Administrators see everybody's contacts, block users and create API keys. The user has to log in again."),
        _("Make administrator"),
        _("%(name)s is an administrator now."),
    ),
    "withdraw": Confirmation(
        _("Revoke the role of %(name)s?"),
        _("The user keeps an ordinary account and has to log in again."),
        _("Revoke role"),
        _("%(name)s has no role now."),
    ),
    RESET: Confirmation(
        _("Issue a new password to %(name)s?"),
        _("The current password stops working and the user is logged out everywhere. The new one is shown once."),
        _("Issue new password"),
    ),
}
CHANGES: Mapping[str, Callable[[Database, UUID, UUID], str]] = {
    "block": service.block_user,
    "unblock": service.unblock_user,
    "audit": lambda database, user_id, by: service.grant_role(database, user_id, Role.AUDITOR, by),
    "grant": lambda database, user_id, by: service.grant_role(database, user_id, Role.ADMINISTRATOR, by),
    "withdraw": service.revoke_role,
}
"""Action -> function that changes a user and returns the username; its last argument is the administrator's ID."""


@bp.get("/users/")
@page_parameters(*LIST_PARAMETERS)
def users() -> ResponseReturnValue:
    """List users, newest first, with unmasked contacts."""
    args = request.args
    text = clean(args.get("search", "").strip(), MAX_SEARCH_LENGTH)
    known = {"active": YES_NO, "role": list(Role)}
    flags = {name: args[name] for name, values in known.items() if args.get(name) in values}
    role = Role(flags["role"]) if "role" in flags else None
    user_filter = UserFilter(text=text, is_active=YES_NO.get(flags.get("active", "")), role=role)
    rows, is_complete = service.find_users(
        get_runtime().read_database.primary,
        user_filter,
        get_runtime().config.phone_region,
        PAGE_SIZE + 1,
        page_cursor(),
    )
    filters = flags | ({"search": text} if text else {})
    blocks = service.find_last_blocks(get_runtime().read_database.primary, rows)
    return render_list(
        "admin/users.html",
        rows,
        is_too_broad=not is_complete,
        filters=filters,
        blocks=blocks,
        came_from=list_parameters(*LIST_PARAMETERS),
        actor_label=actor_label,
    )


@bp.get("/users/<uuid:user_id>/")
@page_parameters(*LIST_PARAMETERS)
def user(user_id: UUID) -> ResponseReturnValue:
    """Show a user with the possible changes and the last entries of the audit log."""
    return render_template(
        "admin/user.html",
        user=_find_user(user_id),
        confirmations=CONFIRMATIONS,
        came_from=list_parameters(*LIST_PARAMETERS),
        history=audit.find_entries(get_runtime().read_database.primary, HISTORY_SIZE, None, user_id),
        action_label=action_label,
        actor_label=actor_label,
    )


@bp.route(f"/users/<uuid:user_id>/<any({', '.join(CONFIRMATIONS)}):action>/", methods=["GET", "POST"])
@page_parameters(*LIST_PARAMETERS)
def change_user(user_id: UUID, action: str) -> ResponseReturnValue:
    """Ask for confirmation (GET), change the user (POST), or show a new password once (GET)."""
    back_url = url_for("admin.user", user_id=user_id, **list_parameters(*LIST_PARAMETERS))
    if action == RESET and (page := _render_new_password(user_id, back_url)) is not None:
        return page
    form = ConfirmForm(request.form)
    if request.method != "POST" or not reauthenticate(form):
        return render_confirmation(CONFIRMATIONS[action], _find_user(user_id).username, back_url, form)
    if action == RESET:
        return _reset_password(user_id, form)
    username = CHANGES[action](get_runtime().database, user_id, request_state().account.id)
    flash(CONFIRMATIONS[action].done % {"name": username}, "ok")
    return redirect(back_url)


def _reset_password(user_id: UUID, form: ConfirmForm) -> ResponseReturnValue:
    """Set a new generated password, and redirect to the page that shows it once."""
    runtime, key, by = get_runtime(), derivation_key(form), request_state().account.id
    login, _password = service.reset_password(runtime.database, runtime.passwords, user_id, by, key)
    return redirect_to_secret(key, login)


def _render_new_password(user_id: UUID, back_url: str) -> ResponseReturnValue | None:
    """Return the page that shows the password of _reset_password(), or None if there is none."""
    pending, runtime = find_pending_secret(), get_runtime()
    if pending is None:
        return None
    key, login = pending
    password = service.find_issued_password(runtime.database, runtime.passwords, user_id, key)
    if password is None:
        return None
    return render_secret(gettext("New password of %(name)s", name=login), password, back_url, has_example=False)


def _find_user(user_id: UUID) -> UserDetail:
    user = service.find_user(get_runtime().read_database.primary, user_id)
    if user is None:
        abort(404)
    return user
