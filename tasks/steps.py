"""Sends requests during the steps of `./run containers` and `./run units`; counts losses."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasks.processes import log
from tests.chaos.load import Answer, Client, Endpoint, Load, summarize

CLIENTS = 3
PAUSE_S = 0.05
"""Seconds between two requests of a client."""
MARGIN_S = 2.0
"""Seconds of load before and after a step."""
TIMEOUT_S = 60.0
"""Timeout of a request in seconds: with the socket unit, a request waits until the service has started."""
RECOVERY_S = 120.0
"""Maximum seconds after a step until a user is created."""


@dataclass(frozen=True)
class Step:
    """A step of a test under load, and the responses that clients got during it."""

    name: str
    answers: Sequence[Answer]

    def count_lost(self, users: Collection[str], attempts: Collection[str]) -> int:
        """Return the number of requests without a response, or with a missing user or attempt.

        An attempt is not missing if the response said that it was not recorded.
        """
        return sum(
            answer.status is None
            or (answer.status == 201 and answer.json["user"]["id"] not in users)
            or (
                answer.attempt_id not in attempts
                and answer.attempt_id is not None
                and answer.json.get("recorded", True)
            )
            for answer in self.answers
        )


@dataclass
class Trial:
    """The steps of a test under load. A step ends once users are created again."""

    endpoint: Endpoint
    client: Callable[[Endpoint], Client]
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Send requests while the block runs, and for MARGIN_S before and after it.

        The step ends after a user has been created again. Raises TimeoutError if that takes longer than RECOVERY_S.
        """
        log(f"== {name}")
        with Load(self.endpoint, CLIENTS, PAUSE_S, TIMEOUT_S, client=self.client) as load:
            time.sleep(MARGIN_S)
            yield
            recovered = len(load.answers) + CLIENTS  # later answers belong to requests that began after the block
            end = time.monotonic() + RECOVERY_S
            while not any(answer.status == 201 for answer in load.answers[recovered:]):
                if time.monotonic() > end:
                    raise TimeoutError(f"{name}: no user was created in {RECOVERY_S:.0f} s afterwards")
                time.sleep(0.05)
            time.sleep(MARGIN_S)
        self.steps.append(Step(name, load.answers))
        log(summarize(load.answers))

    def tally(self, users: Collection[str], attempts: Collection[str]) -> tuple[str, int]:
        """Return a Markdown table of all steps, and the number of requests that were lost."""
        lines = ["| Step | Requests | Lost | 503 | Slowest |", "|---|---|---|---|---|"]
        for step in self.steps:
            refused = sum(answer.status == 503 for answer in step.answers)
            slowest = max(answer.seconds for answer in step.answers)
            lost = step.count_lost(users, attempts)
            lines.append(f"| {step.name} | {len(step.answers)} | {lost} | {refused} | {slowest:.2f} s |")
        return "\n".join(lines), sum(step.count_lost(users, attempts) for step in self.steps)
