"""Reads files with users (.csv, .ndjson, .xlsx) row by row, so that memory use is low."""

from project.importers.columns import REMARK_HEADERS, Columns, is_remark_header
from project.importers.files import SUFFIXES, open_source
from project.importers.rows import FileError, Note, Row, Source

__all__ = [
    "REMARK_HEADERS",
    "SUFFIXES",
    "Columns",
    "FileError",
    "Note",
    "Row",
    "Source",
    "is_remark_header",
    "open_source",
]
