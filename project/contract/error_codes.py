"""Error codes: HTTP status, English texts for gettext, and whether a retry helps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from flask_babel import lazy_gettext as _

from project.domain.errors import NO_PARAMS, FieldError, Params, RuleError
from project.http.translations import ngettext


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A problem type (RFC 9457): a reason why a request fails."""

    status: int
    title: str
    details: Mapping[str, str]
    """Message of each variant; the default variant is ""."""
    retryable: bool = False
    sample: Params = field(default_factory=lambda: NO_PARAMS)
    """Sample parameters of the default message, for the documentation."""


_RETRY_DETAILS = {
    "": _("The user was not created. Repeat in %(seconds)s s with the same Idempotency-Key."),
    "read": _("Try again in %(seconds)s s."),
}
PROBLEMS: Mapping[str, ProblemType] = {
    "bad_request": ProblemType(
        400,
        _("The request is not valid HTTP for this service"),
        {
            "": _("Check the address and headers."),
            "malformed": _("The request is not valid HTTP: %(reason)s."),
            "incomplete": _(
                "The body ends after %(received)s of %(length)s bytes: Content-Length counts bytes, not letters."
            ),
            "form_expired": _("The form has expired. Go back, reload the page and send it again."),
            "repeated": _("The parameter “%(name)s” stands there twice: which value counts is unclear."),
            "two_periods": _("“period” and “%(name)s” contradict each other: send only one of them, or period=dates."),
            "no_dates": _("period=dates needs a date. Example: period=dates&from=2026-11-17&to=2026-11-23."),
            "period": _("The period ends before it starts."),
            "search": _("The search is too broad: narrow the period, or write = and the whole login."),
        },
    ),
    "unknown_host": ProblemType(
        400,
        _("Unknown host"),
        {"": _("This service does not serve the host “%(host)s”. Add it to the setting TRUSTED_HOSTS.")},
        sample={"host": "vm.local"},
    ),
    "unknown_parameter": ProblemType(
        400,
        _("Unknown query parameter"),
        {
            "": _("The parameter “%(name)s” is not supported. Supported here: %(known)s."),
            "hint": _("The parameter “%(name)s” is not supported. Did you mean %(hint)s?"),
            "value": _("The parameter “%(name)s” has no value “%(value)s”. Example: %(name)s=%(example)s."),
            "switch": _("The parameter “%(name)s” is on or off: %(name)s=true, %(name)s=false."),
        },
        sample={"name": "foo", "known": "dry_run"},
    ),
    "malformed_json": ProblemType(
        400,
        _("The body is not JSON"),
        {
            "": _(
                "Could not parse JSON: line %(line)s, column %(column)s. "
                "Check quotes and commas; the encoding must be UTF-8."
            ),
            "empty": _('The body is empty. Send one JSON object: {"name": …, "username": …, "phone": …}.'),
            "empty_list": _("There is no user in the request."),
            "not_utf8": _("The body is not in UTF-8. Convert it to UTF-8."),
            "encoding": _("The body is not in UTF-8; it looks like %(encoding)s. Convert it to UTF-8."),
            "marks": _("The body begins with two byte order marks: send one, or none."),
            "cut": _(
                "The body ends before the JSON does: line %(line)s, column %(column)s. Close every quote and bracket."
            ),
            "miscounted": _("The body ends before the JSON does: Content-Length counts bytes, not letters."),
            "repeated_key": _("The key “%(key)s” stands there twice: send it once."),
            "number": _(
                "A number is not finite or too long: NaN, Infinity and 1e400 are not JSON. Send a string in quotes."
            ),
            "too_deep": _(
                'The JSON is nested too deeply. Send one flat object: {"name": …, "username": …, "phone": …}.'
            ),
        },
        sample={"line": 3, "column": 14},
    ),
    "body_not_object": ProblemType(
        400,
        _("A JSON object is needed"),
        {
            "": _('Send one object: {"name": …, "username": …, "phone": …}.'),
            "array": _(
                'An array was sent. Send one object: {"name": …, "username": …, "phone": …}, '
                "or the array to /api/v1/useradd/bulk/."
            ),
            "string": _('A string was sent. Send one object: {"name": …, "username": …, "phone": …}.'),
            "null": _('null was sent. Send one object: {"name": …, "username": …, "phone": …}.'),
        },
    ),
    "bad_idempotency_key": ProblemType(
        400,
        _("The idempotency key is unusable"),
        {"": _("21 to 255 visible ASCII characters are needed, a UUID is best.")},
    ),
    "unauthorized": ProblemType(
        401,
        _("An access key is needed"),
        {
            "": _("Send the key in the header Authorization: Bearer KEY."),
            "session": _("Log in at /login/ first, or send a key in the header Authorization: Bearer KEY."),
        },
    ),
    "forbidden": ProblemType(
        403,
        _("Not allowed"),
        {
            "": _("This user may not do that."),
            "oneself": _("Nobody can do that to themselves: another administrator has to."),
            "last_admin": _("This is the last administrator who can log in: make another one first."),
        },
    ),
    "not_found": ProblemType(
        404, _("Not found"), {"": _("There is no such address or record. See /swagger/ for all addresses.")}
    ),
    "method_not_allowed": ProblemType(405, _("Method not allowed"), {"": _("Use POST here. See /swagger/.")}),
    "conflict": ProblemType(
        409,
        _("The user already exists"),
        {
            "": _("What was sent belongs to another user. Change it or find that user."),
            "username_taken": _("The login is taken. Choose another one, for example with a digit: petrov.ivan2."),
            "phone_taken": _("Another user has this phone number. Send another one, or only an e-mail address."),
            "email_taken": _("Another user has this e-mail address. Send another one, or only a phone number."),
        },
    ),
    "credentials_changed": ProblemType(
        409,
        _("The password was changed since"),
        {
            "": _(
                "This key created the user, but the password was changed since. "
                "Log in with the new password, or send a new Idempotency-Key for another user."
            )
        },
    ),
    "request_timeout": ProblemType(
        408,
        _("The request did not arrive in time"),
        {
            "": _("The request did not arrive completely within 20 seconds. Send it again."),
            "incomplete": _(
                "Only %(received)s of %(length)s bytes of the body arrived within 20 seconds. "
                "Content-Length counts bytes, not letters."
            ),
        },
        retryable=True,
    ),
    "body_too_large": ProblemType(
        413,
        _("The request is too large"),
        {
            "": _("At most %(limit)s KB are accepted: send one user and nothing else."),
            "bulk": _("At most %(limit)s KB are accepted: split the list."),
        },
        sample={"limit": 16},
    ),
    "too_many": ProblemType(
        413,
        _("Too many users in one request"),
        {"": _("One request may contain up to %(limit)s users. Split the list.")},
        sample={"limit": 10_000},
    ),
    "unsupported_media_type": ProblemType(
        415,
        _("application/json is needed"),
        {
            "": _("Send the header Content-Type: application/json."),
            "bulk": _(
                "Send one user a line as application/x-ndjson, or an array of users as application/json, "
                "and name that in Content-Type."
            ),
            "encoded": _("Send the body as it is, without Content-Encoding."),
        },
    ),
    "validation_failed": ProblemType(
        422, _("The data did not pass validation"), {"": _("Correct the fields named and send the request again.")}
    ),
    "idempotency_key_reused": ProblemType(
        422,
        _("The idempotency key was used already"),
        {"": _("Another request came with this Idempotency-Key. A new request needs a new key.")},
    ),
    "head_too_large": ProblemType(
        431,
        _("The head of the request is too large"),
        {"": _("Address and headers may have 16 KB in all: send fewer or shorter headers.")},
    ),
    "rate_limited": ProblemType(
        429, _("Too many requests"), {"": _("Try again in %(seconds)s s.")}, retryable=True, sample={"seconds": 12}
    ),
    "internal_error": ProblemType(
        500,
        _("Service error"),
        {"": _("The error was recorded. Quote the request id when you ask about it.")},
        retryable=True,
    ),
    "transfer_coding_not_supported": ProblemType(
        501,
        _("The transfer coding is not supported"),
        {"": _("Send the body with Content-Length, or with Transfer-Encoding: chunked.")},
    ),
    "database_unavailable": ProblemType(
        503, _("The database does not answer"), _RETRY_DETAILS, retryable=True, sample={"seconds": 2}
    ),
    "overloaded": ProblemType(
        503, _("The service is overloaded"), _RETRY_DETAILS, retryable=True, sample={"seconds": 2}
    ),
    "exports_busy": ProblemType(
        503,
        _("Two downloads are running already"),
        {"": _("Wait until one of them has ended, then try again.")},
        retryable=True,
    ),
    "outcome_unknown": ProblemType(
        503,
        _("The outcome is unknown"),
        {
            "": _(
                "The database did not confirm the write in time. "
                "Repeat with the same Idempotency-Key: no second user will appear."
            ),
            "read": _("The database did not confirm the change in time. See whether it was made before you try again."),
        },
        retryable=True,
    ),
    "http_version_not_supported": ProblemType(505, _("The HTTP version is not supported"), {"": _("Use HTTP/1.1.")}),
}


