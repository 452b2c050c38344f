"""Group commit without a database: who shares a group, and that every wait ends."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from project.database import Row, deadline, group_commit, remaining_seconds
from project.database.group_commit import MAX_MEMBERS, GroupCommit, GroupFailedError, Member
from project.database.pending_writers import PendingWriters


class Statement:
    """Executes members; holds one that is called `held` until release()."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.alone: list[tuple[str, bool]] = []
        self.failure: BaseException | None = None
        """Error that the next groups raise."""
        self.pending_writers = PendingWriters()
        self.commit = GroupCommit(self.execute_group, self.execute_alone, self.pending_writers)
        self._threads = ThreadPoolExecutor(200)
        self._released = threading.Event()
        self._is_held = False

    def execute_group(self, members: Sequence[Member]) -> list[Row]:
        self.groups.append([member.line for member in members])
        if self.failure:
            raise self.failure
        return [(member.line,) for member in members]

    def execute_alone(self, member: Member) -> Row:
        self.alone.append((member.line, member.may_be_committed))
        if member.line == "held":
            self._is_held = True
            self._released.wait()
        return (member.line,)

    def submit(self, line: str, *claims: str, seconds: float = 60) -> "Future[Row]":
        """Execute the statement for a member in a new thread with a deadline."""

        def execute() -> Row:
            with deadline(seconds):
                return self.commit.execute(Member(line, frozenset(claims or (line,))))

        return self._threads.submit(execute)

    def hold(self) -> None:
        """Keep a group in progress until release()."""
        self.submit("held")
        wait_until(lambda: self._is_held)
        self.alone.clear()

    def gather(self, *lines: tuple[str, ...], seconds: float = 60) -> "list[Future[Row]]":
        """Submit members one after the other, while a group is in progress."""
        futures: list[Future[Row]] = []
        for number, (line, *claims) in enumerate(lines, start=self.commit.waiting_members + 1):
            futures.append(self.submit(line, *claims, seconds=seconds))
            wait_until(partial(lambda number: self.commit.waiting_members == number, number))
        return futures

    def release(self) -> None:
        """Release all held members."""
        self._released.set()

    def close(self) -> None:
        """End all threads."""
        self.release()
        self._threads.shutdown()


