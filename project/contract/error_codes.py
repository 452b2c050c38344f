"""Error codes with their HTTP statuses and texts, which gettext translates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from flask_babel import lazy_gettext as _

from project.domain.errors import FIELDS, NO_PARAMS, FieldError, Params, RefusalError, RuleError
from project.http.translations import ngettext


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A problem type (RFC 9457), which is a reason why requests fail."""

    status: int
    title: str
    details: Mapping[str, str]
    """Variant of the problem -> text of the member `detail`; "" is the default variant."""
    is_retryable: bool = False
    """Whether the same request may succeed later."""
    sample: Params = field(default_factory=lambda: NO_PARAMS)
    """Sample parameters of the default detail, for the documentation."""


EXAMPLE_USER = _('{"name": "Ivan Petrov", "username": "petrov.ivan", "phone": "+79991234567"}')
"""An example of a request body, which replaces %(user)s in messages."""
_RETRY_DETAILS = {
    "": _("The user was not created. Repeat in %(seconds)s s with the same Idempotency-Key."),
    "read": _("Try again in %(seconds)s s."),
}
"""Details of problems after which a retry may succeed: "" for requests to /useradd, `read` for all other requests, even
if they write."""
PROBLEMS: Mapping[str, ProblemType] = {
    "bad_request": ProblemType(
        400,
        _("The request is not valid"),
        {
            "": _("Check the address and headers."),
            "malformed": _("The request is not valid HTTP: %(reason)s."),
            "incomplete": _(
                "Only %(received)s of %(length)s bytes of the body were sent: Content-Length counts bytes, not letters."
            ),
            "form_expired": _("The form has expired. Go back, reload the page and send it again."),
            "repeated": _("The parameter “%(name)s” was sent twice. Send it once."),
            "two_periods": _("“period” and “%(name)s” contradict each other: send only one of them, or period=dates."),
            "no_dates": _("period=dates needs a date. Example: period=dates&from=2026-11-17&to=2026-11-23."),
            "period": _("The period ends before it starts: “from” may not be later than “to”."),
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
            "hint": _("The parameter “%(name)s” is not supported. Did you mean %(hint)s? Then send ?%(example)s"),
            "value": _("The parameter “%(name)s” cannot be “%(value)s”. Example: ?%(name)s=%(example)s"),
            "switch": _("The parameter “%(name)s” must be true or false. Example: ?%(name)s=true"),
        },
        sample={"name": "foo", "known": "dry_run"},
    ),
    "malformed_json": ProblemType(
        400,
        _("The body could not be read as JSON"),
        {
            "": _(
                "There is an error in the JSON at line %(line)s, column %(column)s: "
                "check quotes, commas and brackets there. Example: %(user)s"
            ),
            "start": _("The body does not begin with a brace. Send one JSON object, for example %(user)s"),
            "trailing_comma": _(
                "There is an extra comma before the closing bracket: line %(line)s, column %(column)s. Delete it. "
                "Example: %(user)s"
            ),
            "quotes": _(
                'Names of fields and values need double quotes ("): line %(line)s, column %(column)s. Example: %(user)s'
            ),
            "unclosed": _("A quote is not closed: line %(line)s, column %(column)s. Example: %(user)s"),
            "comma": _(
                "A comma is missing at line %(line)s, column %(column)s, or a quote within a string is not written "
                'as \\". Example: %(user)s'
            ),
            "colon": _(
                "A colon is missing after the name of a field: line %(line)s, column %(column)s. Example: %(user)s"
            ),
            "control": _(
                "There is a line break or a tab within quotes: line %(line)s, column %(column)s. "
                "Write \\n or \\t instead."
            ),
            "backslash": _("Write every backslash within quotes twice (\\\\): line %(line)s, column %(column)s."),
            "extra": _(
                "The body continues after the end of the JSON: line %(line)s, column %(column)s. Send one object. "
                "To send many users, use /api/v1/useradd/bulk/."
            ),
            "extra_on_line": _(
                "The line continues after the end of the object: line %(line)s, column %(column)s. "
                "Write each user on a line of its own, such as %(user)s"
            ),
            "comma_between_lines": _(
                "A comma follows the object: line %(line)s, column %(column)s. Delete it: lines have no commas between "
                "them. Example of a line: %(user)s"
            ),
            "cut_line": _(
                "The line ends before the JSON object does: line %(line)s. Write each user completely on one line, "
                "such as %(user)s"
            ),
            "start_of_line": _("Line %(line)s does not begin with a brace. Write one user a line, such as %(user)s"),
            "array_as_lines": _(
                "An array begins at line %(line)s, but the header Content-Type promises lines. Send an array with the "
                "header Content-Type: application/json, or one user a line, without brackets and commas between them, "
                "such as %(user)s"
            ),
            "object_over_lines": _(
                "The first object stretches from line %(line)s to line %(last)s. Write each user on one line, such as "
                "%(user)s, or send an array with the header Content-Type: application/json: [%(user)s]"
            ),
            "one_line": _(
                "All users are on one line; curl -d removes line ends, --data-binary keeps them. "
                "Write each user on a line of its own, such as %(user)s"
            ),
            "wrapped_list": _(
                "The list of users is inside the field “%(key)s”. Send only the list, with the header "
                "Content-Type: application/json, for example [%(user)s]"
            ),
            "empty": _("The body is empty. Send one JSON object, for example %(user)s"),
            "empty_list": _("There is no user in the request. Send at least one, for example %(user)s"),
            "not_utf8": _("The body is not in UTF-8. Convert it to UTF-8."),
            "encoding": _("The body is not in UTF-8; it looks like %(encoding)s. Convert it to UTF-8."),
            "marks": _("The body begins with two byte order marks: send one, or none."),
            "cut": _(
                "The body ends before the JSON does: line %(line)s, column %(column)s. Close every quote and bracket. "
                "Example: %(user)s"
            ),
            "miscounted": _("The body ends before the JSON does: Content-Length counts bytes, not letters."),
            "repeated_key": _("The field “%(key)s” was sent twice. Send it once."),
            "number": _(
                "A number is not finite or too long: NaN, Infinity and 1e400 are not JSON. Send a string in quotes."
            ),
            "too_deep": _("The JSON is nested too deeply. Send one flat object, for example %(user)s"),
        },
        sample={"line": 3, "column": 14},
    ),
    "body_not_object": ProblemType(
        400,
        _("A JSON object is needed"),
        {
            "": _("Send one object, for example %(user)s"),
            "array": _(
                "An array was sent, but one object is needed, for example %(user)s. "
                "To send an array, use /api/v1/useradd/bulk/."
            ),
            "array_on_line": _(
                "There is an array instead of one object: line %(line)s. Send each user as one object, such as %(user)s"
            ),
            "string": _("A string was sent, but one object is needed, for example %(user)s"),
            "null": _("null was sent, but one object is needed, for example %(user)s"),
        },
    ),
    "bad_idempotency_key": ProblemType(
        400,
        _("The idempotency key is not valid"),
        {
            "": _(
                "The header Idempotency-Key must have 21 to 255 visible ASCII characters without spaces. "
                "Send a new UUID, for example %(example)s, or leave the header out."
            )
        },
        sample={"example": "…"},
    ),
    "unauthorized": ProblemType(
        401,
        _("An API key is required"),
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
            "oneself": _("You cannot do this to your own account: another administrator has to."),
            "last_admin": _("This is the last administrator who can log in: appoint another one first."),
        },
    ),
    "not_found": ProblemType(
        404, _("Not found"), {"": _("There is no such address or record. See /swagger/ for all addresses.")}
    ),
    "method_not_allowed": ProblemType(
        405,
        _("Method not allowed"),
        {
            "": _("%(method)s is not supported here. Supported: %(allowed)s. All addresses are listed in /swagger/."),
            "user": _(
                "%(method)s is not supported here. Send POST with the header Content-Type: application/json "
                "and a body such as %(user)s"
            ),
            "users": _(
                "%(method)s is not supported here. Send POST with the header Content-Type: application/x-ndjson "
                "and one user a line, such as %(user)s"
            ),
        },
        sample={"method": "POST", "allowed": "GET, HEAD"},
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
        is_retryable=True,
    ),
    "conflict": ProblemType(
        409,
        _("Username, phone or e-mail is taken"),
        {
            "": _("Several values are taken already. Change each of them, or use the user that already exists."),
            "username_taken": _(
                "This username is taken. Choose another one, for example by adding a digit: petrov.ivan2."
            ),
            "phone_taken": _("Another user has this phone number. Send another one, or only an e-mail address."),
            "email_taken": _("Another user has this e-mail address. Send another one, or only a phone number."),
        },
    ),
    "credentials_changed": ProblemType(
        409,
        _("The password has been changed"),
        {
            "": _(
                "This key created the user, but the password has been changed since. "
                "Log in with the new password, or send a new Idempotency-Key for another user."
            )
        },
    ),
    "body_too_large": ProblemType(
        413,
        _("The request is too large"),
        {
            "": _("At most %(limit)s KB are accepted: send one user and nothing else."),
            "bulk": _("At most %(limit)s KB are accepted: split the list."),
            "line": _("At most %(limit)s KB are accepted in one line: write each user on a line of its own."),
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
        _("The format of the body is not supported"),
        {
            "": _("Send the header Content-Type: application/json and the fields as JSON, for example %(user)s"),
            "missing": _(
                "The header Content-Type is missing. Send Content-Type: application/json and the fields as JSON, "
                "for example %(user)s"
            ),
            "form": _(
                "Form data is not accepted. Send the header Content-Type: application/json and the fields as JSON, "
                "for example %(user)s"
            ),
            "other": _(
                "Content-Type: %(type)s is not accepted. Send the header Content-Type: application/json and the fields "
                "as JSON, for example %(user)s"
            ),
            "lines": _(
                "Content-Type: %(type)s is not accepted here. To send one user a line, use /api/v1/useradd/bulk/. "
                "To send one user, send the header Content-Type: application/json and a body such as %(user)s"
            ),
            "bulk": _(
                "Send the header Content-Type: application/x-ndjson and one user a line, such as %(user)s, "
                "or the header Content-Type: application/json and an array of users."
            ),
            "encoded": _("Send the body as it is, without Content-Encoding."),
        },
    ),
    "validation_failed": ProblemType(
        422, _("Some fields are invalid"), {"": _("Correct the fields named and send the request again.")}
    ),
    "idempotency_key_reused": ProblemType(
        422,
        _("The idempotency key has already been used"),
        {"": _("Another request came with this Idempotency-Key. A new request needs a new key.")},
    ),
    "rate_limited": ProblemType(
        429, _("Too many requests"), {"": _("Try again in %(seconds)s s.")}, is_retryable=True, sample={"seconds": 12}
    ),
    "head_too_large": ProblemType(
        431,
        _("The head of the request is too large"),
        {"": _("Address and headers may have 16 KB in all: send fewer or shorter headers.")},
    ),
    "internal_error": ProblemType(
        500,
        _("Service error"),
        {"": _("The error was recorded. Quote the request ID when you ask about it.")},
        is_retryable=True,
    ),
    "transfer_coding_not_supported": ProblemType(
        501,
        _("The transfer coding is not supported"),
        {"": _("Send the body with Content-Length, or with Transfer-Encoding: chunked.")},
    ),
    "database_unavailable": ProblemType(
        503, _("The database does not answer"), _RETRY_DETAILS, is_retryable=True, sample={"seconds": 2}
    ),
    "overloaded": ProblemType(
        503, _("The service is overloaded"), _RETRY_DETAILS, is_retryable=True, sample={"seconds": 2}
    ),
    "exports_busy": ProblemType(
        503,
        _("Two downloads are running already"),
        {"": _("Wait until one of them has ended, then try again.")},
        is_retryable=True,
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
        is_retryable=True,
    ),
    "http_version_not_supported": ProblemType(505, _("The HTTP version is not supported"), {"": _("Use HTTP/1.1.")}),
}


