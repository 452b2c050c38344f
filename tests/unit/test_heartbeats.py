"""Which workers the supervisor considers hung."""

import pytest

from project.server import heartbeats
from project.server.heartbeats import Heartbeats


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Heartbeats:
    """Heartbeats of two workers, of which the first serves and two missed checks mean a hang."""
    monkeypatch.setattr(heartbeats, "HUNG_CHECKS", 2)
    beating = Heartbeats(2)
    beating.beat(0)
    return beating


def test_a_worker_without_a_round_between_checks_hangs(beating: Heartbeats) -> None:
    assert [beating.find_hung() for _ in range(5)] == [[], [], [0], [], [0]]


def test_a_worker_whose_event_loop_makes_rounds_does_not_hang(beating: Heartbeats) -> None:
    for _ in range(4):
        beating.beat(0)
        assert beating.find_hung() == []


def test_a_single_round_proves_that_a_worker_does_not_hang(beating: Heartbeats) -> None:
    found = [beating.find_hung(), beating.find_hung()]
    beating.beat(0)
    found += [beating.find_hung(), beating.find_hung()]

    assert found == [[], [], [], []]


def test_a_replaced_worker_is_checked_from_its_first_round_on(beating: Heartbeats) -> None:
    for _ in range(3):
        beating.find_hung()

    beating.start(0)

    assert [beating.find_hung() for _ in range(4)] == [[], [], [], []]
