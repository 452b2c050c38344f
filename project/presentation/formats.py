"""Jinja filters and globals that format numbers, times, codes and URLs for pages."""

import json
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from babel import dates
from babel.units import format_unit
from flask import Flask, current_app, has_request_context, request
from flask.globals import request_ctx
from flask_babel import get_translations
from jinja2 import StrictUndefined

from project.contract import error_codes
from project.domain.attempts import AttemptRow, Outcome
from project.domain.messages import Messages
from project.domain.phones import format_phone
from project.domain.reports import Report
from project.exporters import sizes
from project.exporters.translations import Translations
from project.http.languages import LANGUAGES, display_zone, to_display_zone
from project.http.request_state import request_state
from project.http.translations import gettext, language_code
from project.version import VERSION

THEMES = ("light", "dark")
DAY_PATTERN = "d MMMM y"
"""Unicode pattern (UTS 35) of a day with its year."""
_SIZES = (("gigabyte", 10**9), ("megabyte", 10**6), ("kilobyte", 10**3))


def init_app(app: Flask) -> None:
    """Register the filters and globals; make undefined names in templates raise an error."""
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.filters.update(
        number=format_number,
        date=format_date,
        size=format_size,
        day=format_day,
        clock=format_clock,
        to_display_zone=to_display_zone,
        machine_time=format_machine_time,
        phone=format_phone,
        date_and_time=format_date_and_time,
        css_class=css_class,
        pretty_json=pretty_json,
        reason=error_codes.reason_text,
        status=error_codes.status_text,
        message=error_codes.message_text,
        problem_title=lambda code: str(error_codes.PROBLEMS[code].title),
    )
    app.jinja_env.globals.update(
        LANGUAGES=LANGUAGES,
        VERSION=VERSION,
        current_query=current_query,
        expected_size=expected_size,
        should_poll_attempts=should_poll_attempts,
        language=language_code,
        request_id=lambda: request_state().request_id,
        share=format_share,
        theme=selected_theme,
        url_for=build_url,
        zone_label=zone_label,
    )


def translations() -> Translations:
    """Return translations, labels and number formats in the current language.

    Within a request, the object is created only once.
    """
    if not has_request_context():
        return _load_translations()
    state = request_state()
    if state.translations is None:
        state.translations = _load_translations()
    return state.translations


def _load_translations() -> Translations:
    """Translate all labels in advance, because streaming outlives the request context."""
    catalog = get_translations()
    codes = (*error_codes.FIELD_CODES, *error_codes.PROBLEMS, *error_codes.OTHER_REASONS)
    reasons = {code: error_codes.reason_text(code) for code in codes}
    statuses = {status: error_codes.status_text(status) for status in error_codes.STATUS_TEXTS}
    messages = Messages(
        fields={field: str(label) for field, label in error_codes.FIELD_LABELS.items()},
        sentences={
            (code, variant): str(sentence)
            for code, field_code in error_codes.FIELD_CODES.items()
            for variant, sentence in field_code.messages.items()
        },
    )

    def ngettext(singular: str, plural: str, num: int, /, **variables: object) -> str:
        text: str = catalog.ungettext(singular, plural, num)
        return text % ({"num": num} | variables)

    return Translations(
        language=language_code(),
        gettext=catalog.ugettext,
        ngettext=ngettext,
        reason=lambda code: reasons.get(code, code),
        status=lambda status: statuses.get(status) or error_codes.status_text(status),
        messages=messages,
    )


def format_number(value: int) -> str:
    """Format a number in the current language: `10,930`."""
    return translations().number(value)


def format_size(value: int) -> str:
    """Format a number of bytes: `44 MB`."""
    unit, scale = next((pair for pair in _SIZES if value >= pair[1]), _SIZES[-1])
    shown = round(value / scale, 1 if value < 10 * scale else None)
    return str(format_unit(shown, unit, length="short", locale=language_code())).replace(" ", "\N{NO-BREAK SPACE}")


def expected_size(ending: str, report: Report) -> int:
    """Return the expected size in bytes of a download in the current language."""
    return sizes.expected_size(ending, report, translations())