def wait_until(condition: Callable[[], Any]) -> None:
    """Wait for a condition that another thread brings about."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def statement(monkeypatch: pytest.MonkeyPatch) -> Iterator[Statement]:
    """A statement whose members wait for their group without a limit."""
    monkeypatch.setattr(group_commit, "GROUP_WAIT_S", 60)
    statement = Statement()
    yield statement
    statement.close()


def rows(futures: "Sequence[Future[Row]]") -> list[str]:
    """Return the result of each member."""
    return [future.result(30)[0] for future in futures]


def test_a_single_member_is_sent_at_once_and_alone(statement: Statement) -> None:
    assert statement.submit("a").result(30) == ("a",)

    assert (statement.groups, statement.alone) == ([], [("a", False)])


def test_members_that_come_while_a_group_is_in_progress_share_the_next_one(statement: Statement) -> None:
    statement.hold()
    gathered = statement.gather(("a",), ("b",), ("c",))
    assert statement.groups == []

    statement.release()

    assert rows(gathered) == ["a", "b", "c"]
    assert statement.groups == [["a", "b", "c"]]


def test_a_leader_waits_for_pending_writers_which_join_its_group(
    statement: Statement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GATHER_S", 60)
    with statement.pending_writers:
        leader = statement.submit("leader")
        wait_until(lambda: statement.commit._is_busy)
        joined = statement.submit("joined")
        wait_until(lambda: statement.commit.waiting_members == 1)
        assert (statement.groups, statement.alone) == ([], [])

    assert rows([leader, joined]) == ["leader", "joined"]
    assert statement.groups == [["leader", "joined"]]


def test_a_leader_does_not_wait_for_writers_that_begin_later(
    statement: Statement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GATHER_S", 60)
    began, ended = threading.Event(), threading.Event()

    def begin_later() -> None:
        with statement.pending_writers:
            began.set()
            ended.wait()

    with statement.pending_writers:
        leader = statement.submit("leader")
        wait_until(lambda: statement.commit._is_busy)
        later = threading.Thread(target=begin_later)
        later.start()
        began.wait()
    try:
        assert leader.result(30) == ("leader",)
    finally:
        ended.set()
        later.join()


def test_a_pending_writer_that_never_comes_delays_a_group_only_briefly(statement: Statement) -> None:
    with statement.pending_writers:
        assert statement.submit("a").result(30) == ("a",)


def test_members_that_claim_the_same_are_in_different_groups(statement: Statement) -> None:
    statement.hold()
    gathered = statement.gather(("a", "x"), ("b", "y"), ("c", "x", "y"), ("d", "z"), ("e", "y"))

    statement.release()

    assert rows(gathered) == ["a", "b", "c", "d", "e"]
    assert statement.groups[0] == ["a", "b", "d"]
    assert not any({"c", "e"} <= set(group) for group in statement.groups)


def test_a_group_has_a_maximum_size(statement: Statement) -> None:
    statement.hold()
    gathered = statement.gather(*((str(number),) for number in range(MAX_MEMBERS + 2)))

    statement.release()

    assert len(rows(gathered)) == MAX_MEMBERS + 2
    assert len(statement.groups[0]) == MAX_MEMBERS


@pytest.mark.parametrize("may_be_committed", [True, False])
def test_the_members_of_a_failed_group_are_tried_alone_and_know_whether_it_may_be_committed(
    statement: Statement, may_be_committed: bool
) -> None:
    statement.hold()
    gathered = statement.gather(("a",), ("b",))
    statement.failure = GroupFailedError(may_be_committed=may_be_committed)

    statement.release()

    assert rows(gathered) == ["a", "b"]
    assert statement.groups == [["a", "b"]]
    assert sorted(statement.alone) == [("a", may_be_committed), ("b", may_be_committed)]


def test_nothing_was_sent_for_a_member_that_becomes_the_leader_just_after_its_wait(statement: Statement) -> None:
    late = Member("late", frozenset())
    late.may_be_committed = late.is_leader = True  # as if it was woken between the end of its wait and the lock

    statement.commit._lead(late)

    assert statement.alone == [("late", False)]


def test_no_group_begins_soon_after_one_has_failed(statement: Statement) -> None:
    statement.hold()
    gathered = statement.gather(("a",), ("b",))
    statement.failure = GroupFailedError(may_be_committed=False)
    statement.release()
    rows(gathered)

    assert rows([statement.submit("c"), statement.submit("d"), statement.submit("e")]) == ["c", "d", "e"]

    assert statement.groups == [["a", "b"]]


def test_a_leader_that_dies_wakes_its_members_which_are_in_doubt(statement: Statement) -> None:
    statement.hold()
    leader, follower = statement.gather(("leader",), ("follower",))
    statement.failure = SystemExit()

    statement.release()

    assert isinstance(leader.exception(30), SystemExit)
    assert rows([follower]) == ["follower"]
    assert statement.alone == [("follower", True)]
    assert statement.submit("later").result(30) == ("later",)


def test_a_leader_that_dies_while_it_waits_for_pending_writers_delays_nobody_later(
    statement: Statement, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(timeout_s: float) -> None:
        raise MemoryError

    with monkeypatch.context() as scarce:
        scarce.setattr(statement.pending_writers, "await_arrivals", fail)
        dead = statement.submit("dead")
        assert isinstance(dead.exception(30), MemoryError)

    assert statement.submit("later").result(30) == ("later",)
    assert not statement.commit._is_busy


def test_a_member_whose_group_does_not_begin_in_time_is_tried_alone(
    statement: Statement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GROUP_WAIT_S", 0.01)
    statement.hold()

    assert statement.submit("a").result(30) == ("a",)

    assert (statement.groups, statement.alone, statement.commit.waiting_members) == ([], [("a", False)], 0)


def test_a_member_waits_for_its_leader_no_longer_than_its_own_deadline(
    statement: Statement, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()

    def hang(members: Sequence[Member]) -> list[Row]:
        stuck.wait()
        raise GroupFailedError(may_be_committed=True)

    monkeypatch.setattr(statement.commit, "_execute_group", hang)
    monkeypatch.setattr(group_commit, "GROUP_WAIT_S", 0.1)
    statement.hold()
    _, follower = statement.gather(("leader",), ("follower",), seconds=group_commit.MIN_JOIN_S + 0.1)
    statement.release()
    try:
        assert follower.result(30) == ("follower",)
        assert statement.alone == [("follower", True)]
    finally:
        stuck.set()


def test_a_member_without_enough_time_joins_no_group(statement: Statement) -> None:
    statement.hold()

    assert statement.submit("late", seconds=group_commit.MIN_JOIN_S / 2).result(30) == ("late",)

    assert statement.commit.waiting_members == 0


def test_a_group_gets_half_of_the_time_of_its_most_urgent_member(statement: Statement) -> None:
    limits: list[float] = []
    execute_group = statement.execute_group

    def measure(members: Sequence[Member]) -> list[Row]:
        limits.append(remaining_seconds() or 0)
        return execute_group(members)

    statement.commit._execute_group = measure
    statement.hold()
    gathered = [*statement.gather(("a",), seconds=60), *statement.gather(("b",), seconds=20)]

    statement.release()

    assert rows(gathered) == ["a", "b"]
    assert 0 < limits[0] <= 10
