"""Users: finding them, and what an administrator can do for or to them."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from flask import abort, flash, g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_admin.contrib.sqla.filters import BooleanEqualFilter
from flask_babel import lazy_gettext as _
from sqlalchemy import or_
from sqlalchemy.orm import Query

from project.admin.tables import Confirmation, ConfirmForm, Table, route
from project.database import Database
from project.domain.text import clean
from project.http.request_state import request_state
from project.http.translations import gettext
from project.models import User
from project.queries.users import known_by, reads_like
from project.runtime import get_runtime
from project.services import users as service
from project.services.login import login_candidates

RESET = "reset"
Change = Callable[[Database, UUID, UUID], str]


QUESTIONS: Mapping[str, Confirmation] = {
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
    "grant": Confirmation(
        _("Make %(name)s an administrator?"),
        _("Administrators see everybody's contacts, block users and make API keys. The user has to log in again."),
        _("Make administrator"),
        _("%(name)s is an administrator now."),
    ),
    "withdraw": Confirmation(
        _("Withdraw administrator's rights from %(name)s?"),
        _("The user stays a user like any other and has to log in again."),
        _("Withdraw rights"),
        _("%(name)s is no administrator any more."),
    ),
    RESET: Confirmation(
        _("Issue a new password to %(name)s?"),
        _("The current password stops working and the user is logged out everywhere. The new one is shown once."),
        _("Issue new password"),
    ),
}
CHANGES: Mapping[str, Change] = {
    "block": service.block,
    "unblock": service.unblock,
    "grant": service.grant_admin,
    "withdraw": service.revoke_admin,
}


class UsersView(Table):
    """All users, with their contacts in full."""

    addresses = Table.addresses | {"details", "change"}
    title = _("Users")
    hint = _("Login, phone, e-mail or name")
    column_list = ("created_at", "username", "name", "phone", "email", "is_active")
    column_searchable_list = ("username",)
    column_filters = (
        BooleanEqualFilter(User.is_active, _("Can log in")),
        BooleanEqualFilter(User.is_admin, _("Administrator")),
    )
    list_template = "admin/users.html"

    def __init__(self) -> None:
        super().__init__(User, "users", "users")

    @route("/<uuid:user_id>/")
    def details(self, user_id: UUID) -> ResponseReturnValue:
        """Show all of a user, and what can be done."""
        return self.render("admin/user.html", user=self._get(user_id), questions=QUESTIONS)

    @route(f"/<uuid:user_id>/<any({', '.join(QUESTIONS)}):action>/", methods=("GET", "POST"))
    def change(self, user_id: UUID, action: str) -> ResponseReturnValue:
        """Ask before anything happens; do it when the answer is yes."""
        question, back = QUESTIONS[action], url_for("users.details", user_id=user_id)
        form = ConfirmForm(request.form)
        if request.method != "POST" or not self.is_proved(form):
            return self.ask(question, self._get(user_id).username, back, form)
        by = request_state().account.id
        if action == RESET:
            login, password = service.reset_password(get_runtime().database, get_runtime().passwords, user_id, by)
            title = gettext("New password of %(name)s", name=login)
            return self.render("admin/secret.html", title=title, secret=password, back=back)
        username = CHANGES[action](get_runtime().database, user_id, by)
        flash(question.done % {"name": username}, "ok")
        return redirect(back)

    def _get(self, user_id: UUID) -> User:
        user: User | None = self.get_one(user_id)
        if user is None:
            abort(404)
        return user

    def after_timeout(self, *args: Any, **kwargs: Any) -> list[User]:
        """Return who is known by exactly what was searched for: an index finds them among any number of users."""
        if not request.args.get("search"):
            return []
        g.only_exactly = True
        return list(self.find(*args, **kwargs))

    def _apply_search(self, query: "Query[Any]", *rest: Any) -> tuple[Any, ...]:
        """Look for all of a login, phone or e-mail in any spelling, else for a part of login or name."""
        *others, text = rest
        text = clean(text.strip(), 200)
        exactly = known_by(login_candidates(text, get_runtime().config.phone_region))
        wanted = exactly if "only_exactly" in g else or_(exactly, reads_like(text))
        return query.filter(wanted), *others
