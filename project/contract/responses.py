"""Response schemas, which serialize JSON responses and describe them in OpenAPI.

`required` and `metadata` of a field affect only the OpenAPI document. Fields have the same order in responses as in the
schema.
"""

import json
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, ClassVar, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Response
from marshmallow import Schema, fields
from marshmallow.fields import UUID, Boolean, Float, Integer, Raw, String

from project.contract.error_codes import FIELD_CODES, PROBLEMS, message_text
from project.domain.attempts import Outcome
from project.domain.errors import FieldError
from project.http.languages import to_display_zone

PLACEHOLDER = "…"
"""Placeholder for texts that are not stored, where an earlier response is shown again."""
Field = fields.Field[Any]
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


class CompleteResponse(Response):
    """A response without werkzeug's checks, which would take time.

    It sends its headers unchanged and a body with every status, and does not call functions that were registered with
    call_on_close().
    """

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return () if environ["REQUEST_METHOD"] == "HEAD" else self.iter_encoded()


class ResponseSchema(Schema):
    """A schema that only serializes, about three times as fast as marshmallow.Schema.

    The method dump() runs no hooks, reads all attributes with one call, and converts only values that JSON lacks.
    """

    component: ClassVar[str] = ""
    """Name of the schema in the OpenAPI document; a schema without a name is inlined."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._names = tuple((key, field.attribute or key) for key, field in self.fields.items())
        self._read_attributes = attrgetter(*(name for _, name in self._names))
        self._converters = tuple((key, convert) for key, field in self.fields.items() if (convert := _converter(field)))

    def dump(self, obj: Any, *, many: bool | None = None) -> dict[str, Any]:
        """Serialize an object with an attribute for each field, or an incomplete dict.

        Fields that a dict lacks are left out. `many` is ignored.
        """
        if type(obj) is dict:
            dumped = {key: obj[name] for key, name in self._names if name in obj}
        else:
            dumped = dict(zip(self.fields, self._read_attributes(obj)))  # noqa: B905 - strict would take 0.2 µs more
        for key, convert in self._converters:
            value = dumped.get(key)
            if value is not None:
                dumped[key] = convert(value)
        return dumped


class _TimeField(fields.DateTime):
    """A field that serializes a datetime in the time zone of display_zone()."""

    timespec = "milliseconds"


class _PeriodEdgeField(_TimeField):
    """A field for the start or end of a period, without a fraction of a second if that is zero."""

    timespec = "auto"


class _TextField(String):
    """A field that serializes a value with str()."""


def _converter(field: Field) -> Callable[[Any], Any] | None:
    match field:
        case fields.Nested():
            return cast(Callable[[Any], Any], field.schema.dump)
        case fields.List():
            convert = _converter(field.inner) or str
            return lambda values: [convert(value) for value in values]
        case _TimeField():
            return lambda value: to_display_zone(value).isoformat(timespec=field.timespec)
        case UUID() | _TextField():
            return str
    return None


def json_response(
    schema: ResponseSchema, value: object, status: int = 200, mimetype: str = "application/json"
) -> CompleteResponse:
    """Return a JSON response with the serialized value."""
    return CompleteResponse(_encode(schema.dump(value)) + "\n", status, mimetype=mimetype)


def _field(kind: type[Field], attribute: str | None = None, **metadata: Any) -> Field:
    return kind(required=True, attribute=attribute, metadata=metadata)


def _optional_field(kind: type[Field], **metadata: Any) -> Field:
    return kind(metadata=metadata)


def _object_field(properties: dict[str, Field], **kwargs: Any) -> fields.Nested:
    return fields.Nested(ResponseSchema.from_dict(properties), **{"required": True} | kwargs)


def _list_field(properties: dict[str, Field], attribute: str | None = None) -> fields.List[Any]:
    return fields.List(_object_field(properties), required=True, attribute=attribute)


_TEXT, _INTEGER, _ID = _field(String), _field(Integer), _field(UUID)
_AVAILABILITY: dict[str, Any] = {"enum": ["up", "away"]}
_RECORDED = _optional_field(Boolean, description="false: the attempt was not recorded")
_CODE = (
    "The code by which attempts are counted and filtered: that of the first invalid field, otherwise that of the "
    "problem document; `created`, `replayed`, `dry_run` or `interrupted` if there was none"
)
_USER: dict[str, Field] = {
    "name": _TEXT,
    "username": _TEXT,
    "phone": _field(String, nullable=True, example="+79991234567"),
    "email": _field(String, nullable=True, example="ivan@example.org"),
    "birth_date": _field(_TextField, nullable=True, format="date", example="1990-12-31"),
}


class CreatedSchema(ResponseSchema):
    """Response 201 of POST /useradd."""

    component = "Created"
    login = _field(String, example="petrov.ivan")
    password = _field(String, example="xqrpc-pyvma-5u696-476a8-jg54tq")
    user = _object_field({"id": _ID, **_USER, "created_at": _field(_TimeField)})
    attempt_id = _ID
    idempotency_key = _TEXT
    links = _object_field({"login": _TEXT, "results": _TEXT})


class CheckedSchema(ResponseSchema):
    """Response 200 of POST /useradd?dry_run=true."""

    component = "Checked"
    valid = _field(Boolean)
    normalized = _object_field(_USER)
    attempt_id = _ID
    recorded = _RECORDED


class ProblemSchema(ResponseSchema):
    """A problem document (RFC 9457), serialized from the result of problem_members()."""

    component = "Problem"
    type = _field(String, description="Address of a page that explains the code")
    title = _TEXT
    status = _INTEGER
    detail = _TEXT
    code = _field(String, enum=sorted(PROBLEMS), description="Stable, the same in every language")
    attempt_id = _optional_field(UUID, description="Attempt ID, for /useradd")
    request_id = _optional_field(UUID, description="Request ID, for other endpoints")
    errors = fields.List(
        _object_field({"field": _TEXT, "code": _field(String, enum=sorted(FIELD_CODES)), "message": _TEXT})
    )
    recorded = _RECORDED
    idempotency_key = _optional_field(String, description="Retry with this key: no second user is created")


class LineSchema(ResponseSchema):
    """A line of the response of POST /useradd/bulk."""

    component = "Line"
    line = _field(Integer, description="Number of the line, or position in the array, from 1")
    status = _field(Integer, description="Status as of POST /useradd. Retry lines with 429 or 503")
    login = password = _optional_field(String, description="Present if this line has created a user, now or earlier")
    replayed = _optional_field(
        Boolean, description="true: the same line created the user earlier, in this or an earlier request"
    )
    code = _optional_field(String, description="Why no user was created")
    detail = String()
    errors = ProblemSchema._declared_fields["errors"]
    retry_after = _optional_field(Integer, description="Seconds to wait before you retry the line")
    valid = _optional_field(Boolean, description="Dry run: the fields are valid")
    normalized = _object_field(_USER, required=False)
    attempt_id = _ID
    recorded = _RECORDED
    idempotency_key = _optional_field(String, description="Only in the first line: retry the request with this key")


class StatsSchema(ResponseSchema):
    """Response of GET /api/v1/stats/: a serialized Report."""

    component = "Stats"
    period = _object_field(
        {"from": _field(_PeriodEdgeField, "since", nullable=True), "to": _field(_TimeField, "until")}
        | {"zone": _field(_TextField, example="Europe/Moscow")}
    )
    total = created = rejected = failed = unchanged = _INTEGER
    by_status = _list_field({"status": _INTEGER, "count": _INTEGER})
    by_code = _list_field({"code": _TEXT, "status": _INTEGER, "count": _INTEGER}, attribute="by_error_code")
    series = _list_field(
        {"from": _field(_PeriodEdgeField, "since"), "to": _field(_PeriodEdgeField, "until")}
        | dict.fromkeys(Outcome, _INTEGER)
    )


class AttemptSchema(ResponseSchema):
    """Response of GET /api/v1/attempts/<id>/, and an item of AttemptPageSchema."""

    component = "Attempt"
    id = _ID
    received_at = _field(_TimeField)
    status = _field(Integer, description="HTTP status of the outcome; 0: the process died before it responded")
    answered = _field(Integer, nullable=True, description="Status of the response; null if there was none")
    outcome = _field(String, enum=list(Outcome))
    code = _field(String, description=_CODE, example="invalid_phone")
    errors = _list_field({"field": _TEXT, "code": _field(String, example="invalid_phone")})
    username = _field(String, nullable=True)
    phone = _field(String, "phone_masked", nullable=True, description="Masked", example="+7 999 •••-••-67")
    email = _field(String, "email_masked", nullable=True, description="Masked")
    duration_ms = _INTEGER
    via = _field(String, enum=["direct", "spool", "recovered"])


class AttemptPageSchema(ResponseSchema):
    """Response of GET /api/v1/attempts/: a page of attempts and the address of the next page."""

    component = "Attempts"
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)
    next = _field(String, nullable=True, description="Address of the following page, null on the last one")


class HealthSchema(ResponseSchema):
    """Response of /livez and /readyz."""

    status = _TEXT


class StatusSchema(ResponseSchema):
    """Response of /status."""

    status = _field(Raw, enum=["ok", "degraded", "stopping", "spool_full", "spool_unusable"])
    version = _TEXT
    database = statistics = _field(Raw, **_AVAILABILITY)
    replica = _object_field(
        {"state": _field(Raw, **_AVAILABILITY), "lag_s": _field(Float, nullable=True)}, required=False
    )
    spool = _object_field(
        dict.fromkeys(("attempts", "bytes"), _INTEGER)
        | {"oldest_s": _field(Integer, nullable=True), "quarantined": _INTEGER, "lost": _INTEGER}
    )
    uncounted = _INTEGER
    workers = _object_field(dict.fromkeys(("running", "expected", "replaced", "database_away"), _INTEGER))


CREATED_SCHEMA, CHECKED_SCHEMA, PROBLEM_SCHEMA, LINE_SCHEMA = (
    CreatedSchema(),
    CheckedSchema(),
    ProblemSchema(),
    LineSchema(),
)
STATS_SCHEMA, ATTEMPT_SCHEMA, ATTEMPT_PAGE_SCHEMA = StatsSchema(), AttemptSchema(), AttemptPageSchema()
HEALTH_SCHEMA, STATUS_SCHEMA = HealthSchema(), StatusSchema()
COMPONENTS = (CREATED_SCHEMA, CHECKED_SCHEMA, LINE_SCHEMA, STATS_SCHEMA, ATTEMPT_SCHEMA, ATTEMPT_PAGE_SCHEMA)


def problem_members(code: str, detail: str, errors: Iterable[FieldError] = (), **values: object) -> dict[str, object]:
    """Return the members of a problem document; `values` replace or add members.

    If the code is unknown, which it may be in an attempt of another version, the title is PLACEHOLDER, and the status
    is None unless `values` has one.
    """
    problem = PROBLEMS.get(code)
    title, status = (str(problem.title), problem.status) if problem else (PLACEHOLDER, None)
    body = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail, "code": code} | values
    if errors:
        body["errors"] = error_members(errors)
    return body


def error_members(errors: Iterable[FieldError]) -> list[dict[str, str]]:
    """Return the member `errors` of a problem document."""
    return [{"field": error.field, "code": error.code, "message": message_text(error)} for error in errors]
