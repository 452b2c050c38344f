"""Checks query parameters: the API refuses unknown ones, pages ignore and report them."""

from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from flask import Flask, current_app
from werkzeug.datastructures import MultiDict

from project.domain.errors import RefusalError
from project.domain.names import find_parameter
from project.domain.text import clean
from project.http.request_state import current_request

COMMON_PARAMETERS = ("lang", "tz")
"""Query parameters that every page accepts."""
MAX_REPORTED_PARAMETERS = 5
"""Maximum number of unknown query parameters that a page reports."""
BOOLEANS = dict.fromkeys(("", "true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
"""Lower-case text of a boolean query parameter -> its value. `?name` without a value means True."""

View = TypeVar("View", bound=Callable[..., object])


def init_app(app: Flask) -> None:
    """Pass the function `ignored_parameters` to templates."""
    app.context_processor(lambda: {"ignored_parameters": ignored_parameters})


def page_parameters(*names: str) -> Callable[[View], View]:
    """Return a decorator that declares a page's query parameters besides COMMON_PARAMETERS."""

    def mark(view: View) -> View:
        view.page_parameters = names  # type: ignore[attr-defined]
        return view

    return mark


def ignored_parameters() -> list[str]:
    """Return up to MAX_REPORTED_PARAMETERS names of unknown query parameters, made printable."""
    request = current_request()
    if not request.environ.get("QUERY_STRING") or request.endpoint is None:
        return []
    known = (*COMMON_PARAMETERS, *getattr(current_app.view_functions[request.endpoint], "page_parameters", ()))
    return [clean(name, 40) for name in request.args if name not in known][:MAX_REPORTED_PARAMETERS]


def check_parameters(args: MultiDict[str, str], known: Sequence[str], repeatable: Sequence[str] = ()) -> None:
    """Raise RefusalError if a parameter is not in `known`, or repeated but not in `repeatable`."""
    for name, values in args.lists():
        if name not in known:
            hint, shown = find_parameter(name, known), clean(name, 40)
            if hint:
                example = urlencode({hint: clean(values[0], 40)}) if values[0] else hint
                raise RefusalError("unknown_parameter", "hint", name=shown, hint=hint, example=example)
            raise RefusalError("unknown_parameter", name=shown, known=", ".join(known))
        if len(values) > 1 and name not in repeatable:
            raise RefusalError("bad_request", "repeated", name=name)


def read_boolean(args: MultiDict[str, str], name: str) -> bool:
    """Return a boolean parameter, False if absent. Raises RefusalError if not in BOOLEANS."""
    if name not in args:
        return False
    try:
        return BOOLEANS[args[name].lower()]
    except KeyError:
        raise RefusalError("unknown_parameter", "switch", name=name) from None
