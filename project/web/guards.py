"""Who may see what: every view asks for a login unless it says that it is open, to all or to API keys."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, g, request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from config import Networks
from project.domain.errors import RefusalError
from project.extensions import login_manager
from project.web.context import this_request
from project.web.proxies import STRANGE, lies_in
from project.web.tools import tools

View = TypeVar("View", bound=Callable[..., Any])


def open_to_all(view: View) -> View:
    """Mark a view that strangers may see. What is not marked is closed: forgetting it harms nobody."""
    view.is_open = True  # type: ignore[attr-defined]
    return view


def open_to_keys(view: View) -> View:
    """Mark a view that programs with an API key may see, as people with a session do."""
    view.takes_keys = True  # type: ignore[attr-defined]
    return view


def require_key() -> None:
    """Let in only programs with an API key, where the settings say so."""
    if tools().config.api_keys_required and not _opens(_key()):
        raise RefusalError("unauthorized")


def require_network(networks: Networks) -> None:
    """Let in only whoever calls from one of these networks, and not through a proxy that nobody trusts."""
    if STRANGE in request.environ or not lies_in(request.environ.get("REMOTE_ADDR", ""), networks):
        raise RefusalError("forbidden")


def is_open(app: Flask, endpoint: str) -> bool:
    """Tell whether strangers may see this endpoint."""
    return endpoint == "static" or getattr(app.view_functions[endpoint], "is_open", False)


def _takes_keys(endpoint: str) -> bool:
    return getattr(current_app.view_functions[endpoint], "takes_keys", False)


def init_app(app: Flask) -> None:
    """Ask for a login before every closed view; let templates know who reads."""
    app.before_request(_require_login)
    app.context_processor(lambda: {"reader": g.get("reader")})


def _require_login() -> ResponseReturnValue | None:
    endpoint = this_request().endpoint
    if endpoint is None or is_open(current_app, endpoint):
        return None
    if _takes_keys(endpoint) and _key() is not None:
        if _opens(_key()):
            return None
        raise RefusalError("unauthorized", "session")
    if not current_user.is_authenticated:
        answer: ResponseReturnValue = login_manager.unauthorized()
        return answer
    g.reader = current_user._get_current_object()
    return None


def known_key() -> str | None:
    """Return the key that the request brings if it was good before: strangers cannot make one up."""
    key = _key()
    return key if key is not None and tools().api_keys.knows(key) else None


def _opens(key: str | None) -> bool:
    return key is not None and tools().api_keys.opens(key)


def _key() -> str | None:
    """Return the key that the request brings: `Authorization: Bearer KEY` (RFC 6750, 2.1)."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