@dataclass(frozen=True, slots=True)
class FieldCode:
    """A reason why a field is invalid: a short text for lists and a message for each variant."""

    short: str
    messages: Mapping[str, str]
    fields: str = "any"
    sample: Params = field(default_factory=lambda: NO_PARAMS)
    status: int = 422


FIELD_CODES: Mapping[str, FieldCode] = {
    "required": FieldCode(
        _("A required field is missing"),
        {
            "": _("This field is required."),
            "name": _("A name is required, for example Ivan Petrov."),
            "username": _("A login is required, for example petrov.ivan."),
        },
    ),
    "contact_required": FieldCode(
        _("Neither phone nor e-mail"),
        {
            "": _(
                "Give a phone number or an e-mail address (or both): "
                "phone, for example +7 999 123-45-67, or email, for example ivan@example.org."
            )
        },
        "phone, email",
    ),
    "invalid_type": FieldCode(
        _("A field has the wrong type"),
        {
            "": _("A string is needed: one value in quotes."),
            "number": _("A string is needed, a number was sent: put the value in quotes."),
            "boolean": _("A string is needed, true or false was sent: send one value in quotes."),
            "array": _("A string is needed, an array was sent: send one value in quotes, without brackets."),
            "object": _("A string is needed, an object was sent: send one value in quotes, without braces."),
            "null": _("A string is needed, null was sent: send one value in quotes."),
            "error_cell": _(
                "The cell has the error %(value)s instead of a value. Correct the formula, or type the value."
            ),
        },
    ),
    "blank": FieldCode(
        _("A required field is blank"),
        {
            "": _("The field is blank."),
            "name": _("The name is blank: it has no visible character. Example: Ivan Petrov."),
            "username": _("The login is blank: it has no visible character. Example: petrov.ivan."),
        },
        "name, username",
    ),
    "too_long": FieldCode(
        _("A field is too long"),
        {"": _("At most %(limit)s characters are allowed, %(length)s were sent: shorten the value.")},
        "name, username, email",
        {"limit": 150, "length": 180},
    ),
    "invalid_characters": FieldCode(
        _("A character is not allowed"),
        {
            "": _(
                "Character %(position)s (%(codepoint)s) is not allowed. It may be invisible: "
                "delete it, or type the value by hand instead of pasting it."
            ),
            "stray_quote": _(
                "A quotation mark is not closed on this line, or stands in the wrong place. Remove it, or write it "
                "twice inside of quotation marks."
            ),
        },
        sample={"position": 7, "codepoint": "U+0000"},
    ),
    "invalid_username": FieldCode(
        _("The login is not valid"),
        {
            "": _("Use letters, digits and @ . + - _ without spaces, for example petrov.ivan."),
            "blank": _("A login has no spaces inside. Example: petrov.ivan."),
            "character": _(
                "The character “%(character)s” (%(codepoint)s) is not allowed: "
                "use Latin or Cyrillic letters, digits and @ . + - _. Example: petrov.ivan."
            ),
            "mixed_scripts": _(
                "Cyrillic and Latin letters may not be mixed, even if they look the same: "
                "check the keyboard layout and type the login again. Example: petrov.ivan."
            ),
            "only_signs": _("A login has at least one letter or digit. Example: petrov.ivan."),
            "contact_of_another": _(
                "This login reads as an e-mail address or a phone number, so it must be your own: "
                "send the same in the field %(field)s, too, or choose another login, for example petrov.ivan."
            ),
        },
        "username",
    ),
    "invalid_phone": FieldCode(
        _("The phone number is not valid"),
        {
            "": _(
                "There is no such phone number. Check the digits; a number of another country begins with + "
                "and the country code. Example: +7 999 123-45-67."
            ),
            "too_short": _(
                "The number is too short. Send it with the area code, "
                "for another country also with + and the country code. Example: +7 999 123-45-67."
            ),
            "too_long": _("The number is too long. Send one number without other digits. Example: +7 999 123-45-67."),
            "characters": _(
                "A phone number has only digits, spaces and + - ( ). Delete everything else. Example: +7 999 123-45-67."
            ),
            "extension": _(
                "A number with an extension is not accepted. Send it without the extension. Example: +7 999 123-45-67."
            ),
            "several": _("Only one number is accepted. Delete the others. Example: +7 999 123-45-67."),
            "calculated": _(
                "A spreadsheet has rounded or changed this number. Format the column as text "
                "and enter the number again. Example: +7 999 123-45-67."
            ),
            "without_plus": _(
                "Begin with + and the country code: this is a number of another country. Example: +375 29 123-45-67."
            ),
            "unknown_country": _("There is no such country code after the +. Example: +7 999 123-45-67."),
        },
        "phone",
    ),
    "invalid_email": FieldCode(
        _("The e-mail address is not valid"),
        {
            "": _("This is not an e-mail address. Example: ivan@example.org."),
            "no_at": _("There is no @. Example: ivan@example.org."),
            "several": _("Send one address with one @. Example: ivan@example.org."),
            "display_name": _("Send only the address, without a name and < >. Example: ivan@example.org."),
            "blank": _("An e-mail address has no spaces inside. Example: ivan@example.org."),
            "long_local": _("At most %(limit)s characters may stand before the @. Example: ivan@example.org."),
            "local": _(
                "The part before the @ is not valid: use letters, digits and . _ + -, with single dots between them. "
                "Example: ivan.petrov@example.org."
            ),
            "domain": _("The part after the @ is not a valid domain name with a dot. Example: ivan@example.org."),
            "special_domain": _(
                "No mail is delivered to this domain: it is reserved for tests and technical purposes. "
                "Send an address that gets mail, for example ivan@example.org."
            ),
            "keyboard_layout": _(
                "The address contains letters of another alphabet that look like Latin ones. "
                "Check the keyboard layout and type it again. Example: ivan@example.org."
            ),
        },
        "email",
    ),
    "invalid_date": FieldCode(
        _("The birth date is not valid"),
        {
            "": _("The date must be YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."),
            "slashes": _(
                "With slashes the order of day and month is unclear. "
                "Send YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."
            ),
            "short_year": _(
                "The year needs four digits. Send YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."
            ),
            "time": _(
                "Send only the day of birth: a time zone can move it to another day. "
                "YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."
            ),
            "no_such_day": _(
                "There is no such day in the calendar. Check day and month: "
                "YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."
            ),
        },
        "birth_date",
    ),
    "date_out_of_range": FieldCode(
        _("The birth date is out of range"),
        {
            "": _("The birth date must lie between 1900-01-01 and today. Example: 1990-12-31."),
            "future": _("The birth date is in the future: check the year. Example: 1990-12-31."),
            "past": _("The birth date is before 1900: check the year. Example: 1990-12-31."),
        },
        "birth_date",
    ),
    "unknown_field": FieldCode(
        _("There is an unknown field"),
        {
            "": _("There is no such field. Delete it; the fields are name, username, phone, email and birth_date."),
            "hint": _("There is no such field. Did you mean %(hint)s?"),
        },
    ),
    "username_taken": FieldCode(
        _("The login is taken already"),
        {"": _("The login is taken. Choose another one, for example with a digit: petrov.ivan2.")},
        "username",
        status=409,
    ),
    "phone_taken": FieldCode(
        _("The phone number is taken already"),
        {"": _("Another user has this phone number. Send another one, or only an e-mail address.")},
        "phone",
        status=409,
    ),
    "email_taken": FieldCode(
        _("The e-mail is taken already"),
        {"": _("Another user has this e-mail address. Send another one, or only a phone number.")},
        "email",
        status=409,
    ),
}

