"""Error codes: the contract, the code that raises them and their descriptions agree."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_babel import force_locale

from project.contract.error_codes import (
    EXAMPLE_USER,
    FIELD_CODES,
    OTHER_REASONS,
    PROBLEMS,
    STATUS_TEXTS,
    detail_text,
    message_text,
)
from project.contract.openapi import REFUSED_BY_SERVER
from project.contract.schemas import user_add_schema
from project.domain.errors import FIELDS as FIELD_NAMES
from project.domain.errors import FieldError
from tests.unit.test_rules import RULES

ROOT = Path(__file__).parents[2]
CONTRACT = {
    "unknown_parameter": 400,
    "unknown_host": 400,
    "malformed_json": 400,
    "body_not_object": 400,
    "bad_idempotency_key": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "conflict": 409,
    "idempotency_in_progress": 409,
    "credentials_changed": 409,
    "body_too_large": 413,
    "too_many": 413,
    "unsupported_media_type": 415,
    "validation_failed": 422,
    "idempotency_key_reused": 422,
    "rate_limited": 429,
    "internal_error": 500,
    "database_unavailable": 503,
    "overloaded": 503,
    "outcome_unknown": 503,
    "http_version_not_supported": 505,
}
"""A literal copy of the contract: changing the status of a code breaks clients."""
RETRYABLE = {
    "request_timeout",
    "idempotency_in_progress",
    "rate_limited",
    "internal_error",
    "database_unavailable",
    "overloaded",
    "outcome_unknown",
}
ADDED = {"bad_request": 400, "exports_busy": 503, "head_too_large": 431, "transfer_coding_not_supported": 501}
"""Additional codes that are not in the contract."""
FIELDS = {
    "required", "contact_required", "invalid_type", "blank", "too_long", "invalid_characters", "invalid_username",
    "invalid_phone", "invalid_email", "invalid_date", "date_out_of_range", "unknown_field", "username_taken",
    "phone_taken", "email_taken",
}  # fmt: skip

RAISING = {"RuleError": 0, "RefusalError": 0, "RecordedRefusalError": 0, "FieldError": 1}
"""Class -> index of the argument with the code. The next argument is the variant."""
DESCRIBING = {"project/contract/error_codes.py", "project/api/openapi.py", "project/reports/openapi.py"}


EXEMPLIFIED = ("invalid_username", "invalid_phone", "invalid_email", "invalid_date", "date_out_of_range")
EXAMPLE = re.compile(".*(?:Example:|Пример:|for example|например|in the form|в виде|digit:|цифру:) ([^:]+)[.]$")
FIELD_OF_VARIANT = {"in_parts": "name", "name_part": "name"}
"""Variant of a code of any field -> field that its example is for."""


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_problem_has_the_status_of_the_contract(code: str) -> None:
    assert PROBLEMS[code].status == (CONTRACT | ADDED)[code]


@pytest.mark.parametrize("code", sorted(PROBLEMS.keys() & CONTRACT.keys()))
def test_a_problem_is_retryable_if_the_contract_says_so(code: str) -> None:
    assert PROBLEMS[code].is_retryable == (code in RETRYABLE)


def test_field_codes_are_those_of_the_contract() -> None:
    assert set(FIELD_CODES) == FIELDS


def test_every_raised_code_is_described() -> None:
    described = PROBLEMS.keys() | FIELD_CODES.keys()

    raised = {code for code, _ in _raised_codes()}

    assert len(raised) > 20
    assert raised - described == set()


def test_every_raised_variant_has_a_message() -> None:
    messages = {code: set(problem.details) for code, problem in PROBLEMS.items()}
    messages |= {code: set(field.messages) for code, field in FIELD_CODES.items()}

    missing = {(code, variant) for code, variant in _raised_codes() if variant not in messages.get(code, ())}

    assert missing == set()


def test_every_described_code_is_used() -> None:
    unused = (PROBLEMS.keys() | FIELD_CODES.keys()) - _string_literals()

    assert unused == set(), "no response has these codes"


def test_every_status_of_useradd_has_a_name() -> None:
    elsewhere = {"forbidden", "not_found", "exports_busy", *REFUSED_BY_SERVER}

    assert {problem.status for code, problem in PROBLEMS.items() if code not in elsewhere} <= STATUS_TEXTS.keys()


def test_every_text_has_a_russian_translation(app: Flask) -> None:
    with app.test_request_context():
        russian, english = _texts("ru"), _texts("en")

    assert russian.keys() == english.keys()
    assert {key for key, text in russian.items() if text == english[key]} == set()
    assert [key for key, text in russian.items() if not re.search("[а-яё]", text)] == []


def test_default_messages_can_be_formatted_with_their_samples(app: Flask) -> None:
    with app.test_request_context():
        assert [code for code, problem in PROBLEMS.items() if "%(" in detail_text(code, "", problem.sample)] == []
    for code, field in FIELD_CODES.items():
        assert "%(" not in (str(field.messages[""]) % field.sample if field.sample else field.messages[""]), code


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("code", EXEMPLIFIED)
def test_every_message_of_a_field_ends_in_an_example_that_its_rule_accepts(
    app: Flask, code: str, language: str
) -> None:
    with app.test_request_context(), force_locale(language):
        messages = {variant: str(text) for variant, text in FIELD_CODES[code].messages.items()}

    assert [variant for variant, message in messages.items() if not EXAMPLE.match(message)] == []


@pytest.mark.parametrize("language", ["en", "ru"])
def test_every_example_in_a_message_of_a_field_is_accepted_by_its_rule(app: Flask, language: str) -> None:
    checked = set()
    with app.test_request_context(), force_locale(language):
        texts = [
            (code, variant, str(text)) for code, one in FIELD_CODES.items() for variant, text in one.messages.items()
        ]

    for code, variant, text in texts:
        match = EXAMPLE.match(text)
        for example in re.split(" or | или ", match[1]) if match else ():
            field = _field_of_example(code, variant, example)
            RULES[field](example.removeprefix(f"{field} ").strip('"'))
            checked.add(code)

    assert checked >= {*EXEMPLIFIED, "required", "contact_required", "invalid_type", "blank", "username_taken"}


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_body_that_details_show_creates_a_user(app: Flask, language: str) -> None:
    with app.test_request_context(), force_locale(language):
        body, detail = str(EXAMPLE_USER), detail_text("unsupported_media_type", "form")

    assert user_add_schema("RU").load(json.loads(body)).username == "petrov.ivan"
    assert detail.endswith(body)


@pytest.mark.parametrize(("language", "forms"), [("en", "YYYY-MM-DD DD.MM.YYYY"), ("ru", "ГГГГ-ММ-ДД ДД.ММ.ГГГГ")])
def test_every_message_about_an_invalid_date_names_both_forms(app: Flask, language: str, forms: str) -> None:
    with app.test_request_context(), force_locale(language):
        messages = {variant: str(text) for variant, text in FIELD_CODES["invalid_date"].messages.items()}

    assert [variant for variant, text in messages.items() if not all(form in text for form in forms.split())] == []


@pytest.mark.parametrize("name", ["hint", "name_part", "number"])
def test_an_unknown_field_with_the_name_of_a_variant_gets_the_default_message(app: Flask, name: str) -> None:
    with app.test_request_context():
        message = message_text(FieldError(name, "unknown_field"))

        assert message == str(FIELD_CODES["unknown_field"].messages[""])


def _texts(language: str) -> dict[tuple[str, ...], str]:
    """Return every text of the error codes by its location."""
    found: dict[tuple[str, ...], str] = {(code, "title"): problem.title for code, problem in PROBLEMS.items()}
    found |= {(code, "detail", name): text for code, one in PROBLEMS.items() for name, text in one.details.items()}
    found |= {(code, "short"): field.short_text for code, field in FIELD_CODES.items()}
    found |= {(code, "message", name): text for code, one in FIELD_CODES.items() for name, text in one.messages.items()}
    found |= {(code,): text for code, text in OTHER_REASONS.items()}
    found |= {(str(status),): text for status, text in STATUS_TEXTS.items()}
    with force_locale(language):
        return {key: str(text) for key, text in found.items()}


def _field_of_example(code: str, variant: str, example: str) -> str:
    """Return the field that an example is for: named in it or by the variant, or the code's."""
    for word in (example.split(" ", maxsplit=1)[0], variant.split(" ", maxsplit=1)[0]):
        if word in FIELD_NAMES:
            return word
    return FIELD_OF_VARIANT.get(variant, FIELD_CODES[code].fields)


