"""The request schema of POST /useradd. It does not check uniqueness: PostgreSQL does."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Any

from marshmallow import RAISE, Schema, fields

from project.domain import emails, usernames
from project.domain.dates import parse_birth_date
from project.domain.emails import normalize_email
from project.domain.errors import FIELDS, NO_PARAMS, FieldError, RuleError, ValidationFailedError
from project.domain.json_elements import find_wrapped_list
from project.domain.logins import check_contact_as_username
from project.domain.names import find_similar_field, is_name_part
from project.domain.phones import MAX_PHONE_LENGTH, normalize_phone
from project.domain.registration import NewUser
from project.domain.strict_json import json_type
from project.domain.text import clean, is_blank, normalize_name

MAX_NAME_LENGTH = 300
OPTIONAL_FIELDS = ("phone", "email", "birth_date")
MAX_UNKNOWN_FIELDS = 20
"""Maximum number of unknown fields that a response lists."""


class ParsedString(fields.String):
    """A string field that is parsed with `rule`, a function that may raise RuleError."""

    def __init__(self, rule: Callable[[str], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rule = rule

    def parse(self, value: object) -> Any:
        """Return the parsed value of the field. Raises RuleError if the value is invalid."""
        if value is None:
            raise RuleError("required")
        if not isinstance(value, str):
            raise RuleError("invalid_type", json_type(value))
        return self._rule(value)


class UserAddSchema(Schema):
    """Schema that loads the body of POST /useradd as NewUser."""

    class Meta:
        """Options for the OpenAPI document. load() itself refuses unknown fields."""

        unknown = RAISE

    name = ParsedString(
        partial(normalize_name, limit=MAX_NAME_LENGTH),
        required=True,
        metadata={
            "description": "Person's name in any script",
            "minLength": 1,
            "maxLength": MAX_NAME_LENGTH,
            "example": "Иван Петров",
        },
    )
    username = ParsedString(
        usernames.check_username,
        required=True,
        metadata={
            "description": "Login: letters of one script (Latin or Cyrillic), digits and @ . + - _. Stored as "
            "sent without surrounding blanks, unique regardless of case. A login that reads as a phone number or "
            "e-mail address must be the user's own",
            "minLength": 1,
            "maxLength": usernames.MAX_LENGTH,
            "example": "petrov.ivan",
        },
    )
    phone = ParsedString(
        lambda text: normalize_phone(text, "RU"),
        metadata={
            "description": "Phone number as people write it, stored as E.164. Send phone or email",
            "nullable": True,
            "maxLength": MAX_PHONE_LENGTH,
            "example": "8 (999) 123-45-67",
        },
    )
    email = ParsedString(
        normalize_email,
        metadata={
            "description": "E-mail address, stored as written, unique regardless of case. Send phone or email",
            "nullable": True,
            "maxLength": emails.MAX_LENGTH,
            "example": "ivan@example.org",
        },
    )
    birth_date = ParsedString(
        lambda text: parse_birth_date(text, _latest_date()),
        metadata={
            "description": "YYYY-MM-DD or DD.MM.YYYY, optionally with a time of midnight, from 1900-01-01 to today",
            "nullable": True,
            "example": "1990-12-31",
        },
    )

    def __init__(self, phone_region: str = "RU") -> None:
        super().__init__()
        self._parsed_fields = {name: field for name, field in self.fields.items() if isinstance(field, ParsedString)}
        # Positional arguments as in masking, so that both share the cache of normalize_phone()
        self._parsed_fields["phone"]._rule = lambda text: normalize_phone(text, phone_region)
        self._phone_region = phone_region

    def load(self, data: Any, **_: Any) -> NewUser:
        """Validate a body, which must be a dict. Raises ValidationFailedError with all errors.

        Optional fields that are null or blank count as missing. Unknown fields are refused, because they are usually
        typos; at most MAX_UNKNOWN_FIELDS of them are reported. Overrides marshmallow's load(), which takes several
        times as long, because it runs hooks and wraps errors.
        """
        sent = {name: value for name, value in data.items() if not (name in OPTIONAL_FIELDS and _is_absent(value))}
        values: dict[str, Any] = dict.fromkeys(OPTIONAL_FIELDS)
        errors: dict[str, RuleError] = {}
        for name, field in self._parsed_fields.items():
            if name in sent or field.required:
                try:
                    values[name] = field.parse(sent.get(name))
                except RuleError as error:
                    errors[name] = error
        if "username" in values:
            self._check_username_contact(values, errors)
        if "phone" not in sent and "email" not in sent:
            errors["phone"] = RuleError("contact_required")
        if errors or not self._parsed_fields.keys() >= sent.keys():
            raise ValidationFailedError(tuple(_field_errors(errors, data)))
        return NewUser(**values)

    def _check_username_contact(self, values: Mapping[str, Any], errors: dict[str, RuleError]) -> None:
        """Add an error if the username is a phone number or e-mail address not of the user.

        If the user's own phone number or e-mail address is invalid, only that error is reported.
        """
        try:
            check_contact_as_username(values["username"], values["phone"], values["email"], self._phone_region)
        except RuleError as error:
            if error.params["field"] not in errors:
                errors["username"] = error


@cache
def user_add_schema(phone_region: str) -> UserAddSchema:
    """Return the schema for a phone region, cached and shared by threads."""
    return UserAddSchema(phone_region)


def _latest_date() -> date:
    """Return today's date in UTC+14, the time zone with the latest date on Earth."""
    return (datetime.now(UTC) + timedelta(hours=14)).date()


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and is_blank(value))


def _field_errors(errors: Mapping[str, RuleError], sent: Mapping[str, Any]) -> Iterable[FieldError]:
    """Yield the errors of sent fields in their order, then the errors of missing fields."""
    names = [name for name in sent if name not in FIELDS][:MAX_UNKNOWN_FIELDS]
    unknown = {name: _unknown_field(name[:MAX_NAME_LENGTH]) for name in names}
    if (key := find_wrapped_list(sent)) in unknown:
        unknown[key] = FieldError(clean(key, 40), "unknown_field", "list")
    causes = {error.params.get("hint"): error.variant for error in unknown.values()}
    for name in dict.fromkeys((*sent, *FIELDS)):
        if name in unknown:
            yield unknown[name]
        elif name in errors:
            rule = errors[name]
            variant = _REQUIRED_VARIANTS.get(causes.get(name, ""), "") if rule.code == "required" else rule.variant
            yield FieldError(name, rule.code, variant, rule.params)


_REQUIRED_VARIANTS = {"hint": "misnamed", "name_part": "in_parts"}
"""Variant of `unknown_field` -> variant of `required` for the missing field that the unknown field probably meant."""


def _unknown_field(name: str) -> FieldError:
    hint = find_similar_field(name)
    variant = "name_part" if is_name_part(name) else "hint" if hint else ""
    return FieldError(clean(name, 40), "unknown_field", variant, {"hint": hint} if hint else NO_PARAMS)
