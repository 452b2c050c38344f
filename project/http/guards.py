"""Access control: views require a login unless they are public; some accept API keys, too."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app
from flask.typing import ResponseReturnValue
from flask_login import current_user

from config import Networks
from project.domain.errors import RefusalError
from project.extensions import login_manager
from project.http.proxies import UNTRUSTED_PROXY, is_in_networks
from project.http.request_state import current_request, request_state
from project.runtime import get_runtime

View = TypeVar("View", bound=Callable[..., Any])


def public(view: View) -> View:
    """Mark a view as accessible without login. Unmarked views require a login."""
    view.is_public = True  # type: ignore[attr-defined]
    return view


def api_key_allowed(view: View) -> View:
    """Mark a view as accessible with an API key instead of a login."""
    view.allows_api_keys = True  # type: ignore[attr-defined]
    return view


def works_in_outage(view: View) -> View:
    """Mark a view as usable while PostgreSQL is unavailable: then it trusts the session cookie.

    The view must neither change data nor show personal data: the user may have been blocked since the login.
    """
    view.works_in_outage = True  # type: ignore[attr-defined]
    return view


def require_api_key() -> None:
    """Raise RefusalError if the settings require an API key and the request has no valid one."""
    if get_runtime().config.api_keys_required and not _is_valid(bearer_token()):
        raise RefusalError("unauthorized")


def require_network(networks: Networks) -> None:
    """Raise RefusalError if the client is outside `networks` or behind an untrusted proxy."""
    environ = current_request().environ
    if UNTRUSTED_PROXY in environ or not is_in_networks(environ.get("REMOTE_ADDR", ""), networks):
        raise RefusalError("forbidden")


def is_public(app: Flask, endpoint: str) -> bool:
    """Return whether an endpoint is accessible without login."""
    return endpoint == "static" or getattr(app.view_functions[endpoint], "is_public", False)


def allows_api_keys(endpoint: str | None) -> bool:
    """Return whether an endpoint accepts an API key instead of a login."""
    return endpoint is not None and getattr(current_app.view_functions[endpoint], "allows_api_keys", False)


def can_work_in_outage(endpoint: str | None) -> bool:
    """Return whether an endpoint trusts the session cookie while PostgreSQL is unavailable."""
    return endpoint is not None and getattr(current_app.view_functions[endpoint], "works_in_outage", False)


def init_app(app: Flask) -> None:
    """Require a login for views that are not public; templates get the user as `reader`."""
    app.before_request(_require_login)
    app.context_processor(lambda: {"reader": request_state().reader})


def _require_login() -> ResponseReturnValue | None:
    endpoint = current_request().endpoint
    if endpoint is None or is_public(current_app, endpoint):
        return None
    if allows_api_keys(endpoint) and (token := bearer_token()) is not None:
        if _is_valid(token):
            return None
        raise RefusalError("unauthorized", "session")
    if not current_user.is_authenticated:
        response: ResponseReturnValue = login_manager.unauthorized()
        return response
    request_state().reader = current_user.account
    return None


def cached_api_key() -> str | None:
    """Return the API key of the request if the cache of valid keys contains it, otherwise None."""
    token = bearer_token()
    return token if token is not None and get_runtime().api_keys.find_cached_id(token) else None


def _is_valid(token: str | None) -> bool:
    return token is not None and get_runtime().api_keys.is_valid(token)


def bearer_token() -> str | None:
    """Return the token of the header `Authorization: Bearer TOKEN` (RFC 6750, 2.1), or None."""
    header = current_request().environ.get("HTTP_AUTHORIZATION")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
