"""Finds the row that names the columns, and the fields that the names mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from project.domain.errors import FIELDS
from project.domain.names import find_field, fold_name
from project.domain.text import clean
from project.importers.rows import FileError, Note

MAX_TITLES = 10
"""Rows above the heads, such as a title, that are skipped."""
REMARKS = ("What to fix", "Что исправить")
"""Heads of the column that files of refused rows have in addition; it is ignored when they are imported again."""
_REMARKS = frozenset(map(fold_name, REMARKS))


def is_remark(head: str) -> bool:
    """Return whether a column holds remarks on refused rows and no data."""
    return fold_name(head) in _REMARKS


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns, and the treatment of unknown ones."""

    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Additional names of columns -> field."""
    ignore_unknown: bool = False
    """Whether columns with other names are ignored instead of refused."""

    def find(self, heads: Iterable[str]) -> tuple[tuple[str | None, ...], tuple[Note, ...]]:
        """Return the field of each column (see Source.fields) and notes. Raises FileError."""
        named = [" ".join(head.split()) for head in heads]
        while named and not named[-1]:
            named.pop()
        fields = [self._field(name) for name in named]
        unknown = [clean(name, 40) for name, one in zip(named, fields, strict=True) if one == "?"]
        if unknown and not self.ignore_unknown:
            raise FileError("unknown_columns", names=", ".join(unknown))
        known = [one for one in fields if one in FIELDS]
        repeated = next((one for one in known if known.count(one) > 1), None)
        if repeated:
            raise FileError("repeated_column", field=repeated)
        found = tuple(None if one == "?" else one for one in fields)
        return found, (Note("ignored_columns", {"names": ", ".join(unknown)}),) if unknown else ()

    def are_heads(self, cells: Sequence[str]) -> bool:
        """Return whether the cells name columns, among them those that every user needs."""
        return {"name", "username"} <= {self._field(" ".join(cell.split())) for cell in cells}

    def _field(self, name: str) -> str | None:
        """Return the field, None for remarks, "" for no name and "?" for an unknown one."""
        folded = fold_name(name)
        if is_remark(name):
            return None
        mapped = {fold_name(other): one for other, one in self.names.items()}
        return mapped.get(folded) or find_field(name) or ("?" if name else "")
