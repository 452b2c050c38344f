"""Which workers the supervisor considers hung."""

import pytest

from project.server import heartbeats
from project.server.heartbeats import Heartbeats


@pytest.fixture
def beating(monkeypatch: pytest.MonkeyPatch) -> Heartbeats:
    """Heartbeats of two workers, of which the first serves."""
    monkeypatch.setattr(heartbeats, "HUNG_CHECKS", 2)
    monkeypatch.setattr(heartbeats, "START_CHECKS", 5)
    beating = Heartbeats(2)
    beating.beat(0)
    return beating


def test_a_worker_without_a_round_between_checks_hangs(beating: Heartbeats) -> None:
    assert [beating.find_hung() for _ in range(5)] == [[], [], [0], [], [0, 1]]


def test_a_worker_whose_event_loop_makes_rounds_does_not_hang(beating: Heartbeats) -> None:
    for _ in range(4):
        beating.beat(0)
        assert beating.find_hung() == []


def test_a_worker_that_never_makes_a_round_hangs_later_than_one_that_has_served(beating: Heartbeats) -> None:
    beating.start(0)

    assert [beating.find_hung() for _ in range(5)] == [[], [], [], [], [0, 1]]


def test_a_single_round_proves_that_a_worker_does_not_hang(beating: Heartbeats) -> None:
    found = [beating.find_hung(), beating.find_hung()]
    beating.beat(0)
    found += [beating.find_hung(), beating.find_hung()]

    assert found == [[], [], [], []]


def test_a_replaced_worker_has_as_much_time_to_start_as_the_first_one(beating: Heartbeats) -> None:
    for _ in range(3):
        beating.find_hung()

    beating.start(0)

    assert [0 in beating.find_hung() for _ in range(5)] == [False, False, False, False, True]