FIELD_LABELS: Mapping[str, str] = {
    "name": _("Name"),
    "username": _("Login"),
    "phone": _("Phone"),
    "email": _("E-mail"),
    "birth_date": _("Birth date"),
}

OTHER_REASONS: Mapping[str, str] = {
    "created": _("Created"),
    "dry_run": _("Dry run: no errors"),
    "replayed": _("Replay: the first response was returned again"),
    "interrupted": _("The service stopped before it could respond"),
}

STATUSES: Mapping[int, str] = {
    0: _("No response"),
    200: _("Nothing created"),
    201: _("Created"),
    400: _("Bad request"),
    401: _("No access"),
    404: _("Not found"),
    405: _("Method not allowed"),
    409: _("Conflict"),
    413: _("Too large"),
    415: _("Not JSON"),
    422: _("Wrong data"),
    429: _("Too many requests"),
    500: _("Service error"),
    503: _("Service unavailable"),
}


def reason_text(code: str) -> str:
    """Return the short text of a code for lists, in the current language."""
    if code in FIELD_CODES:
        return str(FIELD_CODES[code].short)
    if code in PROBLEMS:
        return str(PROBLEMS[code].title)
    return str(OTHER_REASONS.get(code, code))


def status_text(status: int) -> str:
    """Return the meaning of an HTTP status in this service, in the current language."""
    if status in STATUSES:
        return str(STATUSES[status])
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)


def reason_codes() -> tuple[str, ...]:
    """Return all codes that can be the reason why an attempt created no user."""
    return (*FIELD_CODES, *(code for code in PROBLEMS if code not in {"validation_failed", "forbidden"}))


def detail_text(code: str, variant: str = "", params: Params = NO_PARAMS) -> str:
    """Return the detail of a problem document, in the current language."""
    return _render(PROBLEMS[code].details, variant, params)


def validation_detail(errors: Iterable[FieldError]) -> str:
    """Return the detail of a failed validation: the number of invalid fields."""
    return ngettext(
        "Correct %(num)s field and send the request again.",
        "Correct %(num)s fields and send the request again.",
        len({error.field for error in errors}),
    )


def message_text(error: FieldError | RuleError) -> str:
    """Return the message of a field error, in the current language."""
    messages = FIELD_CODES[error.code].messages
    field = error.field if isinstance(error, FieldError) and error.field in messages else ""
    return _render(messages, error.variant or field, error.params)


def _render(sentences: Mapping[str, str], variant: str, params: Params) -> str:
    sentence = str(sentences.get(variant, sentences[""]))
    return sentence % params if params else sentence
