"""The first page: how the service is."""

from project.admin.tables import Guarded, route
from project.web.state import state


class StateView(Guarded):
    """State of the database, the statistics and the spool, as the process that answers sees them."""

    @route("/")
    def index(self) -> str:
        """Show it."""
        return self.render("admin/state.html", state=state())
