"""Lines: the fast path gives the same line as escaping each value, or none, for any value."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project.domain.attempts import AttemptRow
from project.domain.errors import FieldError
from project.domain.lines import LONG_LINE_BYTES, Layout
from project.domain.messages import Messages
from project.exporters import csv, log_sheets, text
from tests.lines import block_of, raw_line, values
from tests.unit.test_exporters import ENGLISH_TRANSLATIONS, REJECTED, attempt_row, report

ROW = attempt_row()
LAYOUTS = {
    "txt": text.layout(report([ROW]), ENGLISH_TRANSLATIONS),
    "csv": csv.layout(report([ROW]), ENGLISH_TRANSLATIONS),
    "xlsx": log_sheets.layout(report([ROW]), ENGLISH_TRANSLATIONS, [str(number) for number in range(12)]),
}
HOSTILE = (
    *('"', ",", "&", "<", ">", "'", "\t", "\n", "\r", "\x01", "\x02", "\x03", "\x04", "\x1e", "\x7f", "\x85", "\xa0"),
    *(
        "=",
        "+",
        "-",
        "@",
        "＝",
        "＋",
        "－",
        "＠",
        " ",
        "•",
        "·",
        "’",
        "_x0041_",
        "_x",
        "\u061c",
        "\u200b",
        "\u2028",
        "\u202e",
    ),
    *(
        "\u2029",
        "\u3000",
        "\u1680",
        "\u205f",
        "\ufeff",
        "\ufffd",
        "\ufffe",
        "\uffff",
        "😀",
        "я",
        "7",
        "912",
        "a",
        "]]>",
    ),
)
TEXTS = st.lists(st.sampled_from(HOSTILE) | st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(
    "".join
)


def escaped(layout: Layout, row: AttemptRow) -> bytes:
    """Return the line built by escaping each value."""
    return layout.format_line(row.status, row.code, values(layout, row))


@pytest.mark.parametrize("ending", LAYOUTS)
@given(username=TEXTS, name=TEXTS, phone=TEXTS | st.just("+7 912 •••-••-41"), email=TEXTS)
def test_the_fast_path_gives_the_same_line_as_escaping_each_value(
    ending: str, username: str, name: str, phone: str, email: str
) -> None:
    layout = LAYOUTS[ending]
    row = attempt_row(username=username, name=name, phone_masked=phone, email_masked=email)
    raw = raw_line(layout, row)
    assert raw is not None

    fast = layout.format_block(block_of([raw]))

    assert fast in (None, escaped(layout, row))


@pytest.mark.parametrize("ending", LAYOUTS)
@pytest.mark.parametrize("row", [ROW, attempt_row(email_masked=None, name=None), attempt_row(name="Zoë O'Brien-Łuk")])
def test_ordinary_names_take_the_fast_path(ending: str, row: AttemptRow) -> None:
    raw = raw_line(LAYOUTS[ending], row)
    assert raw is not None

    fast = LAYOUTS[ending].format_block(block_of([raw] * 3))

    assert fast == escaped(LAYOUTS[ending], row) * 3


@pytest.mark.parametrize("ending", LAYOUTS)
@given(field=TEXTS)
def test_messages_on_the_fast_path_are_the_same_as_escaped(ending: str, field: str) -> None:
    layout = LAYOUTS[ending]
    row = attempt_row(**REJECTED | {"errors": (FieldError(field, "unknown_field"), FieldError("phone", "required"))})
    raw = raw_line(layout, row)
    assert raw is not None

    fast = layout.format_block(block_of([raw]))

    assert fast in (None, escaped(layout, row))


def test_messages_of_a_csv_are_quoted_and_disarmed_on_the_fast_path() -> None:
    messages = Messages(fields={"phone": "=Phone"}, sentences={("invalid_phone", "too_short"): 'Write "+7", please.'})
    layout = replace(LAYOUTS["csv"], messages=messages)
    rows = [ROW, attempt_row(**REJECTED), ROW, attempt_row(**REJECTED)]
    raw = [raw_line(layout, row) for row in rows]

    fast = layout.format_block(block_of([line for line in raw if line is not None]))

    assert fast == b"".join(escaped(layout, row) for row in rows)
    assert fast.count(b',"\'=Phone: Write ""+7"", please.') == 2


@pytest.mark.parametrize("mark", ["\x01", "\x03", "\x1e"])
def test_separators_inside_a_message_do_not_take_the_fast_path(mark: str) -> None:
    messages = Messages(fields={"phone": f"Pho{mark}ne"}, sentences={})
    layout = replace(LAYOUTS["csv"], messages=messages)
    raw = raw_line(layout, attempt_row(**REJECTED))
    assert raw is not None

    assert layout.format_block(block_of([raw])) is None


@pytest.mark.parametrize("ending", LAYOUTS)
def test_one_unusual_line_keeps_a_whole_block_from_the_fast_path(ending: str) -> None:
    lines = [raw_line(LAYOUTS[ending], row) for row in (ROW, attempt_row(name='"&\x01'), ROW)]

    fast = LAYOUTS[ending].format_block(block_of([line for line in lines if line is not None]))

    assert fast is None


@pytest.mark.parametrize("mark", ["\x01", "\x02", "\x03", "\x04", "\x1f", "\0"])
@pytest.mark.parametrize("ending", LAYOUTS)
def test_separators_inside_a_value_cannot_shift_other_values(ending: str, mark: str) -> None:
    raw = raw_line(LAYOUTS[ending], attempt_row(username=f"a{mark}b", name=None))
    assert raw is not None

    assert LAYOUTS[ending].format_block(block_of([raw])) is None


def test_a_long_line_does_not_take_the_fast_path() -> None:
    raw = raw_line(LAYOUTS["xlsx"], attempt_row(name="x" * LONG_LINE_BYTES))
    assert raw is not None

    assert LAYOUTS["xlsx"].format_block(block_of([raw])) is None


def test_an_unexpected_outcome_is_written_nevertheless() -> None:
    layout = LAYOUTS["csv"]

    line = escaped(layout, attempt_row(**REJECTED))

    assert b",rejected,422,422,invalid_phone," in line
