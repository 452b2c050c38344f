"""The help of every command, in both languages."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import Result
from flask import Flask
from flask.cli import FlaskGroup

from project.cli import COMMANDS
from project.cli.help_texts import CLICK_TEXTS


def _paths(*commands: click.Command) -> Iterator[list[str]]:
    for command in commands:
        yield [str(command.name)]
        if isinstance(command, click.Group):
            yield from ([str(command.name), *path] for path in _paths(*command.commands.values()))


PATHS = list(_paths(*COMMANDS))
SINGLE = [path for path in PATHS if path == ["doctor"] or len(path) > 1]


def _commands(*commands: click.Command) -> Iterator[click.Command]:
    for command in commands:
        yield command
        if isinstance(command, click.Group):
            yield from _commands(*command.commands.values())


def _run(app: Flask, arguments: list[str]) -> Result:
    for command in _commands(*COMMANDS):
        command._help_option = None  # click keeps the option --help with its text of the first call in this process
    return app.test_cli_runner().invoke(FlaskGroup(create_app=lambda: app, load_dotenv=False), arguments)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_text_of_a_help_is_in_the_language_of_the_terminal(
    app: Flask, monkeypatch: pytest.MonkeyPatch, path: list[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")
    russian = _run(app, [*path, "--help"])
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    english = _run(app, [*path, "--help"])

    texts = [text for text in re.split(r"\n\n|\n  (?=\S)", _without_examples(russian.output)) if text.strip()]
    assert russian.exit_code == english.exit_code == 0
    assert [text for text in texts if not re.search("[а-яё]{3}", text)] == []
    assert "Usage: " in english.output
    assert "Options:" in english.output


@pytest.mark.parametrize("path", SINGLE, ids=" ".join)
def test_the_help_of_a_command_ends_with_examples_of_it(
    app: Flask, monkeypatch: pytest.MonkeyPatch, path: list[str]
) -> None:
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")

    assert f"  Примеры:\n    flask {' '.join(path)}" in _run(app, [*path, "--help"]).output


def test_the_list_of_commands_describes_those_of_the_service_in_the_language_of_the_terminal(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    english = _run(app, ["--help"]).output
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")
    russian = _run(app, ["--help"]).output

    in_russian = re.compile(r"^  ([a-z]\S*) +.*[а-яё]{3}", re.MULTILINE)
    assert in_russian.findall(english) == []
    assert set(in_russian.findall(russian)) == {command.name for command in COMMANDS}


def test_a_usage_error_is_in_the_language_of_the_terminal(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ru_RU.UTF-8")

    assert "Ошибка: Не указан аргумент 'LOGIN'.\n" in _run(app, ["users", "block"]).output


def test_click_has_every_text_that_is_translated_for_it() -> None:
    spec = find_spec("click")
    assert spec
    assert spec.origin
    source = "".join(path.read_text() for path in Path(spec.origin).parent.glob("*.py"))

    assert [text for text in CLICK_TEXTS if f'"{text}"'.replace("\n", "\\n").replace("\t", "\\t") not in source] == []


def _without_examples(text: str) -> str:
    return re.sub(r"  Примеры:\n(?:    .*\n)+", "", text)
