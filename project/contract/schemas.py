"""The request schema of POST /useradd. PostgreSQL, not the schema, enforces uniqueness."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Any, NoReturn

from marshmallow import RAISE, Schema, ValidationError, fields, post_load, pre_load, validates_schema

from project.domain import emails, usernames
from project.domain.dates import parse_birth_date
from project.domain.emails import normalize_email
from project.domain.errors import FIELDS, NO_PARAMS, FieldError, RuleError, ValidationFailedError
from project.domain.logins import check_own
from project.domain.names import find_similar_field, is_name_part
from project.domain.phones import MAX_PHONE_LENGTH, normalize_phone
from project.domain.registration import NewUser
from project.domain.strict_json import json_type
from project.domain.text import clean, is_blank, trimmed_name

MAX_NAME_LENGTH = 300
OPTIONAL = ("phone", "email", "birth_date")
MAX_UNKNOWN = 20
"""Maximum number of unknown fields that a response lists."""


class Checked(fields.String):
    """Field whose string is parsed by a function that raises RuleError."""

    default_error_messages = {"required": [RuleError("required")], "null": [RuleError("required")]}  # noqa: RUF012 - marshmallow takes any object

    def __init__(self, rule: Callable[[str], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rule = rule

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, str):
            raise ValidationError([RuleError("invalid_type", json_type(value))])
        try:
            return self._rule(value)
        except RuleError as error:
            raise ValidationError([error]) from None


class UserAddSchema(Schema):
    """Schema that loads the body of POST /useradd as NewUser. Raises ValidationFailedError."""

    class Meta:
        """Options of marshmallow: unknown fields are refused, because they are usually typos."""

        unknown = RAISE

    error_messages = {"unknown": [RuleError("unknown_field")]}  # type: ignore[dict-item]  # noqa: RUF012

    name = Checked(
        partial(trimmed_name, limit=MAX_NAME_LENGTH),
        required=True,
        metadata={
            "description": "Person's name in any script",
            "minLength": 1,
            "maxLength": MAX_NAME_LENGTH,
            "example": "Иван Петров",
        },
    )
    username = Checked(
        usernames.check,
        required=True,
        metadata={
            "description": "Login: letters of one script (Latin or Cyrillic), digits and @ . + - _; "
            "kept as typed without blanks around it, unique whatever the letter case; one that reads as a phone or "
            "e-mail must be the user's own",
            "minLength": 1,
            "maxLength": usernames.MAX_LENGTH,
            "example": "petrov.ivan",
        },
    )
    phone = Checked(
        lambda text: normalize_phone(text, "RU"),
        metadata={
            "description": "Phone number in any human form, kept as E.164. Phone or e-mail is needed",
            "nullable": True,
            "maxLength": MAX_PHONE_LENGTH,
            "example": "8 (999) 123-45-67",
        },
    )
    email = Checked(
        normalize_email,
        metadata={
            "description": "E-mail address, kept as written, unique in any letter case. Phone or e-mail is needed",
            "nullable": True,
            "maxLength": emails.MAX_LENGTH,
            "example": "ivan@example.org",
        },
    )
    birth_date = Checked(
        lambda text: parse_birth_date(text, _latest_date()),
        metadata={
            "description": "YYYY-MM-DD or DD.MM.YYYY, also with a time of midnight, from 1900-01-01 to today",
            "nullable": True,
            "example": "1990-12-31",
        },
    )

    def __init__(self, phone_region: str = "RU") -> None:
        super().__init__()
        phone = self.fields["phone"]
        assert isinstance(phone, Checked)  # noqa: S101 - tells mypy
        phone._rule = lambda text: normalize_phone(text, phone_region)  # its cache distinguishes keyword arguments
        self._phone_region = phone_region

    @pre_load
    def drop_absent(self, data: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """Remove optional fields that are null, empty or blank."""
        return {name: value for name, value in data.items() if not (name in OPTIONAL and _is_absent(value))}

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def require_contact(self, data: Mapping[str, Any], original: Mapping[str, Any], **_: Any) -> None:
        """Require a phone or e-mail. An invalid one is enough here: it is reported separately."""
        if _is_absent(original.get("phone")) and _is_absent(original.get("email")):
            raise ValidationError([RuleError("contact_required")], "phone")

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def require_own_contact(self, data: Mapping[str, Any], original: Mapping[str, Any], **_: Any) -> None:
        """Refuse a username that reads as the phone or e-mail of another user.

        If the user's own one is invalid, only that is reported.
        """
        contacts = {name: data.get(name) for name in ("phone", "email")}
        if "username" in data:
            try:
                check_own(data["username"], **contacts, region=self._phone_region)
            except RuleError as error:
                kind = str(error.params["field"])
                if contacts[kind] or _is_absent(original.get(kind)):
                    raise ValidationError([error], "username") from None

    @post_load
    def make(self, data: Mapping[str, Any], **_: Any) -> NewUser:
        return NewUser(**{**dict.fromkeys(OPTIONAL), **data})

    def handle_error(self, error: ValidationError, data: Mapping[str, Any], **_: Any) -> NoReturn:
        """Raise ValidationFailedError, in the order of the body, missing fields last."""
        assert isinstance(error.messages, dict)  # noqa: S101 - tells mypy
        raise ValidationFailedError(tuple(_field_errors(error.messages, list(data)))) from None


@cache
def user_add_schema(phone_region: str) -> UserAddSchema:
    """Return the schema for a phone region. Instances are cached and shared by threads."""
    return UserAddSchema(phone_region)


def _latest_date() -> date:
    """Return the date where the day begins first, UTC+14: a birth date has no time zone."""
    return (datetime.now(UTC) + timedelta(hours=14)).date()


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and is_blank(value))


def _field_errors(messages: dict[str, Any], sent: list[str]) -> Iterable[FieldError]:
    """Yield the errors in the order of the body, then those of missing fields."""
    names = [name for name in sent if name in messages and name not in FIELDS][:MAX_UNKNOWN]
    unknown = {name: _unknown_field(name[:MAX_NAME_LENGTH]) for name in names}
    causes = {error.params.get("hint"): error.variant for error in unknown.values()}
    for name in dict.fromkeys((*sent, *FIELDS)):
        if name in unknown:
            yield unknown[name]
        for rule in messages.get(name, ()) if name in FIELDS else ():
            variant = _MISSING.get(causes.get(name, ""), "") if rule.code == "required" else rule.variant
            yield FieldError(name, rule.code, variant, rule.params)


_MISSING = {"hint": "misnamed", "name_part": "in_parts"}
"""Variant of an unknown field -> that of the missing field that is meant."""


def _unknown_field(name: str) -> FieldError:
    hint = find_similar_field(name)
    variant = "name_part" if is_name_part(name) else "hint" if hint else ""
    return FieldError(clean(name, 40), "unknown_field", variant, {"hint": hint} if hint else NO_PARAMS)
