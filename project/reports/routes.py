"""Statistics."""

from uuid import UUID

from flask import Blueprint

bp = Blueprint("reports", __name__)


@bp.get("/results/")
def results() -> str:
    """Show."""
    return "ok"


@bp.get("/results/<uuid:attempt_id>/")
def attempt(attempt_id: UUID) -> str:
    """Show."""
    return "ok"
