"""In which language and time zone the reader is answered."""

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from flask import Flask, Request, Response, has_request_context
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from project.extensions import babel
from project.web.context import this_g, this_request
from project.web.tools import tools

LANGUAGES = {"ru": "Русский", "en": "English"}
COOKIE = "lang"
YEAR_S = 365 * 24 * 3600


def init_app(app: Flask) -> None:
    """Choose the language of each request; keep the choice of a reader who clicks on one."""
    app.config["BABEL_TRANSLATION_DIRECTORIES"] = "translations"
    babel.init_app(app, locale_selector=language, timezone_selector=lambda: str(display_zone()))
    app.after_request(_keep)


def language() -> str:
    """Return `ru` or `en`: the one clicked on, else the browser's or program's, else the default."""
    if not has_request_context():
        return tools().config.default_language
    here = this_g()
    if "language" not in here:
        asked = this_request()
        here.language = _chosen(asked) or _accepted(asked) or tools().config.default_language
    found: str = here.language
    return found


def _chosen(request: Request) -> str | None:
    """Pages remember a click in a cookie; the API goes by its header alone, so that programs stay predictable."""
    if request.path.startswith("/api/") or request.path.rstrip("/") == "/useradd":
        return None
    chosen = request.args.get("lang") or request.cookies.get(COOKIE)
    return chosen if chosen in LANGUAGES else None


def _accepted(request: Request) -> str | None:
    accepted = request.environ.get("HTTP_ACCEPT_LANGUAGE")
    return None if accepted is None else _best(accepted)


@lru_cache(maxsize=256)
def _best(accepted: str) -> str | None:
    """Few browsers and programs say something new."""
    return parse_accept_header(accepted, LanguageAccept).best_match(LANGUAGES)


def _keep(response: Response) -> Response:
    request = this_request()
    if request.method == "GET" and request.args.get("lang") in LANGUAGES:
        response.set_cookie(
            COOKIE, request.args["lang"], max_age=YEAR_S, samesite="Lax", httponly=True, secure=request.is_secure
        )
    response.headers.setdefault("Content-Language", language())
    response.headers.add("Vary", "Accept-Language")
    return response


def display_zone() -> ZoneInfo:
    """Return the zone in which times are shown: `?tz=UTC`, else that of the settings."""
    if has_request_context() and _asked_for("tz") == "UTC":
        return ZoneInfo("UTC")
    return tools().config.display_timezone


def local(moment: datetime) -> datetime:
    """Return a moment in the zone in which times are shown."""
    return moment.astimezone(display_zone())


def _asked_for(name: str) -> str | None:
    asked = this_request()
    return asked.args.get(name) if asked.environ.get("QUERY_STRING") else None
