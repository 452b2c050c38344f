"""Writes the tables of the documents from the code; a test holds that nothing is left to write.

Run it with `.venv/bin/python docs/generate.py`. What stands between `<!-- NAME -->` and `<!-- /NAME -->` is replaced.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from babel.support import NullTranslations, Translations

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from config import settings  # noqa: E402 - the root is not on the path before
from project.contract.error_codes import FIELD_CODES, PROBLEMS  # noqa: E402

Words = NullTranslations
HEADS = {
    "settings": ("Variable", "Default", "Meaning"),
    "problems": ("HTTP", "Code", "Meaning", "Retry?"),
    "fields": ("Code", "Fields", "Meaning"),
}
HEADS_RU = {
    "settings": ("Переменная", "По умолчанию", "Что значит"),
    "problems": ("HTTP", "Код", "Что значит", "Повторять?"),
    "fields": ("Код", "Поля", "Что значит"),
}


def main() -> None:
    """Write every generated part of every document."""
    for path, text in documents().items():
        path.write_text(text)


def documents() -> Mapping[Path, str]:
    """Return every document that has generated parts, as it should be."""
    english, russian = NullTranslations(), Translations.load(ROOT / "project" / "translations", ["ru"])
    found = {ROOT / ".env.example": env_example()}
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]):
        words = russian if path.name.endswith(".ru.md") else english
        heads = HEADS_RU if words is russian else HEADS
        text = path.read_text()
        for name, table in TABLES.items():
            text = _put(text, name, _table(heads[name], table(words)))
        found[path] = text
    return found


def env_example() -> str:
    """Return a file of settings in which nothing is set: each line shows a default."""
    lines = ["# Settings of useradd: take a line's # away and change it. `flask` and `./run` read .env.", ""]
    for name, description in settings().items():
        lines += [f"# {description['meaning']}", f"# {name.upper()}={description['shown']}", ""]
    return "\n".join(lines)


def _settings(words: Words) -> list[tuple[str, ...]]:
    return [
        (
            f"`{name.upper()}`",
            f"`{description['shown']}`" if description["shown"] else "",
            words.gettext(description["meaning"]),
        )
        for name, description in settings().items()
    ]


def _problems(words: Words) -> list[tuple[str, ...]]:
    yes = words.gettext("yes")
    return [
        (str(problem.status), f"`{code}`", _text(words, problem.title), yes if problem.retryable else "")
        for code, problem in PROBLEMS.items()
    ]


def _fields(words: Words) -> list[tuple[str, ...]]:
    return [(f"`{code}`", entry.fields, _text(words, entry.short)) for code, entry in FIELD_CODES.items()]


TABLES: Mapping[str, Callable[[Words], list[tuple[str, ...]]]] = {
    "settings": _settings,
    "problems": _problems,
    "fields": _fields,
}


def _text(words: Words, lazy: object) -> str:
    """Return a text of the catalogue, which outside a request is not yet translated."""
    return words.gettext(getattr(lazy, "_args", (str(lazy),))[0])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _put(text: str, name: str, table: str) -> str:
    start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    return re.sub(f"{start}.*?<!-- /{name} -->", lambda _: start + table + end, text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
