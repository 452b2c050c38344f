"""Reads attempts in blocks of lines that PostgreSQL has formatted."""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg2 import extensions
from sqlalchemy import (
    CHAR,
    ColumnElement,
    Connection,
    Select,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    event,
    false,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from project.database import Database, PreparedQuery
from project.domain.attempts import CREATED, AttemptFilter, mask_errors
from project.domain.errors import FieldError
from project.domain.lines import CONCAT_SEPARATOR, RAW_LINE_SEPARATOR, UNTRUSTED, Column, Layout, RawBlock, Value
from project.domain.masking import mask, mask_name
from project.domain.messages import Messages
from project.models import Attempt
from project.queries.attempts import select_first

_NO_LABEL = "\x1f"
"""Placeholder for a text that PostgreSQL cannot compute. No layout uses it as separator, so that Layout.format_block()
rejects the block, and Python builds the line from its values."""


def lines_query(attempt_filter: AttemptFilter, layout: Layout, size: int, until: UUID | None = None) -> PreparedQuery:
    """Return the query for a block of at most `size` lines, up to the attempt `until`.

    The query has the parameters `after`, the last ID of the previous block, and `end`, the line separator. The result
    is one row with the lines as one text: if there were a row per line, the driver would take most of the time.
    """
    line = _raw_line(layout, unmasked=attempt_filter.unmasked).label("line")
    after = Attempt.id > bindparam("after", required=False)
    if attempt_filter.selects_by_kind:
        # IDs first, so that lines are formatted only for the attempts that remain after merging.
        found = select_first((Attempt.id,), attempt_filter, size, after).subquery()
        lines = select(found.c.id, line).join(found, found.c.id == Attempt.id).order_by(Attempt.id).subquery()
    else:
        lines = select_first((Attempt.id, line), attempt_filter, size, after).subquery()
    last = func.array_agg(lines.c.id)[func.count()]
    text = func.string_agg(lines.c.line, bindparam("end", type_=Text, required=False))
    query = select(text, func.count(), last).select_from(lines)
    if until is not None:
        query = query.where(lines.c.id <= until)
    return PreparedQuery(query, layout.zone.key, ("after", "end"))


def find_next_block(
    database: Database, query: PreparedQuery, after: UUID, end: bytes = RAW_LINE_SEPARATOR
) -> RawBlock | None:
    """Return the next block of raw lines, or None after the last attempt."""
    ((content, rows, last),) = database.read_query(query, after=after, end=end.decode())
    return None if content is None else RawBlock(int(rows), content, after, last)


def find_lines_one_by_one(
    database: Database, attempt_filter: AttemptFilter, layout: Layout, block: RawBlock
) -> list[bytes]:
    """Read a block again, with another separator, and return its lines as a list.

    Needed if the block cannot be split into lines, because a value contains RAW_LINE_SEPARATOR.
    """
    query = lines_query(attempt_filter, layout, block.rows, until=block.last)
    lines: list[bytes] = []
    end, after = secrets.token_hex(16).encode(), block.after  # random, so that no client can have sent it
    while found := find_next_block(database, query, after, end):  # several times if attempts were added in between
        lines += found.content.split(end)
        after = found.last
    return lines


def find_escaped_lines(
    connection: Connection, layout: Layout, ids: list[bytes], *, unmasked: bool = True
) -> dict[bytes, bytes]:
    """Return the escaped lines of the attempts with these IDs, by ID; masked unless `unmasked`."""
    _prepare_session(connection, layout.zone)
    sql = _EXPRESSIONS | {Value.MESSAGES: Attempt.errors}  # Python builds the messages below
    values = (cast(sql[value], Text) for value in layout.values)
    columns = (cast(Attempt.id, Text), Attempt.status, Attempt.code, *values)
    query = select(*columns).where(Attempt.id.in_(UUID(attempt_id.decode()) for attempt_id in ids))
    lines: dict[bytes, bytes] = {}
    for key, status, code, *texts in _fetch(connection, query):
        found = {value: (text or b"").decode() for value, text in zip(layout.values, texts, strict=True)}
        errors = tuple(map(FieldError.from_json, json.loads(found[Value.MESSAGES])))
        if not unmasked:
            errors = mask_errors(errors)
            found |= {value: to_mask(found[value]) for value, to_mask in _MASK_FUNCTIONS.items() if value in found}
        found[Value.MESSAGES] = layout.messages.describe(errors)
        lines[key] = layout.format_line(status, code.decode(), found)
    return lines


def _prepare_session(connection: Connection, zone: ZoneInfo) -> None:
    """Set the time zone; make the driver return bytes: decoding would double the time."""
    event.listen(connection, "before_cursor_execute", _return_bytes)
    connection.execute(select(func.set_config("timezone", zone.key, True)))


def _return_bytes(connection: Connection, cursor: extensions.cursor, *_: object) -> None:
    extensions.register_type(extensions.BYTES, cursor)


def _fetch(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[Any]:
    """Execute a query; return rows of psycopg2: rows of SQLAlchemy take a fifth of an export."""
    cursor = connection.execute(query).cursor
    return [] if cursor is None else list(cursor.fetchall())


def _raw_line(layout: Layout, *, unmasked: bool) -> ColumnElement[str]:
    """Return the SQL expression of a raw line. concat_ws() is the fastest way to concatenate."""
    sql = (_EXPRESSIONS if unmasked else _EXPRESSIONS | _MASKED_EXPRESSIONS) | {
        Value.MESSAGES: _messages_expression(layout.messages)
    }
    texts: list[ColumnElement[Any]] = []
    for is_label, columns in groupby(layout.columns, lambda column: not isinstance(column.value, Value)):
        if is_label:
            texts.append(_labels_expression(list(columns), layout.kinds))
        else:
            texts += [
                _value_expression(column, sql[column.value]) for column in columns if isinstance(column.value, Value)
            ]
    return func.concat_ws(CONCAT_SEPARATOR, *texts)


def _value_expression(column: Column, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the SQL expression of a value, preceded by its separator without CONCAT_SEPARATOR.

    The expression is never null, because concat_ws() skips nulls.
    """
    separator, blank = (text.removeprefix(CONCAT_SEPARATOR) for text in (column.separator, column.blank))
    shown = cast(value, Text)
    text: ColumnElement[str] = func.coalesce(literal(separator) + shown if separator else shown, blank or separator)
    if not column.width or column.value in (Value.ID, Value.LOCAL_TIME):  # IDs and times have a fixed length
        return text
    width = column.width + len(separator)
    if column.value in UNTRUSTED:
        cut = func.left(text, width - 1) + literal("…")
        is_short = func.octet_length(text) <= width  # faster than counting characters
        text = case((is_short, text), (func.char_length(text) <= width, text), else_=cut)
    return cast(text, CHAR(width))  # concat_ws() pads CHAR faster than rpad() pads text


def _labels_expression(columns: list[Column], kinds: Iterable[tuple[int, str]]) -> ColumnElement[str]:
    """Return a CASE expression for the labels of adjacent columns, with a branch per kind.

    A kind is a pair of status and code. For an unknown kind, each label is _NO_LABEL.
    """

    def label(status: int, code: str) -> str:
        labelled = [(column, column.value) for column in columns if not isinstance(column.value, Value)]
        texts = [column.format_raw(label_of(status, code)) for column, label_of in labelled]
        return "".join(texts).removeprefix(CONCAT_SEPARATOR)

    labels = [(and_(Attempt.status == status, Attempt.code == code), label(status, code)) for status, code in kinds]
    unknown = "".join(column.separator + _NO_LABEL for column in columns).removeprefix(CONCAT_SEPARATOR)
    return case((false(), ""), *labels, else_=unknown)


def _errors_expression() -> ColumnElement[str]:
    return _join_errors(lambda error: error["field"].astext + ":" + error["code"].astext, "';'")


def _messages_expression(messages: Messages) -> ColumnElement[str]:
    """Return Messages.describe() as SQL expression, with _NO_LABEL for errors with parameters.

    Names of unknown fields with control characters become _NO_LABEL, too, so that the value contains no separator.
    """
    fields = _json(messages.fields)
    sentences = _json({":".join(key): sentence for key, sentence in messages.sentences.items()})

    def describe(error: ColumnElement[Any]) -> ColumnElement[str]:
        field = error["field"].astext
        label = func.coalesce(fields[field].astext, case((field.regexp_match("[[:cntrl:]]"), _NO_LABEL), else_=field))
        sentence = sentences[error["code"].astext + ":" + func.coalesce(error["variant"].astext, "")].astext
        has_params = func.coalesce(error["params"], _json({})) != _json({})
        return label + ": " + func.coalesce(case((has_params, _NO_LABEL), else_=sentence), _NO_LABEL)

    return _join_errors(describe, "' '")


def _json(values: Mapping[str, str]) -> ColumnElement[Any]:
    return cast(literal(json.dumps(values)), JSONB)


def _join_errors(to_text: Callable[[ColumnElement[Any]], ColumnElement[str]], separator: str) -> ColumnElement[str]:
    """Return the SQL expression that joins texts of an attempt's errors; null without errors."""
    errors = func.jsonb_array_elements(Attempt.errors).table_valued(column("error", JSONB), with_ordinality="position")
    errors = errors.render_derived()
    order: ColumnElement[str] = aggregate_order_by(literal_column(separator), errors.c.position)
    joined = select(func.string_agg(to_text(errors.c.error), order)).scalar_subquery()
    # A single error, the usual number, is faster without the subquery.
    text = case((func.jsonb_array_length(Attempt.errors) == 1, to_text(Attempt.errors[0])), else_=joined)
    has_errors = Attempt.errors != literal_column("'[]'::jsonb", JSONB)
    # Created users have none, so most attempts need no JSON access.
    return case((and_(Attempt.code != CREATED, has_errors), text))


_EXPRESSIONS: dict[Value, ColumnElement[Any]] = {
    Value.ID: Attempt.id.expression,
    # Times are in the session time zone, which PreparedQuery or _prepare_session() has set.
    Value.LOCAL_TIME: cast(Attempt.received_at, String(19)),
    # JSON has times in ISO 8601. to_char() takes twice as long, and a cast to text gives no T.
    Value.ISO_TIME: func.to_jsonb(Attempt.received_at).op("#>>")(literal_column("'{}'")),
    Value.SERIAL_TIME: literal_column(
        "(floor(date_part('epoch', attempts.received_at::timestamp)) / 86400 + 25569)::text", Text
    ),
    Value.ANSWERED: Attempt.answered.expression,
    Value.CODE: Attempt.code.expression,
    Value.DURATION: Attempt.duration_ms.expression,
    Value.VIA: Attempt.via.expression,
    Value.USERNAME: Attempt.username.expression,
    Value.NAME: Attempt.sent["name"].astext,
    Value.PHONE: Attempt.phone_masked.expression,
    Value.EMAIL: Attempt.email_masked.expression,
    Value.ERRORS: _errors_expression(),
}


def _mask_errors(text: str) -> str:
    """Mask each field name, then the whole text, because field names may contain separators."""
    errors = (error.rpartition(":") for error in text.split(";"))
    return mask(";".join(f"{mask(field)}{separator}{code}" for field, separator, code in errors))


_MASKED_EXPRESSIONS: dict[Value, ColumnElement[Any]] = {
    Value.USERNAME: func.coalesce(Attempt.username_shown, func.shown_login(Attempt.username), _NO_LABEL),
    Value.NAME: func.coalesce(
        Attempt.name_shown, func.shown_name(Attempt.sent["name"].astext, cast(Attempt.errors, Text)), _NO_LABEL
    ),
}
"""Value -> SQL expression for ordinary users. The result is _NO_LABEL if Python has to mask the value."""
_MASK_FUNCTIONS: dict[Value, Callable[[str], str]] = {
    Value.USERNAME: mask,
    Value.NAME: mask_name,
    Value.ERRORS: _mask_errors,
}
