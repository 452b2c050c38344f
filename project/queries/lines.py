"""Attempts as lines of a file, written by PostgreSQL a block at a time."""

import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
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
from project.domain.lines import END, Column, Layout, RawBlock, Value
from project.models import Attempt
from project.queries.attempts import first_of

_NO_WORDS = "\x1f"
"""No layout has this mark, so that a line with it is never taken as it is."""


def lines_query(attempt_filter: AttemptFilter, layout: Layout, size: int, until: UUID | None = None) -> PreparedQuery:
    """Return the question for the first `size` chosen attempts behind one, of these up to another if that is given.

    The lines come as one text: a row for each would cost the driver more than all that is done to them afterwards.
    """
    line = _raw_line(layout).label("line")
    behind = Attempt.id > bindparam("behind", required=False)
    if attempt_filter.is_of_kinds:
        found = first_of(
            (Attempt.id,), attempt_filter, size, behind
        ).subquery()  # lines only for those taken in the end
        lines = select(found.c.id, line).join(found, found.c.id == Attempt.id).order_by(Attempt.id).subquery()
    else:
        lines = first_of((Attempt.id, line), attempt_filter, size, behind).subquery()
    last = func.array_agg(lines.c.id)[func.count()]
    text = func.string_agg(lines.c.line, bindparam("end", type_=Text, required=False))
    query = select(text, func.count(), last).select_from(lines)
    return PreparedQuery(
        query if until is None else query.where(lines.c.id <= until), layout.zone.key, ("behind", "end")
    )


def find_lines(database: Database, question: PreparedQuery, behind: UUID, end: bytes = END) -> RawBlock | None:
    """Return the next raw lines, None behind the last."""
    ((content, rows, last),) = database.read_query(question, behind=behind, end=end.decode())
    return None if content is None else RawBlock(int(rows), content, behind, last)


def find_single_lines(
    database: Database, attempt_filter: AttemptFilter, layout: Layout, found: RawBlock
) -> list[bytes]:
    """Return raw lines one by one, when a value among them holds what stands between lines, too."""
    question = lines_query(attempt_filter, layout, found.rows, until=found.last)
    lines: list[bytes] = []
    end, behind = secrets.token_hex(16).encode(), found.behind  # nobody can have sent this
    while again := find_lines(database, question, behind, end):  # more than once if others came in between
        lines += again.content.split(end)
        behind = again.last
    return lines


def find_escaped_lines(connection: Connection, layout: Layout, ids: list[bytes]) -> dict[bytes, bytes]:
    """Return the lines of these attempts, put together from their values."""
    _prepare(connection, layout.zone)
    shown = (cast(_VALUES[value], Text) for value in layout.values)
    head = (cast(Attempt.id, Text), Attempt.status, Attempt.code, *shown)
    lines = {}
    query = select(*head).where(Attempt.id.in_(UUID(each.decode()) for each in ids))
    for key, status, code, *found in _fetch(connection, query):
        values = dict(zip(layout.values, (value.decode() for value in found), strict=True))
        lines[key] = layout.escaped(status, code.decode(), values)
    return lines


def _prepare(connection: Connection, zone: ZoneInfo) -> None:
    """Set the clock by which times are told, and have texts handed over as they come.

    To decode a file and encode it again would cost as much as all the rest of it.
    """
    event.listen(connection, "before_cursor_execute", _as_bytes)
    connection.execute(select(func.set_config("timezone", zone.key, True)))


def _as_bytes(connection: Connection, cursor: extensions.cursor, *_: object) -> None:
    extensions.register_type(extensions.BYTES, cursor)


def _fetch(connection: Connection, query: Select[*tuple[Any, ...]], values: dict[str, Any] | None = None) -> list[Any]:
    """Return rows as the driver has them: SQLAlchemy's own would cost a fifth of the time."""
    cursor = connection.execute(query, values).cursor
    return [] if cursor is None else list(cursor.fetchall())


def _raw_line(layout: Layout) -> ColumnElement[str]:
    """Return the values with their marks in between. The mark that comes most often is left to concat_ws()."""
    usual = Counter(each.mark for each in layout.columns[1:]).most_common(1)[0][0]
    pieces: list[ColumnElement[str]] = []
    for is_value, columns in groupby(layout.columns, lambda each: isinstance(each.shown, Value)):
        for mark, piece in _values(columns) if is_value else [_words(list(columns), layout.ends)]:
            if pieces and mark != usual:
                pieces[-1] = cast(pieces[-1], Text) + literal(mark) + cast(piece, Text)
            else:
                pieces.append(piece)
    return func.concat_ws(usual, *pieces)


def _values(columns: Iterable[Column]) -> Iterator[tuple[str, ColumnElement[str]]]:
    for each in columns:
        if isinstance(each.shown, Value):
            yield each.mark, _VALUES[each.shown]


def _words(columns: list[Column], ends: Iterable[tuple[int, str]]) -> tuple[str, ColumnElement[str]]:
    """Return what neighbouring columns say in words as one text, which PostgreSQL has only to pick.

    An end that nobody expected has no words here: its line is put together from its values.
    """

    def said(status: int, code: str) -> str:
        texts = [each.mark + each.shown(status, code) for each in columns if not isinstance(each.shown, Value)]
        return "".join(texts).removeprefix(columns[0].mark)

    known = [(and_(Attempt.status == status, Attempt.code == code), said(status, code)) for status, code in ends]
    return columns[0].mark, case((false(), ""), *known, else_=_NO_WORDS)


def _errors() -> ColumnElement[str]:
    errors = func.jsonb_array_elements(Attempt.errors).table_valued(column("error", JSONB), with_ordinality="place")
    errors = errors.render_derived()
    told = errors.c.error["field"].astext + ":" + errors.c.error["code"].astext
    joined = select(func.string_agg(told, aggregate_order_by(literal_column("';'"), errors.c.place)))
    has_errors = Attempt.errors != literal_column("'[]'::jsonb", JSONB)
    # Where a user was created there are none: most attempts need no look at JSON.
    return case((and_(Attempt.code != CREATED, has_errors), joined.scalar_subquery()))


def _or_nothing(value: SQLColumnExpression[Any]) -> ColumnElement[str]:
    """Stand for a value that may be missing: concat_ws() would leave out its mark, too."""
    return func.coalesce(cast(value, Text), "")


_VALUES: dict[Value, ColumnElement[Any]] = {
    Value.ID: Attempt.id.expression,
    # Times are those of the clock that Question or _prepare() has set.
    Value.LOCAL_TIME: cast(Attempt.received_at, String(19)),
    # ISO 8601 as JSON has it: to_char() takes twice as long, and PostgreSQL's own text has no T.
    Value.ISO_TIME: func.to_jsonb(Attempt.received_at).op("#>>")(literal_column("'{}'")),
    Value.SERIAL_TIME: literal_column(
        "(floor(date_part('epoch', attempts.received_at::timestamp)) / 86400 + 25569)::text", Text
    ),
    Value.ANSWERED: _or_nothing(Attempt.answered),
    Value.CODE: Attempt.code.expression,
    Value.DURATION: Attempt.duration_ms.expression,
    Value.VIA: Attempt.via.expression,
    Value.USERNAME: _or_nothing(Attempt.username),
    Value.NAME: _or_nothing(Attempt.sent["name"].astext),
    Value.PHONE: _or_nothing(Attempt.phone_masked),
    Value.EMAIL: _or_nothing(Attempt.email_masked),
    Value.ERRORS: _or_nothing(_errors()),
}
