"""Attempts, by what the results page does not ask: where they came from and how they were recorded."""

from typing import ClassVar

from flask_admin.contrib.sqla.filters import FilterEqual, IntEqualFilter
from flask_babel import lazy_gettext as _

from project.admin.tables import Table
from project.models import Attempt

VIAS = (("direct", _("at once")), ("spool", _("from the spool")), ("recovered", _("after a restart")))


class AttemptsView(Table):
    """All attempts; nothing here changes them."""

    title = _("Requests")
    vias: ClassVar = dict(VIAS)
    column_list = ("received_at", "status", "code", "username", "via", "client_address", "user_agent")
    column_filters = (
        FilterEqual(Attempt.username, _("Login")),
        FilterEqual(Attempt.client_address, _("Address")),
        IntEqualFilter(Attempt.status, _("Status")),
        FilterEqual(Attempt.code, _("Code")),
        FilterEqual(Attempt.via, _("Recorded"), options=VIAS),
    )
    list_template = "admin/attempts.html"

    def __init__(self) -> None:
        super().__init__(Attempt, "attempts", "attempts")
