"""Reads attempts in blocks of lines that PostgreSQL has formatted."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg2 import extensions
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    SQLColumnExpression,
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
from project.domain.attempts import CREATED, AttemptFilter
from project.domain.lines import LINE_END, Column, Layout, RawBlock, Value
from project.domain.masking import mask, short_name
from project.models import Attempt
from project.queries.attempts import select_first

_NO_LABEL = "\x1f"
"""Stands for an unknown label. No layout has this separator, so the line is built from its values."""


def lines_query(attempt_filter: AttemptFilter, layout: Layout, size: int, until: UUID | None = None) -> PreparedQuery:
    """Return the query for the first `size` selected attempts after `after`, up to `until`.

    The result is one row with all lines as one text: with a row per line, the driver would take most of the time.
    """
    line = _raw_line(layout, in_full=attempt_filter.in_full).label("line")
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


def find_lines(database: Database, query: PreparedQuery, after: UUID, end: bytes = LINE_END) -> RawBlock | None:
    """Return the next block of raw lines, or None after the last attempt."""
    ((content, rows, last),) = database.read_query(query, after=after, end=end.decode())
    return None if content is None else RawBlock(int(rows), content, after, last)


def find_lines_one_by_one(
    database: Database, attempt_filter: AttemptFilter, layout: Layout, block: RawBlock
) -> list[bytes]:
    """Return the raw lines of a block that cannot be split because a value contains LINE_END."""
    query = lines_query(attempt_filter, layout, block.rows, until=block.last)
    lines: list[bytes] = []
    end, after = secrets.token_hex(16).encode(), block.after  # random, so that no client can have sent it
    while found := find_lines(database, query, after, end):  # several times if attempts were added in between
        lines += found.content.split(end)
        after = found.last
    return lines


def find_escaped_lines(
    connection: Connection, layout: Layout, ids: list[bytes], *, in_full: bool = True
) -> dict[bytes, bytes]:
    """Return the escaped lines of these attempts by ID; values are masked unless `in_full`."""
    _prepare(connection, layout.zone)
    values = (cast(_VALUES[value], Text) for value in layout.values)
    columns = (cast(Attempt.id, Text), Attempt.status, Attempt.code, *values)
    query = select(*columns).where(Attempt.id.in_(UUID(attempt_id.decode()) for attempt_id in ids))
    lines: dict[bytes, bytes] = {}
    for key, status, code, *texts in _fetch(connection, query):
        found = dict(zip(layout.values, map(bytes.decode, texts), strict=True))
        if not in_full:
            found |= {value: to_mask(found[value]) for value, to_mask in _MASKS.items() if value in found}
        lines[key] = layout.format_line(status, code.decode(), found)
    return lines


def _prepare(connection: Connection, zone: ZoneInfo) -> None:
    """Set the time zone; make the driver return bytes, because decoding would double the time."""
    event.listen(connection, "before_cursor_execute", _as_bytes)
    connection.execute(select(func.set_config("timezone", zone.key, True)))


def _as_bytes(connection: Connection, cursor: extensions.cursor, *_: object) -> None:
    extensions.register_type(extensions.BYTES, cursor)


def _fetch(connection: Connection, query: Select[*tuple[Any, ...]]) -> list[Any]:
    """Return rows of psycopg2: creating SQLAlchemy rows would take a fifth of an export."""
    cursor = connection.execute(query).cursor
    return [] if cursor is None else list(cursor.fetchall())


def _raw_line(layout: Layout, *, in_full: bool) -> ColumnElement[str]:
    """Return the SQL expression for a raw line; concat_ws() adds the most frequent separator."""
    sql = _VALUES if in_full else _VALUES | _MASKED
    usual = Counter(column.separator for column in layout.columns[1:]).most_common(1)[0][0]
    texts: list[ColumnElement[str]] = []
    for is_value, columns in groupby(layout.columns, lambda column: isinstance(column.value, Value)):
        values = ((column.separator, sql[column.value]) for column in columns if isinstance(column.value, Value))
        for separator, text in values if is_value else [_labels(list(columns), layout.kinds)]:
            if texts and separator != usual:
                texts[-1] = cast(texts[-1], Text) + literal(separator) + cast(text, Text)
            else:
                texts.append(text)
    return func.concat_ws(usual, *texts)


def _labels(columns: list[Column], kinds: Iterable[tuple[int, str]]) -> tuple[str, ColumnElement[str]]:
    """Return the labels of adjacent columns as one CASE expression over the known kinds."""

    def label(status: int, code: str) -> str:
        labelled = [(column.separator, column.value) for column in columns if not isinstance(column.value, Value)]
        texts = [separator + label_of(status, code) for separator, label_of in labelled]
        return "".join(texts).removeprefix(columns[0].separator)

    labels = [(and_(Attempt.status == status, Attempt.code == code), label(status, code)) for status, code in kinds]
    return columns[0].separator, case((false(), ""), *labels, else_=_NO_LABEL)


def _errors() -> ColumnElement[str]:
    errors = func.jsonb_array_elements(Attempt.errors).table_valued(column("error", JSONB), with_ordinality="position")
    errors = errors.render_derived()
    texts = errors.c.error["field"].astext + ":" + errors.c.error["code"].astext
    joined = select(func.string_agg(texts, aggregate_order_by(literal_column("';'"), errors.c.position)))
    has_errors = Attempt.errors != literal_column("'[]'::jsonb", JSONB)
    # Created users have no errors, so most attempts need no access to the JSON column.
    return case((and_(Attempt.code != CREATED, has_errors), joined.scalar_subquery()))


def _or_empty(value: SQLColumnExpression[Any]) -> ColumnElement[str]:
    """Replace null with an empty text, because concat_ws() omits the separator of null."""
    return func.coalesce(cast(value, Text), "")


_VALUES: dict[Value, ColumnElement[Any]] = {
    Value.ID: Attempt.id.expression,
    # Times are in the session time zone, which PreparedQuery or _prepare() has set.
    Value.LOCAL_TIME: cast(Attempt.received_at, String(19)),
    # JSON has times in ISO 8601. to_char() takes twice as long, and a cast to text gives no T.
    Value.ISO_TIME: func.to_jsonb(Attempt.received_at).op("#>>")(literal_column("'{}'")),
    Value.SERIAL_TIME: literal_column(
        "(floor(date_part('epoch', attempts.received_at::timestamp)) / 86400 + 25569)::text", Text
    ),
    Value.ANSWERED: _or_empty(Attempt.answered),
    Value.CODE: Attempt.code.expression,
    Value.DURATION: Attempt.duration_ms.expression,
    Value.VIA: Attempt.via.expression,
    Value.USERNAME: _or_empty(Attempt.username),
    Value.NAME: _or_empty(Attempt.sent["name"].astext),
    Value.PHONE: _or_empty(Attempt.phone_masked),
    Value.EMAIL: _or_empty(Attempt.email_masked),
    Value.ERRORS: _or_empty(_errors()),
}


def _mask_errors(text: str) -> str:
    """Mask each field name, and then the whole text, because a name may contain separators."""
    errors = (error.rpartition(":") for error in text.split(";"))
    return mask(";".join(f"{mask(field)}{separator}{code}" for field, separator, code in errors))


_MASKED: dict[Value, ColumnElement[Any]] = {
    Value.USERNAME: func.coalesce(Attempt.username_shown, func.shown_login(Attempt.username), _NO_LABEL),
    Value.NAME: func.coalesce(
        Attempt.name_shown, func.shown_name(Attempt.sent["name"].astext, cast(Attempt.errors, Text)), _NO_LABEL
    ),
}
"""Expressions for ordinary users. Lines that may contain contact data are built from their values, with mask()."""
_MASKS: dict[Value, Callable[[str], str]] = {Value.USERNAME: mask, Value.NAME: short_name, Value.ERRORS: _mask_errors}
