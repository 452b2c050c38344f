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
    Integer,
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

from project.domain.attempts import CREATED, AttemptFilter
from project.domain.lines import END, Block, Column, Layout, Value
from project.models import Attempt
from project.outage import Database, Question
from project.queries.attempts import first_of

_NO_WORDS = "\x1f"
"""No layout has this mark, so that a line with it is never taken as it is."""


def lines_query(chosen: AttemptFilter, layout: Layout) -> Question:
    """Return the question for the `size` chosen attempts behind `last`: made once for a file.

    The lines come as one text: a row for each would cost the driver more than all that is done to them afterwards.
    """
    line = _raw_line(layout).label("line")
    size, end = bindparam("size", type_=Integer, required=False), bindparam("end", type_=Text, required=False)
    behind = Attempt.id > bindparam("last", required=False)
    if chosen.is_of_kinds:
        found = first_of((Attempt.id,), chosen, size, behind).subquery()  # lines only for those taken in the end
        lines = select(line).join(found, found.c.id == Attempt.id).order_by(Attempt.id).subquery()
    else:
        lines = first_of((line,), chosen, size, behind).subquery()
    query = select(func.string_agg(lines.c.line, end), func.count()).select_from(lines)
    return Question(query, layout.zone.key)


def find_lines(database: Database, question: Question, size: int, last: UUID) -> Block | None:
    """Return the next raw lines, None behind the last."""
    end = END
    while True:
        ((content, rows),) = database.ask(question, size=size, last=last, end=end.decode())
        if content is None:
            return None
        block = Block(int(rows), content, end)
        if content.count(end) < block.rows:
            return block
        end = secrets.token_hex(16).encode()  # somebody sent what stands between lines, but nobody can have sent this


def find_escaped_lines(connection: Connection, layout: Layout, ids: list[bytes]) -> dict[bytes, bytes]:
    """Return the lines of these attempts, put together from their values."""
    _prepare(connection, layout.zone)
    head = (cast(Attempt.id, Text), Attempt.status, Attempt.code, *(_VALUES[value] for value in layout.values))
    lines = {}
    query = select(*head).where(Attempt.id.in_(UUID(each.decode()) for each in ids))
    for key, status, code, *values in _fetch(connection, query):
        texts = [value and value.decode() for value in values]
        lines[key] = layout.escaped(status, code.decode(), dict(zip(layout.values, texts, strict=True)))
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
                pieces[-1] = pieces[-1] + literal(mark) + piece
            else:
                pieces.append(piece)
    return func.concat_ws(usual, *pieces)


def _values(columns: Iterable[Column]) -> Iterator[tuple[str, ColumnElement[str]]]:
    for each in columns:
        if isinstance(each.shown, Value):
            yield each.mark, func.coalesce(_VALUES[each.shown], "")


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


_VALUES: dict[Value, ColumnElement[Any]] = {
    Value.ID: cast(Attempt.id, Text),
    # Times are those of the clock that _prepare() has set.
    Value.LOCAL_TIME: cast(Attempt.received_at, String(19)),
    # ISO 8601 as JSON has it: to_char() takes twice as long, and PostgreSQL's own text has no T.
    Value.ISO_TIME: func.to_jsonb(Attempt.received_at).op("#>>")(literal_column("'{}'")),
    Value.SERIAL_TIME: literal_column(
        "(floor(date_part('epoch', attempts.received_at::timestamp)) / 86400 + 25569)::text", Text
    ),
    Value.ANSWERED: cast(Attempt.answered, Text),
    Value.CODE: Attempt.code.expression,
    Value.DURATION: cast(Attempt.duration_ms, Text),
    Value.VIA: Attempt.via.expression,
    Value.USERNAME: Attempt.username.expression,
    Value.NAME: Attempt.sent["name"].astext,
    Value.PHONE: Attempt.phone_masked.expression,
    Value.EMAIL: Attempt.email_masked.expression,
    Value.ERRORS: _errors(),
}