def format_share(part: int, whole: int) -> str:
    """Format a share as a percentage, or as `—` if `whole` is 0.

    A partial share is never rounded to 0 % or 100 %.
    """
    return translations().share(part, whole)


def format_day(time: datetime) -> str:
    """Format a day: `23 November`, with the year unless it is the current one.

    Day and year are those of the display zone.
    """
    is_this_year = to_display_zone(time).year == datetime.now(display_zone()).year
    return format_time(to_display_zone(time), "d MMMM" if is_this_year else DAY_PATTERN)


def format_date(day: date) -> str:
    """Format a date: `31 December 1990`."""
    return str(dates.format_date(day, DAY_PATTERN, locale=language_code()))


def format_machine_time(moment: datetime) -> str:
    """Format a time for the HTML attribute `datetime`, which permits at most milliseconds."""
    return to_display_zone(moment).isoformat(timespec="milliseconds")


def format_clock(time: datetime) -> str:
    """Format the time of day in the display zone: `15:04:03`."""
    return f"{to_display_zone(time):%H:%M:%S}"


def format_date_and_time(time: datetime) -> str:
    """Format a time in the display zone: `23 November 2026, 15:04:03`."""
    return format_time(to_display_zone(time), f"{DAY_PATTERN}, HH:mm:ss")


def format_time(time: datetime, pattern: str) -> str:
    """Format a time, in its own zone and the current language, by a Unicode pattern (UTS 35)."""
    return _format_time(time.replace(tzinfo=None), pattern, language_code())


@lru_cache(maxsize=2048)
def _format_time(time: datetime, pattern: str, language: str) -> str:
    """Format a naive time. The cache would confuse aware times, which are equal across zones."""
    return str(dates.format_datetime(time, pattern, locale=language))


def zone_label(zone: ZoneInfo | None = None, time: datetime | None = None) -> str:
    """Return the name of a time zone, by default the display zone: `Moscow time (UTC+3)`."""
    zone = zone or display_zone()
    offset = offset_label((time or datetime.now(zone)).astimezone(zone))
    if zone.key == "Europe/Moscow":
        return gettext("Moscow time (%(offset)s)", offset=offset)
    if zone.key == "UTC":
        return gettext("time in UTC")
    city = dates.get_timezone_location(zone, locale=language_code(), return_city=True)
    return gettext("%(city)s time (%(offset)s)", city=city, offset=offset)


def offset_label(time: datetime) -> str:
    """Return the offset of a time from UTC: `UTC+3`."""
    minutes = (time.utcoffset() or timedelta()) // timedelta(minutes=1)
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes >= 0 else '−'}{hours}{f':{rest:02}' if rest else ''}"


def css_class(value: AttemptRow | Outcome | int) -> str:
    """Return the CSS class for an outcome, or for the outcome of an attempt or HTTP status."""
    outcome = Outcome.of(value) if isinstance(value, int) else value if isinstance(value, Outcome) else value.outcome
    return {Outcome.CREATED: "ok", Outcome.REJECTED: "bad", Outcome.FAILED: "down", Outcome.UNCHANGED: "same"}[outcome]


def pretty_json(value: object) -> str:
    """Return indented JSON that keeps non-ASCII characters. The template escapes it for HTML."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def selected_theme() -> str:
    """Return the theme that the reader has selected, or "" for the system theme."""
    theme = request.cookies.get("theme", "")
    return theme if theme in THEMES else ""


def should_poll_attempts() -> bool:
    """Return whether the results page polls for new attempts. The reader can turn this off."""
    return request.cookies.get("follow") != "off"


def current_query(**changes: str) -> str:
    """Return the query string of this page, `?...`, with some parameters replaced."""
    values = {name: given for name, given in request.args.lists() if name not in changes}
    return "?" + urlencode(values | changes, doseq=True)


def build_url(endpoint: str, **values: Any) -> str:
    """Return the URL of a view, without the values that are None.

    Works also for a request to a refused host, where url_for() fails.
    """
    adapter = request_ctx.url_adapter or current_app.url_map.bind("localhost")
    external = values.pop("_external", False)
    present = {name: value for name, value in values.items() if value is not None}
    return adapter.build(endpoint, present, force_external=external)
