"""Opens import files in the format of their suffix."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import BinaryIO

from project.importers.columns import Columns
from project.importers.csv_files import open_csv
from project.importers.ndjson_files import open_ndjson
from project.importers.rows import FileError, Source
from project.importers.xlsx_files import MAX_UNPACKED_BYTES, open_xlsx

SUFFIXES = (".csv", ".xlsx", ".ndjson")
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of workbooks. A file with another suffix that begins with them is refused."""


@contextmanager
def open_source(
    file: BinaryIO,
    name: str,
    columns: Columns,
    suffixes: tuple[str, ...] = SUFFIXES,
    max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
) -> Iterator[Source]:
    """Open a file in the format of its suffix. Raises FileError, also while its rows are read."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in suffixes:
        code = "old_workbook" if suffix == ".xls" else "unknown_format"
        raise FileError(code, suffixes=", ".join(suffixes))
    if suffix == ".xlsx":
        with open_xlsx(file, columns, max_unpacked_bytes) as source:
            yield source
        return
    start = file.read(4)
    file.seek(0)
    if start in _WORKBOOKS:
        raise FileError("not_text")
    yield open_csv(file, columns) if suffix == ".csv" else open_ndjson(file)
