"""What came of a long run, by numbers: what clients were told, and what the tables have of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.chaos.load import Answer

Lines = list[tuple[str, object]]
Ask = Callable[..., list[tuple[Any, ...]]]
"""Runs one statement and returns its rows."""


def tally(ask: Ask, answers: Sequence[Answer], faults: Mapping[str, int]) -> Lines:
    """Return what was answered, lost and doubled, each with its number."""
    told = Counter(
        f"{answer.status} {answer.code}" if answer.status else "no answer (process killed)" for answer in answers
    )
    numbers = [str(answer.attempt_id) for answer in answers if answer.attempt_id]
    kept = {str(row[0]) for row in ask("select id from attempts where id = any(%s::uuid[])", [numbers])}
    users = {str(row[0]) for row in ask("select id from users")}
    created = {str(answer.json["user"]["id"]) for answer in answers if answer.status == 201}
    [[doubled]] = ask("select count(*) from (select lower(username) from users group by 1 having count(*) > 1) d")
    [[loose]] = ask(
        "select count(*) from users u full join (select id from attempts where status = 201) a using (id)"
        " where u.username is null or a.id is null"
    )
    slowest = max((answer.seconds for answer in answers if answer.status), default=0)
    return [
        ("requests", len(answers)),
        *((f"  answered {what}", count) for what, count in sorted(told.items())),
        ("attempts lost", len(set(numbers) - kept)),
        ("attempts doubled", len(numbers) - len(set(numbers))),
        ("users lost", len(created - users)),
        ("second users", doubled),
        ("users without attempt, or the reverse", loose),
        ("interrupted attempts recorded", ask("select count(*) from attempts where status = 0")[0][0]),
        ("brought in from the spool", ask("select count(*) from attempts where via = 'spool'")[0][0]),
        ("slowest answer", f"{slowest:.2f} s"),
        *((f"  fault: {what}", count) for what, count in sorted(faults.items())),
    ]


def table(lines: Iterable[tuple[str, object]]) -> str:
    """Return the lines for people."""
    return "\n".join(f"{name:<50}{value!s:>10}" for name, value in lines)
