"""Workers share the connections: whoever holds more lets the others go first."""

from collections.abc import Callable

import pytest

from project.server.balancing import ConnectionBalancer


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, in this order."""
    happened: list[str] = []
    monkeypatch.setattr("project.server.balancing.time.sleep", lambda _: happened.append("waited"))
    return happened


def _accepting(events: list[str], connections: list[str]) -> Callable[[], None]:
    def accept() -> None:
        events.append("accepted")
        connections.append("new")

    return accept


def test_whoever_holds_no_more_than_others_accepts_at_once(events: list[str]) -> None:
    held: list[str] = []
    accept = ConnectionBalancer(2).wrap_accept(_accepting(events, held), 0, held)

    accept()

    assert events == ["accepted"]


def test_whoever_holds_more_than_another_one_lets_that_one_go_first(events: list[str]) -> None:
    held = ["one"]
    accept = ConnectionBalancer(2).wrap_accept(_accepting(events, held), 0, held)

    accept()

    assert events == ["waited", "accepted"]


def test_what_a_worker_has_accepted_is_known_to_the_others(events: list[str]) -> None:
    all_shares = ConnectionBalancer(2)
    ours, theirs = ["one"], ["one"]
    accept = all_shares.wrap_accept(_accepting(events, ours), 0, ours)
    accept_theirs = all_shares.wrap_accept(_accepting(events, theirs), 1, theirs)
    accept()
    events.clear()

    accept_theirs()

    assert events == ["accepted"]


def test_a_connection_that_has_ended_counts_no_more(events: list[str]) -> None:
    held = ["one"]
    accept = ConnectionBalancer(2).wrap_accept(_accepting(events, held), 0, held)
    accept()
    held.clear()
    events.clear()

    accept()

    assert events == ["accepted"]
