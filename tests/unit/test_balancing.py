"""A worker that holds more connections than another one waits before it accepts."""

from collections.abc import Callable

import pytest

from project.server.balancing import ConnectionBalancer


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The events, in the order in which they happened."""
    recorded: list[str] = []
    monkeypatch.setattr("project.server.balancing.time.sleep", lambda _: recorded.append("waited"))
    return recorded


def _accepting(events: list[str], connections: list[str]) -> Callable[[], None]:
    def accept() -> None:
        events.append("accepted")
        connections.append("new")

    return accept


def test_a_worker_that_holds_no_more_connections_than_others_accepts_at_once(events: list[str]) -> None:
    held: list[str] = []
    accept = ConnectionBalancer(2).wrap_accept(_accepting(events, held), 0, held)

    accept()

    assert events == ["accepted"]


def test_a_worker_that_holds_more_connections_than_another_one_waits_before_accepting(events: list[str]) -> None:
    held = ["one"]
    accept = ConnectionBalancer(2).wrap_accept(_accepting(events, held), 0, held)

    accept()

    assert events == ["waited", "accepted"]


def test_workers_see_how_many_connections_the_others_have_accepted(events: list[str]) -> None:
    balancer = ConnectionBalancer(2)
    ours, theirs = ["one"], ["one"]
    accept = balancer.wrap_accept(_accepting(events, ours), 0, ours)
    accept_theirs = balancer.wrap_accept(_accepting(events, theirs), 1, theirs)
    accept()
    events.clear()

    accept_theirs()

    assert events == ["accepted"]


def test_a_closed_connection_is_not_counted_any_more(events: list[str]) -> None:
    held = ["one"]
    accept = ConnectionBalancer(2).wrap_accept(_accepting(events, held), 0, held)
    accept()
    held.clear()
    events.clear()

    accept()

    assert events == ["accepted"]
