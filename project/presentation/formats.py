"""How pages write numbers, times, codes and addresses."""

import json
from collections.abc import Mapping
from datetime import date as Date  # noqa: N812 - the filter has its name
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime, get_timezone_location
from babel.units import format_unit
from flask import Flask, current_app, has_request_context, request
from flask.globals import request_ctx
from flask_babel import get_translations
from jinja2 import StrictUndefined

from project.contract.error_codes import (
    FIELD_CODES,
    OTHER_REASONS,
    PROBLEMS,
    STATUSES,
    message_text,
    reason_text,
    status_text,
)
from project.domain.attempts import AttemptRow, Outcome
from project.exporters.sizes import expected_size
from project.exporters.translations import Translations
from project.http.languages import LANGUAGES, display_zone, local
from project.http.request_state import request_state
from project.http.translations import gettext, language_code
from project.version import VERSION

THEMES = ("light", "dark")
DAY = "d MMMM y"
_SIZES = (("gigabyte", 10**9), ("megabyte", 10**6), ("kilobyte", 10**3))


def init_app(app: Flask) -> None:
    """Add the filters and globals; a template that names what is not there fails instead of printing nothing."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.filters.update(
        number=number,
        date=date,
        size=size,
        day=day,
        weekday=weekday,
        clock=clock,
        local=local,
        moment=moment,
        kind=kind,
        pretty=pretty,
        reason=reason_text,
        status=status_text,
        message=message_text,
        problem_title=lambda code: str(PROBLEMS[code].title),
    )
    app.jinja_env.globals.update(
        LANGUAGES=LANGUAGES,
        VERSION=VERSION,
        follows=follows,
        expected_size=expected_size,
        here=here,
        language=language_code,
        request_id=lambda: request_state().request_id,
        share=share,
        theme=theme,
        url_for=address,
        zone_label=zone_label,
    )


def translations() -> Translations:
    """Return the translations for a file or page in the reader's language."""
    if not has_request_context():
        return _load_translations()
    state = request_state()
    if state.translations is None:
        state.translations = _load_translations()
    return state.translations


def _load_translations() -> Translations:
    """Load everything that needs the request context, so that a stream can use it after the request."""
    catalog = get_translations()
    reasons = {code: reason_text(code) for code in (*FIELD_CODES, *PROBLEMS, *OTHER_REASONS)}
    statuses = {status: status_text(status) for status in STATUSES}

    def ngettext(singular: str, plural: str, num: int, /, **variables: object) -> str:
        text: str = catalog.ungettext(singular, plural, num)
        return text % ({"num": num} | variables)

    return Translations(
        language=language_code(),
        gettext=catalog.ugettext,
        ngettext=ngettext,
        reason=lambda code: reasons.get(code, code),
        status=lambda status: statuses.get(status) or status_text(status),
    )


def number(value: int) -> str:
    """Return `10,930` as the reader's language writes it."""
    return translations().number(value)


def size(value: int) -> str:
    """Return a number of bytes as people tell it: `44 MB`."""
    unit, scale = next((pair for pair in _SIZES if value >= pair[1]), _SIZES[-1])
    shown = round(value / scale, 1 if value < 10 * scale else None)
    return str(format_unit(shown, unit, length="short", locale=language_code())).replace(" ", "\N{NO-BREAK SPACE}")


def share(part: int, whole: int) -> str:
    """Return a percentage that never hides a single attempt."""
    return translations().share(part, whole)


def day(when: datetime) -> str:
    """Return `23 November`, with the year if it is another one."""
    is_this_year = local(when).year == datetime.now(display_zone()).year
    return written(local(when), "d MMMM" if is_this_year else DAY)


def date(when: Date) -> str:
    """Return `31 December 1990`."""
    return str(format_date(when, DAY, locale=language_code()))


def weekday(when: datetime) -> str:
    """Return `Mon`."""
    return written(local(when), "ccc")


def clock(when: datetime) -> str:
    """Return `15:04:03`."""
    return f"{local(when):%H:%M:%S}"


def moment(when: datetime) -> str:
    """Return `23 November 2026, 15:04:03`."""
    return written(local(when), f"{DAY}, HH:mm:ss")


def written(when: datetime, pattern: str) -> str:
    """Return a moment as its own zone has it, in the reader's language, by a pattern of Unicode (UTS 35)."""
    return _written(when.replace(tzinfo=None), pattern, language_code())


@lru_cache(maxsize=2048)
def _written(when: datetime, pattern: str, language: str) -> str:
    """Pages have the same columns again and again. Of no zone: the same moment of two would be one to the cache."""
    return str(format_datetime(when, pattern, locale=language))


def zone_label(zone: ZoneInfo | None = None, when: datetime | None = None) -> str:
    """Return the zone of the times shown: `Moscow time (UTC+3)`."""
    zone = zone or display_zone()
    offset = _offset((when or datetime.now(zone)).astimezone(zone))
    if zone.key == "Europe/Moscow":
        return gettext("Moscow time (%(offset)s)", offset=offset)
    if zone.key == "UTC":
        return gettext("time in UTC")
    city = get_timezone_location(zone, locale=language_code(), return_city=True)
    return gettext("time of %(city)s (%(offset)s)", city=city, offset=offset)


def _offset(when: datetime) -> str:
    minutes = (when.utcoffset() or timedelta()) // timedelta(minutes=1)
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes >= 0 else '−'}{hours}{f':{rest:02}' if rest else ''}"


def kind(value: AttemptRow | Outcome | int) -> str:
    """Return the class by which an outcome, or what has one, is coloured."""
    outcome = Outcome.of(value) if isinstance(value, int) else value if isinstance(value, Outcome) else value.outcome
    return {Outcome.CREATED: "ok", Outcome.REJECTED: "bad", Outcome.FAILED: "down", Outcome.UNCHANGED: "same"}[outcome]


def pretty(value: object) -> str:
    """Return JSON for people: indented, no escapes where none are needed. The template escapes it for HTML."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def theme() -> str:
    """Return the theme that the reader chose, "" for that of the system."""
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else ""


def follows() -> bool:
    """Tell whether the reader wants to be offered new attempts, which is so until the box is emptied."""
    return request.cookies.get("follow") != "off"


def here(**changes: str) -> str:
    """Return the query of this page with some values changed: a link that stays on the page, whatever its path."""
    values = {name: given for name, given in request.args.lists() if name not in changes}
    return "?" + urlencode(values | changes, doseq=True)


def address(endpoint: str, **values: Any) -> str:
    """Return the address of a view, also where there is no routing: a request to a foreign host gets an error page."""
    adapter = request_ctx.url_adapter or current_app.url_map.bind("localhost")
    external = values.pop("_external", False)
    return adapter.build(endpoint, _present(values), force_external=external)


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