@dataclass(frozen=True, slots=True)
class FieldCode:
    """A reason why a field is invalid."""

    short_text: str
    """Text for lists."""
    messages: Mapping[str, str]
    """Variant -> message; "" is the default. The name of a field before a variant limits the message to this field:
    `phone number` is the variant `number` for the field `phone`, and `name` is the default for the field `name`."""
    fields: str = "any"
    """Fields that may have this code, separated by commas, or `any`."""
    sample: Params = field(default_factory=lambda: NO_PARAMS)
    """Sample parameters of the default message, for the documentation."""
    status: int = 422


FIELD_CODES: Mapping[str, FieldCode] = {
    "required": FieldCode(
        _("A required field is missing"),
        {
            "": _("This field is required."),
            "name": _("A name is required, for example Ivan Petrov."),
            "username": _("A username is required, for example petrov.ivan."),
            "misnamed": _("This field is required. It was probably sent under another name: see the unknown field."),
            "in_parts": _("This field is required. Put first and last name into it together, for example Ivan Petrov."),
        },
    ),
    "contact_required": FieldCode(
        _("Neither phone nor e-mail"),
        {
            "": _(
                "Provide a phone number, an e-mail address or both, "
                "for example phone +7 999 123-45-67 or email ivan@example.org."
            )
        },
        "phone, email",
    ),
    "invalid_type": FieldCode(
        _("A field has the wrong type"),
        {
            "": _("This must be a string: one value in quotes."),
            "number": _("This must be a string, but a number was sent. Put the value in quotes."),
            "phone number": _(
                'This must be a string, but a number was sent. Put the value in quotes, for example "+79991234567".'
            ),
            "boolean": _("This must be a string, but true or false was sent. Send one value in quotes."),
            "array": _("This must be a string, but an array was sent. Send one value in quotes, without brackets."),
            "object": _("This must be a string, but an object was sent. Send one value in quotes, without braces."),
            "null": _("This must be a string, but null was sent. Send one value in quotes."),
            "boolean_cell": _(
                "The cell has %(value)s instead of a text. Format the cell as text and type the value again."
            ),
            "error_cell": _(
                "The cell has the error %(value)s instead of a value. Correct the formula, or type the value."
            ),
        },
    ),
    "blank": FieldCode(
        _("A required field is blank"),
        {
            "": _("The field is blank."),
            "name": _("The name is empty or has only invisible characters. Example: Ivan Petrov."),
            "username": _("The username is empty or has only invisible characters. Example: petrov.ivan."),
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
        _("The username is not valid"),
        {
            "": _("Use letters, digits and @ . + - _ without spaces, for example petrov.ivan."),
            "blank": _("A username cannot contain spaces. Example: petrov.ivan."),
            "character": _(
                "The character “%(character)s” (%(codepoint)s) is not allowed: "
                "use Latin or Cyrillic letters, digits and @ . + - _. Example: petrov.ivan."
            ),
            "latin_letter": _(
                "A username cannot mix Cyrillic and Latin letters, even if they look the same. Here “%(character)s” "
                "(character %(position)s) is Latin: check the keyboard layout and type it again. Example: petrov.ivan."
            ),
            "cyrillic_letter": _(
                "A username cannot mix Cyrillic and Latin letters, even if they look the same. Here “%(character)s” "
                "(character %(position)s) is Cyrillic: check the keyboard layout and type it again. "
                "Example: petrov.ivan."
            ),
            "only_signs": _("A username needs at least one letter or digit. Example: petrov.ivan."),
            "email_of_another": _(
                "A username that is an e-mail address must match the field email. "
                "Set email to the same address, or choose another username, for example petrov.ivan."
            ),
            "phone_of_another": _(
                "A username that is a phone number must match the field phone. "
                "Set phone to the same number, or choose another username, for example petrov.ivan."
            ),
        },
        "username",
    ),
    "invalid_phone": FieldCode(
        _("The phone number is not valid"),
        {
            "": _(
                "There is no such phone number. Check for a missing, extra or wrong digit. "
                "If it is a foreign number, start it with + and the country code. Example: +7 999 123-45-67."
            ),
            "too_short": _(
                "The number is too short. Check for a missing digit or area code. "
                "If it is a foreign number, start it with + and the country code. Example: +7 999 123-45-67."
            ),
            "digits_missing": _(
                "The number is too short: after +%(country_code)s it has %(digits)s of %(needed)s digits. "
                "Check for a missing digit or area code. "
                "If it is a foreign number, start it with + and the country code. Example: +7 999 123-45-67."
            ),
            "digits_extra": _(
                "The number is too long: after +%(country_code)s it has %(digits)s digits instead of %(needed)s. "
                "Check for an extra digit. "
                "If it is a foreign number, start it with + and the country code. Example: +7 999 123-45-67."
            ),
            "too_long": _("The number is too long. Send one number without other digits. Example: +7 999 123-45-67."),
            "characters": _(
                "A phone number has only digits, spaces and + - ( ). Delete everything else. Example: +7 999 123-45-67."
            ),
            "extension": _(
                "Extensions are not accepted. Send the number without the extension. Example: +7 999 123-45-67."
            ),
            "several": _("Only one phone number is accepted. Keep one and remove the rest. Example: +7 999 123-45-67."),
            "calculated": _(
                "A spreadsheet has rounded or changed this number. Format the column as text "
                "and enter the number again. Example: +7 999 123-45-67."
            ),
            "without_plus": _(
                "This looks like a foreign number: put + before the country code. Example: +375 29 123-45-67."
            ),
            "unknown_country": _(
                "There is no country code like the one after the +. Check it. Example: +7 999 123-45-67."
            ),
        },
        "phone",
    ),
    "invalid_email": FieldCode(
        _("The e-mail address is not valid"),
        {
            "": _("This is not an e-mail address. Example: ivan@example.org."),
            "no_at": _("The address has no @. Example: ivan@example.org."),
            "several": _("Send one address with one @. Example: ivan@example.org."),
            "display_name": _("Send only the address, without a name and < >. Example: ivan@example.org."),
            "blank": _("An e-mail address cannot contain spaces. Example: ivan@example.org."),
            "long_local": _("At most %(limit)s characters may stand before the @. Example: ivan@example.org."),
            "local": _(
                "The part before the @ is not valid: use letters, digits and . _ + -, with single dots between them. "
                "Example: ivan.petrov@example.org."
            ),
            "domain": _(
                "The part after @ is not a domain name: use letters, digits and hyphens, with single dots between them "
                "and none at the end. Example: ivan@example.org."
            ),
            "special_domain": _(
                "This is not a public mail domain. Use an address with a public domain, in the form ivan@example.org."
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
                "Slashes are not accepted, because day and month are easily confused. "
                "Send YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."
            ),
            "short_year": _(
                "Write the year with four digits: YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."
            ),
            "time": _(
                "Send only the date, without a time or time zone, which could shift it to another day. "
                "Use YYYY-MM-DD or DD.MM.YYYY, for example 1990-12-31 or 31.12.1990."
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
            "list": _(
                "There is no such field, and it contains a list. To send many users, send only the list to "
                "/api/v1/useradd/bulk/."
            ),
            "no_header": _("The cell has a value, but its column has no header. Name the column, or empty the cell."),
            "extra_cell": _(
                "The row has %(cells)s cells for %(headers)s columns. "
                "If a value contains the separator “%(separator)s”, "
                'put it into double quotes: "Petrov%(separator)s Ivan". Otherwise delete the extra cells.'
            ),
            "name_part": _(
                "There is no such field. Send first and last name together in “name”, for example Ivan Petrov."
            ),
        },
    ),
    "username_taken": FieldCode(
        _("The username is taken already"),
        {"": _("This username is taken. Choose another one, for example by adding a digit: petrov.ivan2.")},
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
"""Field of a request -> its label on pages and in files."""

OTHER_REASONS: Mapping[str, str] = {
    "created": _("Created"),
    "dry_run": _("Dry run: no errors"),
    "replayed": _("Replay: the first response was returned again"),
    "interrupted": _("The service stopped before it could respond"),
}
"""Code of an attempt without an error response -> text for lists."""

STATUS_TEXTS: Mapping[int, str] = {
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
"""Status of an attempt -> its meaning in this service; 0 if the process died before it responded."""


def reason_text(code: str) -> str:
    """Return the text for lists of a code, in the current language; the code itself if unknown."""
    if code in FIELD_CODES:
        return str(FIELD_CODES[code].short_text)
    if code in PROBLEMS:
        return str(PROBLEMS[code].title)
    return str(OTHER_REASONS.get(code, code))


def status_text(status: int) -> str:
    """Return the meaning of an HTTP status in this service, in the current language.

    For a status that is not in STATUS_TEXTS, returns its English name, or else the number.
    """
    if status in STATUS_TEXTS:
        return str(STATUS_TEXTS[status])
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)


def detail_text(code: str, variant: str = "", params: Params = NO_PARAMS) -> str:
    """Return the detail of a problem document, in the current language."""
    details = PROBLEMS[code].details
    if "%(user)s" in str(details.get(variant, details[""])):
        params = {**params, "user": str(EXAMPLE_USER)}
    return _fill_in(details, variant, params)


def refusal_text(error: RefusalError) -> str:
    """Return the message of a refusal without field errors, in the current language.

    If a retry may succeed, the message is that of the variant `read`, which usually states when to retry: after 2 s if
    the refusal has no time of its own.
    """
    if PROBLEMS[error.code].is_retryable:
        return detail_text(error.code, "read", {"seconds": error.retry_after_s or 2})
    return detail_text(error.code, error.variant, error.params)


def validation_detail(errors: Sequence[FieldError]) -> str:
    """Return the detail of `validation_failed`, in the current language: the number of errors."""
    return ngettext(
        "%(num)s error found. Correct it and send the request again.",
        "%(num)s errors found. Correct them and send the request again.",
        len(errors),
    )


def message_text(error: FieldError | RuleError) -> str:
    """Return the message of a field error, in the current language."""
    messages = FIELD_CODES[error.code].messages
    field = error.field if isinstance(error, FieldError) and error.field in FIELDS else ""
    names = (f"{field} {error.variant}".strip(), error.variant)
    return _fill_in(messages, next((name for name in names if name in messages), ""), error.params)


def _fill_in(sentences: Mapping[str, str], variant: str, params: Params) -> str:
    sentence = str(sentences.get(variant, sentences[""]))
    return sentence % params if params else sentence
