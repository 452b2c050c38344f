"""Who may see what: every view asks for a login unless it says that it is open."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, g, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from project.extensions import login_manager

View = TypeVar("View", bound=Callable[..., Any])


def open_to_all(view: View) -> View:
    """Mark a view that strangers may see. What is not marked is closed: forgetting it harms nobody."""
    view.is_open = True  # type: ignore[attr-defined]
    return view


def is_open(app: Flask, endpoint: str) -> bool:
    """Tell whether strangers may see this endpoint."""
    return endpoint == "static" or getattr(app.view_functions[endpoint], "is_open", False)


def init_app(app: Flask) -> None:
    """Ask for a login before every closed view; let templates know who reads."""
    app.before_request(_require_login)
    app.context_processor(lambda: {"reader": g.get("reader")})


def _require_login() -> ResponseReturnValue | None:
    endpoint = request.endpoint
    if endpoint is None or is_open(current_app, endpoint):
        return None
    if not current_user.is_authenticated:
        answer: ResponseReturnValue = login_manager.unauthorized()
        return answer
    g.reader = current_user._get_current_object()
    return None
