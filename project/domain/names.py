"""Names of query parameters and fields: common synonyms, and hints for misspelt names."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

PARAMETER_SYNONYMS: Mapping[str, str] = {
    "check": "dry_run",
    "count": "limit",
    "cursor": "before",
    "dry": "dry_run",
    "end": "to",
    "error": "code",
    "http": "status",
    "login": "q",
    "outcome": "result",
    "pagesize": "limit",
    "perpage": "limit",
    "query": "q",
    "reason": "code",
    "search": "q",
    "simulate": "dry_run",
    "since": "from",
    "size": "limit",
    "start": "from",
    "state": "status",
    "test": "dry_run",
    "till": "to",
    "timezone": "tz",
    "until": "to",
    "username": "q",
    "validate": "dry_run",
    "validateonly": "dry_run",
    "zone": "tz",
}
"""Synonyms of query parameters, in lower case without separators -> name of the parameter."""


def find_parameter(name: str, known: Iterable[str]) -> str | None:
    """Return the known query parameter that `name` probably stands for, or None."""
    folded = _folded(name)
    names = {_folded(parameter): parameter for parameter in known}
    if PARAMETER_SYNONYMS.get(folded) in names.values():
        return PARAMETER_SYNONYMS[folded]
    return next((names[match] for match in get_close_matches(folded, names, n=1)), None)


def _folded(name: str) -> str:
    """Return a name in lower case without separators: `dryRun` and `dry-run` become the same."""
    return "".join(filter(str.isalnum, name.casefold()))
