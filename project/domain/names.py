"""Recognizes synonyms and misspellings of the names of fields and query parameters."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

FIELD_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "name": ("full name", "fio", "display name", "имя", "имя и фамилия", "полное имя", "фио", "фамилия имя отчество"),
    "username": ("login", "user", "user login", "account", "nick", "логин", "имя пользователя", "пользователь"),
    "phone": (
        *("tel", "telephone", "phone number", "mobile", "mobile phone", "mobile number", "cell", "cell phone"),
        *("msisdn", "fone"),
        *("телефон", "тел", "номер телефона", "мобильный", "мобильный телефон", "моб", "сотовый"),
    ),
    "email": (
        *("e-mail", "mail", "email address", "e-mail address", "почта", "электронная почта", "эл. почта"),
        *("адрес электронной почты", "емейл", "имейл"),
    ),
    "birth_date": (
        *("birthday", "birth day", "date of birth", "dob", "born", "bday"),
        *("дата рождения", "день рождения", "др", "рождение"),
    ),
}
"""Field -> synonyms. Imports accept synonyms as column headings; the API refuses them and names the right field."""
NAME_PARTS = (
    *("first name", "given name", "forename", "last name", "surname", "family name", "middle name", "patronymic"),
    *("фамилия", "отчество"),
)
"""Names for parts of a person's name, which are no synonyms of `name`. The API suggests `name` instead."""
MIN_SIMILARITY = 0.76
"""Minimum similarity (0 to 1) of a misspelt name to the name of a field; `nickname` and `usertype` have less."""
_MIN_SWAPPED_LENGTH = 4
"""Minimum length of a name that is recognized if two neighbouring letters are swapped: `nmae`."""

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
"""Synonym of a query parameter, in lower case without separators -> name of the parameter."""


def find_field(name: str) -> str | None:
    """Return the field that has this name or synonym, or None."""
    return _FIELDS.get(fold_name(name))


def find_similar_field(name: str) -> str | None:
    """Return the field that an unknown name probably means, or None if no field is similar."""
    folded = fold_name(name)
    near = get_close_matches(folded, _NAMES, n=1, cutoff=MIN_SIMILARITY)
    return _HINTS.get(folded) or (_NAMES[near[0]] if near else _SWAPPED.get(folded))


def is_name_part(name: str) -> bool:
    """Return whether a name stands for a part of a person's name: `surname`, `отчество`."""
    return fold_name(name) in _PARTS


def find_parameter(name: str, known: Iterable[str]) -> str | None:
    """Return the known query parameter that `name` probably stands for, or None."""
    folded = fold_name(name)
    names = {fold_name(parameter): parameter for parameter in known}
    if PARAMETER_SYNONYMS.get(folded) in names.values():
        return PARAMETER_SYNONYMS[folded]
    return next((names[match] for match in get_close_matches(folded, names, n=1)), None)


def fold_name(name: str) -> str:
    """Return a name in lower case without separators: `dryrun` for `dryRun` and `dry-run`."""
    return "".join(filter(str.isalnum, name.casefold()))


_NAMES = {fold_name(name): name for name in FIELD_SYNONYMS}
_FIELDS = _NAMES | {fold_name(synonym): name for name, synonyms in FIELD_SYNONYMS.items() for synonym in synonyms}
_PARTS = frozenset(map(fold_name, NAME_PARTS))
_SWAPPED = {
    name[:index] + name[index + 1] + name[index] + name[index + 2 :]: field
    for name, field in _FIELDS.items()
    if len(name) >= _MIN_SWAPPED_LENGTH
    for index in range(len(name) - 1)
}
_HINTS = _FIELDS | dict.fromkeys(_PARTS, "name")