def _nodes() -> Iterator[ast.AST]:
    for path in (ROOT / "project").rglob("*.py"):
        if path.relative_to(ROOT).as_posix() not in DESCRIBING:
            yield from ast.walk(ast.parse(path.read_text()))


def _raised_codes() -> Iterator[tuple[str, str]]:
    """Yield code and variant of every error created with a literal code."""
    for node in _nodes():
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in RAISING:
                texts = node.args[RAISING[name] :]
            case ast.ClassDef(bases=[ast.Name(id=name)]) if name in RAISING:
                texts = [one.args[0] for one in ast.walk(node) if isinstance(one, ast.Call) and one.args]
            case _:
                continue
        match texts:
            case [ast.Constant(value=str(code)), ast.Constant(value=str(variant)), *_]:
                yield code, variant
            case [ast.Constant(value=str(code)), *_]:
                yield code, ""


def _string_literals() -> set[str]:
    """Return every string literal of the Python code and the SQL functions."""
    constants = {node.value for node in _nodes() if isinstance(node, ast.Constant)}
    sql = "".join(path.read_text() for path in (ROOT / "migrations" / "functions").glob("*.sql"))
    taken = {f"{kind}_taken" for kind in ("username", "phone", "email")}  # composed in SQL and domain/errors.py
    return {text for text in constants if isinstance(text, str)} | set(re.findall(r"'(\w+)'", sql)) | taken
