"""A retry confirms a commit only after the standby has it (P4).

The primary crashed while the first transaction waited for the standby.
"""

from collections.abc import Callable

from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, Load, summarize
from tests.chaos.postgres import Postgres
from tests.chaos.processes import eventually
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6
CLIENTS = 5
"""More than one, because the first sequence value after a crash makes its transaction wait anyway."""


def test_a_retry_after_a_crash_of_the_primary_waits_for_the_standby(
    new_postgres: Callable[[], Postgres], new_service: Callable[..., Service]
) -> None:
    primary = new_postgres()
    standby = primary.start_standby()
    try:
        service = new_service(primary.url(), WORKERS="1").start()
        standby.freeze()

        with Load(service, CLIENTS, limit=CLIENTS) as load:
            eventually(lambda: _waiting(primary) > 1, 3, "no COMMIT waits for the standby")
            primary.kill_one_backend()
            answers = list(load.wait())
        standby.thaw()

        codes = [answer.code for answer in answers]
        assert set(codes) <= {"outcome_unknown", "database_unavailable"}, summarize(answers)
        assert codes.count("outcome_unknown") > 1, summarize(answers)
        assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
        repeats = [_repeat(service, answer) for answer in answers]
        assert {answer.code for answer in repeats} <= {"replayed", "created"}, summarize(repeats)
        check_invariants(primary, service, answers)
    finally:
        standby.close()


def _waiting(primary: Postgres) -> int:
    [[count]] = primary.execute("select count(*) from pg_stat_activity where wait_event = 'SyncRep'")
    return int(count)


def _repeat(service: Service, answer: Answer) -> Answer:
    """Repeat with the same key until the answer is not 503."""
    client, answers = Client(service), []

    def is_answered() -> bool:
        answers.append(client.repeat(answer))
        return answers[-1].status != 503

    eventually(is_answered, 20, "only 503")
    client.close()
    return answers[-1]
