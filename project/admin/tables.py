"""What the administrators' pages share: who may see them, and tables that only read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from flask import g, render_template, request
from flask.typing import ResponseReturnValue
from flask_admin import BaseView, expose
from flask_admin.contrib.sqla import ModelView
from flask_admin.form import BaseForm
from flask_babel import lazy_gettext as _
from flask_wtf import FlaskForm
from sqlalchemy import Connection
from sqlalchemy.orm import Query, Session
from wtforms import PasswordField

from project.domain.errors import QueryTimeoutError, RefusalError
from project.domain.text import clean
from project.extensions import db
from project.http import rate_limits, reauthentication
from project.http.request_state import request_state
from project.http.translations import gettext
from project.models import Base
from project.runtime import get_runtime

PAGE = 25

T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])


def route(path: str, methods: Sequence[str] = ("GET",)) -> Callable[[View], View]:
    """Give a view of Flask-Admin its address below that of the page."""
    mark: Callable[[View], View] = expose(path, methods)
    return mark


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What an administrator is asked before something happens, and told when it has happened."""

    title: str
    explanation: str
    button: str
    done: str = ""


class ConfirmForm(FlaskForm):  # type: ignore[misc]  # Flask-WTF has no types
    """What an administrator is about to do, and the password that it may take."""

    password = PasswordField(_("Your password"))


class Guarded(BaseView):  # type: ignore[misc]  # Flask-Admin has no types
    """A page for administrators. Strangers were sent to the login before; users are refused here."""

    def is_accessible(self) -> bool:
        """Tell whether the reader is an administrator, by what the database said a moment ago."""
        return bool(request_state().account.is_admin)

    def inaccessible_callback(self, name: str, **kwargs: Any) -> ResponseReturnValue:
        """Refuse the reader."""
        raise RefusalError("forbidden")

    def _run_view(self, view: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a view. Flask-Admin would call it again after a TypeError, and hide the defect."""
        if request.method == "POST":
            rate_limits.consume_for_reader(rate_limits.ADMIN_CHANGES)
        return view(self, *args, **kwargs)

    def render(self, template: str, **values: Any) -> str:
        """Return a page. Flask-Admin's own render() would put its things in the place of ours of the same name."""
        return render_template(template, admin_view=self, **values, **self._template_args)

    def ask(self, question: Confirmation, name: str, back: str, form: ConfirmForm) -> ResponseReturnValue:
        """Return a question; the answer "yes" comes as a POST to the same address."""
        title = question.title % {"name": name}
        page = self.render("admin/question.html", question=question, title=title, back=back, form=form)
        return page, 422 if form.password.errors else 200

    @property
    def asks_password(self) -> bool:
        """Whether the reader has to enter the own password before anything grave."""
        return reauthentication.is_required()

    def is_proved(self, form: ConfirmForm) -> bool:
        """Tell whether the reader may go on, or say beside the field what is wrong."""
        if not reauthentication.is_required() or reauthentication.verify(form.password.data or ""):
            return True
        wrong = gettext("This is not your password.") if form.password.data else gettext("Enter your password.")
        form.password.errors = [wrong]
        return False


@dataclass(frozen=True, slots=True)
class Field:
    """A filter as the form shows it: a list of choices, or a box to type in."""

    name: str
    label: str
    choices: Sequence[tuple[str, str]]
    value: str


class Table(Guarded, ModelView):  # type: ignore[misc]  # Flask-Admin has no types
    """A table that is looked at, newest rows first, and never changed.

    Of Flask-Admin it has columns, filters and search. Its transactions are those of statistics: read-only, bounded,
    with their own few connections. What would write, export or delete is not registered: those addresses are not
    there. Rows are never counted, and a page begins where the one before ended.
    """

    _urls: list[tuple[str, str, Any]]
    addresses: ClassVar[frozenset[str]] = frozenset({"index_view"})
    """The views of Flask-Admin that are wanted, and those of the subclass."""
    title: ClassVar[str]
    hint: ClassVar[str] = ""
    """What the search looks for."""

    can_create = can_edit = can_delete = can_export = False
    simple_list_pager = True
    column_sortable_list = ()
    page_size = PAGE
    list_template = "admin/list.html"
    form = BaseForm

    def __init__(self, model: type[Base], endpoint: str, path: str) -> None:
        self._urls = [address for address in self._urls if address[1] in self.addresses]
        super().__init__(model, db, endpoint=endpoint, url=f"/admin/{path}")

    def read(self, ask: Callable[[Session], T]) -> T:
        """Ask in a session of its own, which is `g.rows` meanwhile. Raises DatabaseUnavailableError."""

        def work(connection: Connection) -> T:
            with Session(connection) as g.rows:
                return ask(g.rows)

        return get_runtime().read_database.primary.read_transaction(work)

    def get_query(self) -> "Query[Any]":
        """Return the question that columns, filters and search narrow."""
        query: Query[Any] = g.rows.query(self.model)
        return query

    def get_one(self, id: UUID) -> Any:  # noqa: A002 - as Flask-Admin calls it
        """Return the row with this number, None if there is none."""
        return self.read(lambda session: session.get(self.model, id))

    def get_list(self, *args: Any, **kwargs: Any) -> tuple[None, list[Any]]:
        """Return the rows of a page and one more, by which the page sees that it is not the last."""
        try:
            rows = self.find(*args, **kwargs)
        except QueryTimeoutError:
            rows = self.after_timeout(*args, **kwargs)
            self._template_args["is_too_wide"] = True
        return None, rows

    def find(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Return the rows that Flask-Admin's own question finds."""
        question = super().get_list
        _, rows = self.read(lambda _: question(*args, **kwargs | {"page_size": PAGE + 1}))
        return list(rows)

    def after_timeout(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Return what can be found although the question takes too long."""
        return []

    def fields(self) -> list[Field]:
        """Return the filters for the form."""
        return [self._field(number) for number in range(len(self._filters or ()))]

    @property
    def filtered(self) -> Mapping[str, str]:
        """What the address chooses, without the place in the pages."""
        return {name: value for name, value in request.args.items() if value and name not in {"before", "lang"}}

    def get_filter_arg(self, index: int, flt: Any) -> str:
        """Name a filter after its column: Flask-Admin would take a number, or its name in some language."""
        return str(flt.column.key)

    def search_placeholder(self) -> str:
        """Return what the search looks for."""
        return str(self.hint)

    def _field(self, number: int) -> Field:
        chosen: Any = self._filters[number]
        name = f"flt{number}_{self.get_filter_arg(number, chosen)}"
        choices = [(value, str(text)) for value, text in chosen.get_options(self) or ()]
        return Field(name, str(chosen.name), choices, request.args.get(name, ""))

    def _get_list_filter_args(self) -> Any:
        """Leave out what was left empty, and what PostgreSQL could not take."""
        given = super()._get_list_filter_args() or ()
        return [(number, name, clean(value, 200)) for number, name, value in given if value]

    def _apply_sorting(self, query: "Query[Any]", joins: Any, *_: Any) -> tuple["Query[Any]", Any]:
        """Newest first, whatever the address says: by the primary key, which is the order of time."""
        return query.order_by(self.model.id.desc()), joins

    def _apply_pagination(self, query: "Query[Any]", page: int | None, page_size: int | None) -> "Query[Any]":
        before = request.args.get("before", type=UUID)
        if before is not None:
            query = query.filter(self.model.id < before)
        return query.limit(page_size)
