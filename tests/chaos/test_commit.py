"""F8 to F12: the connection breaks around the committing statement or its reply.

The request retries with the same attempt ID: the client gets the right credentials, or `outcome_unknown` and gets them
by repeating with the same key (promises P1, P2, P5, P6).
"""

import re
from collections.abc import Callable, Iterable

import pytest

from tests.chaos.invariants import check_invariants
from tests.chaos.load import Answer, Client, Load, summarize
from tests.chaos.postgres import Postgres, Rows
from tests.chaos.processes import eventually
from tests.chaos.proxy import Proxy, Trap
from tests.chaos.service import Service

ANSWERED_WITHIN_S = 3.6
RECORDED_WITHIN_S = 10.0
REPEATED_WITHIN_S = 8.0
USERADD = "execute useradd"
"""Text of the statement of a request, in contrast to other statements of the service."""
GROUP = '"is_admin":false},{"id"'
"""Text between two members of a group, whose requests share a statement."""
CUTS: dict[str, Callable[[Proxy], Trap]] = {
    "F8, not delivered": lambda proxy: proxy.reset_statement(USERADD),
    "F8, delivered": lambda proxy: proxy.reset_statement(USERADD, deliver=True),
    "F9": lambda proxy: proxy.drop_commit(USERADD),
    "F10": lambda proxy: proxy.drop_commit_reply(USERADD),
}


def _recorded(postgres: Postgres, answer: Answer) -> Rows:
    """Return `status` and `answered` of the attempt."""
    return postgres.execute("select status, answered from attempts where id = %s", [answer.attempt_id])


def _repeat(client: Client, answer: Answer, answers: list[Answer]) -> Answer:
    """Repeat with the same key until the answer is not 503."""

    def is_answered() -> bool:
        answers.append(client.repeat(answer))
        return answers[-1].status != 503

    eventually(is_answered, REPEATED_WITHIN_S, "only 503")
    return answers[-1]


def _usernames(traps: Iterable[Trap]) -> set[str]:
    """Return the usernames in the statements that fired the traps."""
    return {name.decode() for trap in traps for name in re.findall(rb'"username":"(\w+)"', b"".join(trap.caught))}


def _await_answers_of(load: Load, usernames: set[str]) -> None:
    """Wait until the requests for these users are answered."""
    eventually(
        lambda: usernames <= {answer.sent["username"] for answer in load.answers}, ANSWERED_WITHIN_S, "unanswered"
    )


def _is_group(trap: Trap) -> bool:
    return GROUP.encode() in b"".join(trap.caught)


@pytest.mark.parametrize("fault", CUTS)
def test_one_broken_connection_is_hidden_by_a_retry(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client, fault: str
) -> None:
    trap = CUTS[fault](proxy)

    answer = client.create()

    assert trap.count == 1
    assert answer.code == "created", summarize([answer])
    assert _recorded(postgres, answer) == [(201, 201)]
    replay = client.repeat(answer)
    assert (replay.code, replay.json["password"]) == ("replayed", answer.json["password"])
    check_invariants(postgres, service, [answer, replay])


@pytest.mark.parametrize("fault", CUTS)
def test_broken_connections_under_load_are_hidden_by_retries(
    postgres: Postgres, proxy: Proxy, service: Service, fault: str
) -> None:
    fired = 0
    with Load(service, clients=6) as load:
        for _ in range(15):
            trap = CUTS[fault](proxy)
            trap.wait()
            fired += trap.count

    assert fired == 15
    assert {answer.code for answer in load.answers} == {"created"}, summarize(load.answers)
    assert max(answer.seconds for answer in load.answers) < ANSWERED_WITHIN_S
    check_invariants(postgres, service, load.answers)


def test_resets_of_all_connections_under_load_are_hidden_by_retries(
    postgres: Postgres, proxy: Proxy, service: Service
) -> None:
    with Load(service, clients=6) as load:
        for count in range(50, 500, 50):
            load.await_answers(count)
            assert proxy.reset() > 0

    assert {answer.code for answer in load.answers} == {"created"}, summarize(load.answers)
    assert max(answer.seconds for answer in load.answers) < ANSWERED_WITHIN_S
    check_invariants(postgres, service, load.answers)


