"""Reads files with users (.csv, .ndjson, .xlsx) row by row, to need little memory."""

from project.importers.columns import REMARKS, Columns, is_remark
from project.importers.files import SUFFIXES, open_source
from project.importers.rows import FileError, Note, Row, Source

__all__ = ["REMARKS", "SUFFIXES", "Columns", "FileError", "Note", "Row", "Source", "is_remark", "open_source"]
