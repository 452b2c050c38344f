"""Every text has a Russian translation, and the compiled catalog is up to date."""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po

from project.http.languages import LANGUAGES

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "project" / "translations" / "ru" / "LC_MESSAGES"
ADVICE = "update the translations: see CONTRIBUTING.md"

Key = tuple[str | None, str | tuple[str, ...]]


@pytest.fixture(scope="module")
def extracted() -> set[Key]:
    """All texts of the code and the templates."""
    with (ROOT / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    found = extract_from_dir(ROOT, methods, options, keywords=DEFAULT_KEYWORDS)
    catalog = Catalog()
    for _, _, text, _, context in found:
        catalog.add(text, context=context)
    return {_key(message) for message in catalog if message.id}


@pytest.fixture(scope="module")
def russian() -> Catalog:
    """The translations in messages.po."""
    with (FOLDER / "messages.po").open("rb") as file:
        return read_po(file)


def test_no_translation_is_missing_or_unused(extracted: set[Key], russian: Catalog) -> None:
    translated = {_key(message) for message in _texts(russian)}

    assert len(extracted) > 200
    assert extracted - translated == set(), ADVICE
    assert translated - extracted == set(), ADVICE
    assert not russian.obsolete, ADVICE


def test_every_text_is_translated_in_all_plural_forms(russian: Catalog) -> None:
    for message in _texts(russian):
        forms = message.string if isinstance(message.string, tuple | list) else [message.string]
        assert all(forms), message.id
        assert len(forms) == (3 if message.pluralizable else 1), message.id
        assert not message.fuzzy, message.id


def test_translations_use_the_same_variables(russian: Catalog) -> None:
    for message in _texts(russian):
        forms = message.string if isinstance(message.string, tuple | list) else [message.string]
        texts = message.id if isinstance(message.id, tuple | list) else [message.id]
        for form in (*texts, *forms):
            assert _variables(form) == _variables(texts[0]), message.id


def test_translations_keep_addresses_and_codes(russian: Catalog) -> None:
    word = re.compile(r"/[a-z]+/|[A-Z]+(?:_[A-Z]+)+|Idempotency-Key|Content-Type|UTF-8|YYYY")
    for message in _texts(russian):
        if isinstance(message.id, str) and "YYYY" not in message.id:
            assert sorted(set(word.findall(message.id))) == sorted(set(word.findall(str(message.string)))), message.id


def test_the_compiled_catalog_is_up_to_date(russian: Catalog) -> None:
    compiled = read_mo(BytesIO((FOLDER / "messages.mo").read_bytes()))

    assert _strings(compiled) == _strings(russian), f"{ADVICE} (pybabel compile)"


def test_english_is_the_only_language_without_a_translation() -> None:
    translated = {path.name for path in (ROOT / "project" / "translations").iterdir() if path.is_dir()}

    assert translated | {"en"} == set(LANGUAGES)


def _key(message: Message) -> Key:
    context = message.context.decode() if isinstance(message.context, bytes) else message.context  # as read_mo has it
    return context, tuple(message.id) if isinstance(message.id, tuple | list) else message.id


def _texts(catalog: Catalog) -> Iterator[Message]:
    return (message for message in catalog if message.id)


def _strings(catalog: Catalog) -> dict[Key, tuple[str, ...]]:
    return {
        _key(message): tuple(message.string) if isinstance(message.string, tuple | list) else (str(message.string),)
        for message in _texts(catalog)
    }


def _variables(text: str) -> list[str]:
    return sorted(set(re.findall(r"%\(\w+\)[sd]|%%", text)) - {"%(num)s"})