@pytest.mark.parametrize("is_lasting", [False, True], ids=["one COMMIT", "every COMMIT"])
def test_an_unconfirmed_commit_is_an_unknown_outcome_and_its_key_returns_the_credentials(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client, *, is_lasting: bool
) -> None:
    """F11."""
    trap = proxy.freeze_commit(USERADD, is_lasting=is_lasting)

    answer = client.create()

    assert trap.count >= 1
    assert (answer.status, answer.code) == (503, "outcome_unknown")
    assert answer.seconds < ANSWERED_WITHIN_S
    assert int(answer.headers["Retry-After"]) in {1, 2, 3}
    proxy.pass_through()
    eventually(lambda: _recorded(postgres, answer) == [(201, 503)], RECORDED_WITHIN_S, "P2: not recorded")
    answers = [answer]
    assert _repeat(client, answer, answers).code == "replayed", summarize(answers)
    check_invariants(postgres, service, answers)


def test_unconfirmed_commits_under_load_affect_only_their_own_requests(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client
) -> None:
    """F11, with other requests in both workers.

    Members of a frozen group have time for a try of their own, which learns the outcome.
    """
    alone: list[Trap] = []
    with Load(service, clients=8, is_reconnecting=True) as load:
        while len(alone) < 4:
            trap = proxy.freeze_commit(USERADD)
            trap.wait()
            if not _is_group(trap):
                alone.append(trap)
        _await_answers_of(load, _usernames(alone))
        load.await_answers(len(load.answers) + 200)
    proxy.pass_through()

    answers = load.answers
    unknown = [answer for answer in answers if answer.code == "outcome_unknown"]
    assert {answer.code for answer in answers} == {"created", "outcome_unknown"}, summarize(answers)
    assert {answer.sent["username"] for answer in unknown} == _usernames(alone), summarize(answers)
    assert len(unknown) == len(alone), summarize(answers)
    assert max(answer.seconds for answer in answers) < ANSWERED_WITHIN_S
    replays = [client.repeat(answer) for answer in unknown]
    assert {replay.code for replay in replays} == {"replayed"}, summarize(replays)
    check_invariants(postgres, service, answers + replays)


@pytest.mark.parametrize("fault", [Proxy.freeze_commit, Proxy.delay_commit], ids=["committed", "arrives late"])
def test_an_unconfirmed_group_is_hidden_by_tries_of_its_members(
    postgres: Postgres, proxy: Proxy, service: Service, fault: Callable[[Proxy, str], Trap]
) -> None:
    """F11, F12: the IDs of the attempts are already used, by the group or by its members."""
    with Load(service, clients=12, is_reconnecting=True) as load:
        trap = fault(proxy, GROUP)
        trap.wait()
        members = _usernames([trap])
        _await_answers_of(load, members)
        proxy.pass_through()
        load.await_answers(len(load.answers) + 200)

    assert len(members) > 1
    assert {answer.code for answer in load.answers} == {"created"}, summarize(load.answers)
    check_invariants(postgres, service, load.answers)


def test_a_statement_that_arrives_late_does_not_change_the_recorded_attempt(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client
) -> None:
    """F12: the attempt's ID is already used."""
    proxy.delay_commit(USERADD)

    answer = client.create()

    assert (answer.status, answer.code) == (503, "outcome_unknown")
    assert answer.seconds < ANSWERED_WITHIN_S
    eventually(lambda: _recorded(postgres, answer) == [(503, 503)], RECORDED_WITHIN_S, "P2: not recorded")
    proxy.pass_through()
    answers = [answer]
    assert _repeat(client, answer, answers).code == "created", summarize(answers)
    check_invariants(postgres, service, answers)
    assert _recorded(postgres, answer) == [(503, 503)]


def test_a_statement_that_arrives_right_after_503_is_recorded_consistently_with_its_repeat(
    postgres: Postgres, proxy: Proxy, service: Service, client: Client
) -> None:
    """F12: the statement arrives before or after the record from the spool.

    The service must not deny the user.
    """
    proxy.delay_commit(USERADD)

    answer = client.create()
    proxy.pass_through()

    assert (answer.status, answer.code) == (503, "outcome_unknown")
    eventually(lambda: _recorded(postgres, answer), RECORDED_WITHIN_S, "P2: not recorded")
    answers = [answer]
    repeated = _repeat(client, answer, answers)
    check_invariants(postgres, service, answers)
    expected = {"replayed": [(201, 503)], "created": [(503, 503)]}
    assert _recorded(postgres, answer) == expected[repeated.code], summarize(answers)
