"""Generates tables of the documents from the code; a test checks that they are up to date.

Run `.venv/bin/python docs/generate.py`. Text between `<!-- NAME -->` and `<!-- /NAME -->` is replaced.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from babel.support import NullTranslations, Translations

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from config import settings  # noqa: E402 - needs the root on the path
from project.contract.error_codes import FIELD_CODES, PROBLEMS  # noqa: E402

HEADERS = {
    "settings": ("Variable", "Default", "Description"),
    "problems": ("HTTP", "Code", "Meaning", "Retry?"),
    "fields": ("Code", "Fields", "Meaning"),
}
HEADERS_RU = {
    "settings": ("Переменная", "По умолчанию", "Описание"),
    "problems": ("HTTP", "Код", "Значение", "Повторить?"),
    "fields": ("Код", "Поля", "Значение"),
}


def main() -> None:
    """Update all documents."""
    for path, text in documents().items():
        path.write_text(text)


def documents() -> Mapping[Path, str]:
    """Return the up-to-date text of every document by its path."""
    english, russian = NullTranslations(), Translations.load(ROOT / "project" / "translations", ["ru"])
    texts = {ROOT / ".env.example": env_example()}
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]):
        translations = russian if path.name.endswith(".ru.md") else english
        headers = HEADERS_RU if translations is russian else HEADERS
        text = path.read_text()
        for name, table in TABLES.items():
            text = _replace(text, name, _markdown(headers[name], table(translations)))
        texts[path] = text
    return texts


def env_example() -> str:
    """Return .env.example, with all settings commented out at their defaults."""
    lines = ["# Settings of useradd. Copy to .env, which `flask` and `./run` read, and uncomment what you change.", ""]
    for name, metadata in settings().items():
        lines += [f"# {metadata['description']}", f"# {name.upper()}={metadata['shown']}", ""]
    return "\n".join(lines)


def _settings(translations: NullTranslations) -> list[tuple[str, ...]]:
    return [
        (
            f"`{name.upper()}`",
            f"`{metadata['shown']}`" if metadata["shown"] else "",
            translations.gettext(metadata["description"]),
        )
        for name, metadata in settings().items()
    ]


def _problems(translations: NullTranslations) -> list[tuple[str, ...]]:
    yes = translations.gettext("yes")
    return [
        (str(problem.status), f"`{code}`", _translate(translations, problem.title), yes if problem.is_retryable else "")
        for code, problem in PROBLEMS.items()
    ]


def _fields(translations: NullTranslations) -> list[tuple[str, ...]]:
    any_field = str(translations.pgettext("fields", "any"))
    return [
        (f"`{code}`", any_field if entry.fields == "any" else entry.fields, _translate(translations, entry.short_text))
        for code, entry in FIELD_CODES.items()
    ]


TABLES: Mapping[str, Callable[[NullTranslations], list[tuple[str, ...]]]] = {
    "settings": _settings,
    "problems": _problems,
    "fields": _fields,
}


def _translate(translations: NullTranslations, lazy: object) -> str:
    """Translate a lazy text of the error codes, which has no translation outside a request."""
    return translations.gettext(getattr(lazy, "_args", (str(lazy),))[0])


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _replace(text: str, name: str, table: str) -> str:
    start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    return re.sub(f"{start}.*?<!-- /{name} -->", lambda _: start + table + end, text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
