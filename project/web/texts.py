"""Texts in the reader's language: the functions of Flask-Babel with their types. English is what stands in the code."""

import flask_babel


def gettext(text: str, **variables: object) -> str:
    """Return a text, its variables filled in."""
    return str(flask_babel.gettext(text, **variables))


def pgettext(context: str, text: str) -> str:
    """Return a text that has another translation elsewhere."""
    return str(flask_babel.pgettext(context, text))


def ngettext(singular: str, plural: str, num: int, **variables: object) -> str:
    """Return the form of a text that fits a number, which is its variable `num`."""
    return str(flask_babel.ngettext(singular, plural, num, **variables))


def language_code() -> str:
    """Return the language of the texts as Babel and HTML name it: `ru` or `en`."""
    return str(flask_babel.get_locale())
