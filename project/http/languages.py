"""The language and time zone of each response."""

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from flask import Flask, Request, Response, has_request_context
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from project.extensions import babel
from project.http.request_state import current_request, request_state
from project.runtime import get_runtime

LANGUAGES = {"ru": "Русский", "en": "English"}
LANGUAGE_COOKIE = "lang"
LANGUAGE_COOKIE_MAX_AGE_S = 365 * 24 * 3600


def init_app(app: Flask) -> None:
    """Select the language of each request; store a language selected by `?lang=` in a cookie."""
    app.config["BABEL_TRANSLATION_DIRECTORIES"] = "translations"
    babel.init_app(app, locale_selector=language, timezone_selector=lambda: str(display_zone()))
    app.after_request(_set_language)


def language() -> str:
    """Return the language of the response, `ru` or `en`.

    The first of these decides: `?lang=`, the cookie, Accept-Language, the setting DEFAULT_LANGUAGE. The first two do
    not count below /api/ and for /useradd; outside of a request, only the setting counts.
    """
    if not has_request_context():
        return get_runtime().config.default_language
    state = request_state()
    if state.language is None:
        request = current_request()
        state.language = (
            _selected_language(request) or _accepted_language(request) or get_runtime().config.default_language
        )
    return state.language


def _selected_language(request: Request) -> str | None:
    """Return the language in `?lang=` or the cookie, or None if it is missing or unsupported.

    Returns None, too, for paths below /api/ and for /useradd.
    """
    if request.path.startswith("/api/") or request.path.rstrip("/") == "/useradd":
        return None
    selected = request.args.get("lang") or request.cookies.get(LANGUAGE_COOKIE)
    return selected if selected in LANGUAGES else None


def _accepted_language(request: Request) -> str | None:
    accepted = request.environ.get("HTTP_ACCEPT_LANGUAGE")
    return None if accepted is None else _best_match(accepted)


@lru_cache(maxsize=256)
def _best_match(accepted: str) -> str | None:
    return parse_accept_header(accepted, LanguageAccept).best_match(LANGUAGES)


def _set_language(response: Response) -> Response:
    request = current_request()
    if request.method == "GET" and request.args.get("lang") in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE,
            request.args["lang"],
            max_age=LANGUAGE_COOKIE_MAX_AGE_S,
            samesite="Lax",
            httponly=True,
            secure=request.is_secure,
        )
    response.headers.add("Content-Language", language())
    response.headers.add("Vary", "Accept-Language")
    return response


def display_zone() -> ZoneInfo:
    """Return the time zone of displayed times: UTC with `?tz=UTC`, otherwise DISPLAY_TIMEZONE."""
    if has_request_context() and _query_parameter("tz") == "UTC":
        return ZoneInfo("UTC")
    return get_runtime().config.display_timezone


def to_display_zone(moment: datetime) -> datetime:
    """Convert a time to the time zone of display_zone()."""
    return moment.astimezone(display_zone())


def _query_parameter(name: str) -> str | None:
    request = current_request()
    return request.args.get(name) if request.environ.get("QUERY_STRING") else None
