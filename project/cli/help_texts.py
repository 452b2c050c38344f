"""Translates the help of commands, and click's own texts, for the language of the terminal."""

import gettext as standard_gettext
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from project.http.translations import gettext


def N_(text: str) -> str:  # noqa: N802 - Babel extracts the argument of a function with this name
    """Mark a text for extraction by Babel and return it unchanged."""
    return text


CLICK_TEXTS = (
    N_("Usage:"),
    N_("Options"),
    N_("Commands"),
    N_("required"),
    N_("Show this message and exit."),
    N_("Error: {message}"),
    N_("Try '{command} {option}' for help."),
    N_("Missing argument"),
    N_("Missing option"),
    N_("Missing command."),
    N_("Invalid value: {message}"),
    N_("Invalid value for {param_hint}: {message}"),
    N_("No such option {name!r}."),
    N_("No such command {name!r}."),
    N_("{value!r} is not a valid UUID."),
    N_("Could not open file {filename!r}: {message}"),
    N_("Choose from:\n\t{choices}"),
    N_("Aborted!"),
)
"""Texts of click. It translates them with the gettext of the standard library, but includes no translations."""
EXAMPLES = "\b\n" + N_("Examples:")
"""Beginning of the last paragraph of a help text. The character \\b tells click not to rewrap the paragraph."""

Part = Any
"""A command, group, option or argument of click."""


def use_translations_of_click() -> None:
    """Make click look up its texts in the translations of the project."""
    standard_gettext.bindtextdomain("messages", str(Path(__file__).parents[1] / "translations"))


def help_text(*paragraphs: str, examples: tuple[str, ...]) -> str:
    """Return the help of a command: paragraphs marked with N_(), and example command lines."""
    return "\n\n".join([*paragraphs, "\n  ".join([EXAMPLES, *examples])])


def english_texts(command: click.Command) -> Iterator[tuple[Part, str, str]]:
    """Yield the texts of a command and its subcommands as (part, name of its attribute, text)."""
    for part in (command, *command.params):
        for attribute in ("help", "prompt"):
            text = getattr(part, attribute, None)
            if isinstance(text, str):
                yield part, attribute, text
    for subcommand in command.commands.values() if isinstance(command, click.Group) else ():
        yield from english_texts(subcommand)


def translate(texts: list[tuple[Part, str, str]]) -> None:
    """Replace the texts of commands by their translations into the current language."""
    for part, attribute, text in texts:
        setattr(part, attribute, "\n\n".join(map(_translate_paragraph, text.split("\n\n"))))


def _translate_paragraph(paragraph: str) -> str:
    if paragraph.startswith(EXAMPLES):
        return paragraph.replace("Examples:", gettext("Examples:"), 1)
    return gettext(paragraph)
