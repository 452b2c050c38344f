"""Recognizes the header row of a file, and maps its columns to fields."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from project.domain.errors import FIELDS
from project.domain.names import find_field, find_similar_field, fold_name
from project.domain.text import clean
from project.importers.rows import FileError, Note

MAX_ROWS_ABOVE_HEADER = 10
"""Maximum number of rows, such as a title, that are skipped above the header row."""
REMARK_HEADERS = ("What to fix", "Что исправить")
"""Headers, one per language, of the column that a file of refused rows has in addition. Imports ignore this column."""
_FOLDED_REMARK_HEADERS = frozenset(map(fold_name, REMARK_HEADERS))


def is_remark_header(header: str) -> bool:
    """Return whether this is the header of the column that says what to fix in refused rows."""
    return fold_name(header) in _FOLDED_REMARK_HEADERS


@dataclass(frozen=True, slots=True)
class Columns:
    """Maps the headers of columns to fields."""

    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Header -> field, in addition to the known headers."""
    ignore_unknown: bool = False
    """Whether columns with unknown headers are ignored instead of refused."""

    def map_headers(self, headers: Iterable[str]) -> tuple[tuple[str | None, ...], tuple[Note, ...]]:
        """Return the field of each column (see Source.fields), and notes. Raises FileError."""
        named = [" ".join(header.split()) for header in headers]
        while named and not named[-1]:
            named.pop()
        fields = [self._field(name) for name in named]
        unknown = [clean(name, 40) for name, field_name in zip(named, fields, strict=True) if field_name == "?"]
        if unknown and not self.ignore_unknown:
            raise FileError("unknown_columns", names=", ".join(map(_with_hint, unknown)))
        known = [name for name in fields if name in FIELDS]
        repeated = next((name for name in known if known.count(name) > 1), None)
        if repeated:
            first, second, *_ = (
                clean(name, 40) for name, field_name in zip(named, fields, strict=True) if field_name == repeated
            )
            raise FileError("repeated_column", field=repeated, first=first, second=second)
        found = tuple(None if name == "?" else name for name in fields)
        return found, (Note("ignored_columns", {"names": ", ".join(unknown)}),) if unknown else ()

    def are_headers(self, cells: Sequence[str]) -> bool:
        """Return whether the cells are headers: they name at least the fields name and username."""
        return {"name", "username"} <= {self._field(" ".join(cell.split())) for cell in cells}

    def explain_missing_headers(self, cells: Sequence[str]) -> FileError:
        """Return the error that explains why the first cells of a file are no headers.

        If no cell names a field, the cells are probably data, which the message must not contain.
        """
        fields = {self._field(" ".join(cell.split())) for cell in cells}
        if not fields & set(FIELDS):
            return FileError("no_heads")
        try:
            self.map_headers(cells)
        except FileError as error:
            return error
        missing = [name for name in ("name", "username") if name not in fields]
        return FileError("missing_columns", names=", ".join(missing))

    def _field(self, name: str) -> str | None:
        """Return the field of a header; None for remarks, "" for no header, "?" for an unknown one."""
        folded = fold_name(name)
        if is_remark_header(name):
            return None
        mapped = {fold_name(header): field_name for header, field_name in self.names.items()}
        return mapped.get(folded) or find_field(name) or ("?" if name else "")


def _with_hint(name: str) -> str:
    similar = find_similar_field(name)
    return f"{name} ({similar}?)" if similar else name
