"""The first page: the state of the service."""

from project.admin.tables import Guarded, route
from project.runtime import get_runtime
from project.services.status import get_status


class StateView(Guarded):
    """State of the database, the statistics and the spool."""

    @route("/")
    def index(self) -> str:
        """Show it."""
        r = get_runtime()
        state = get_status(r.database, r.read_database, r.spool, r.upkeep, r.metrics)
        return self.render("admin/state.html", state=state)
