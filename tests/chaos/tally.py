"""Summary of a long run: the responses that clients got, compared with the tables."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.chaos.load import Answer

Lines = list[tuple[str, object]]
Execute = Callable[..., list[tuple[Any, ...]]]
"""A function that runs one statement and returns its rows."""


def tally(execute: Execute, answers: Sequence[Answer], faults: Mapping[str, int]) -> Lines:
    """Return the counts of answers, of lost and duplicate records, and of faults."""
    outcomes = Counter(
        f"{answer.status} {answer.code}" if answer.status else "no response (process killed)" for answer in answers
    )
    kept = [answer for answer in answers if answer.attempt_id and answer.json.get("recorded") is not False]
    attempt_ids = [str(answer.attempt_id) for answer in kept]
    recorded = {str(row[0]) for row in execute("select id from attempts where id = any(%s::uuid[])", [attempt_ids])}
    users = {str(row[0]) for row in execute("select id from users")}
    created = {str(answer.json["user"]["id"]) for answer in answers if answer.status == 201}
    [[duplicates]] = execute(
        "select count(*) from (select lower(username) from users group by 1 having count(*) > 1) d"
    )
    [[unmatched]] = execute(
        "select count(*) from users u full join (select id from attempts where status = 201) a using (id)"
        " where u.username is null or a.id is null"
    )
    slowest = max((answer.seconds for answer in answers if answer.status), default=0)
    return [
        ("requests", len(answers)),
        *((f"  {outcome}", count) for outcome, count in sorted(outcomes.items())),
        ("answered as not recorded", sum(answer.json.get("recorded") is False for answer in answers)),
        ("attempts lost", len(set(attempt_ids) - recorded)),
        ("duplicate attempt IDs", len(attempt_ids) - len(set(attempt_ids))),
        ("users lost", len(created - users)),
        ("duplicate usernames", duplicates),
        ("users without attempt, or vice versa", unmatched),
        ("interrupted attempts recorded", execute("select count(*) from attempts where status = 0")[0][0]),
        ("attempts drained from the spool", execute("select count(*) from attempts where via = 'spool'")[0][0]),
        ("slowest response", f"{slowest:.2f} s"),
        *((f"  fault: {fault}", count) for fault, count in sorted(faults.items())),
    ]


def table(lines: Iterable[tuple[str, object]]) -> str:
    """Format the lines as a text table."""
    return "\n".join(f"{name:<50}{value!s:>10}" for name, value in lines)
