"""Typed wrappers of Flask-Babel, which translates texts into the language of the request."""

import flask_babel


def gettext(text: str, **variables: object) -> str:
    """Translate a text and fill in its variables."""
    return str(flask_babel.gettext(text, **variables))


def pgettext(context: str, text: str) -> str:
    """Translate a text whose translation depends on the context."""
    return str(flask_babel.pgettext(context, text))


def ngettext(singular: str, plural: str, num: int, **variables: object) -> str:
    """Translate a text in the singular or plural form for `num`, which replaces `%(num)s`."""
    return str(flask_babel.ngettext(singular, plural, num, **variables))


def language_code() -> str:
    """Return the language into which gettext() translates now: `ru` or `en`."""
    return str(flask_babel.get_locale())
