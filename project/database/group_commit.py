"""Group commit: concurrent writes of several threads share a transaction (docs/adr/0033)."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence

from project.database.deadline import deadline, remaining_seconds
from project.database.pending_writers import PendingWriters
from project.database.prepared import Row

MAX_MEMBERS = 64
"""Maximum number of members of a group, which are writes that share a transaction."""
GROUP_WAIT_S = 0.2
"""Maximum seconds for which a member waits for its group to begin; groups normally take milliseconds."""
GATHER_S = 0.01
"""Maximum seconds for which a group waits, before it begins, for threads that prepare a write."""
MIN_JOIN_S = 0.5
"""Minimum seconds until the deadline of a thread that joins a group. A group may take half of the time until the
earliest deadline of its members, so that they can be tried alone if the group fails."""
SUSPEND_S = 5.0
"""Seconds for which members are tried alone after a group has failed or has not begun within GROUP_WAIT_S: the next
group would probably fail, too."""


class GroupFailedError(Exception):
    """The transaction of a group failed. The members have to be tried alone."""

    def __init__(self, *, may_be_committed: bool) -> None:
        super().__init__()
        self.may_be_committed = may_be_committed
        """Whether the group was sent but its outcome is unknown."""


class Member:
    """One write of a group: a JSON object (`line`) for the statement, and the row it returns.

    `claims` are the unique values, such as a username, that the write inserts. Members with a common claim are never in
    the same group, so that members of a group do not affect each other.
    """

    __slots__ = ("_woken", "claims", "deadline_at", "is_leader", "line", "may_be_committed", "row")

    def __init__(self, line: str, claims: frozenset[Hashable]) -> None:
        self.line = line
        self.claims = claims
        self.deadline_at = 0.0
        """Deadline of the thread by time.monotonic()."""
        self.is_leader = False
        """Whether the thread of this member executes the group."""
        self.row: Row | None = None
        """The row that the statement returned for the member; None before, or if the group failed."""
        self.may_be_committed = False
        """Whether the group of the member may have been committed although `row` is None."""
        self._woken = threading.Lock()  # an Event costs ten times as much
        self._woken.acquire()

    def wake(self) -> None:
        """End the wait() of the member's thread."""
        self._woken.release()

    def wait(self, timeout_s: float) -> bool:
        """Wait for wake(); return False after `timeout_s`."""
        return self._woken.acquire(timeout=max(0.0, timeout_s))


class GroupCommit:
    """Collects members while a group is in progress, and executes them as the next group.

    The thread of the first member, the leader, executes the group. Before, the leader waits for pending writers
    (threads that prepare a write), because a statement for several members costs little more than for a single one.
    Without pending writers and without a group in progress, a member is executed at once.
    """

    def __init__(
        self,
        execute_group: Callable[[Sequence[Member]], list[Row]],
        execute_alone: Callable[[Member], Row],
        pending_writers: PendingWriters,
    ) -> None:
        """Create a group commit. Both functions must respect the deadline of their thread.

        `execute_group` must not retry, and raises GroupFailedError on any failure.
        """
        self._execute_group = execute_group
        self._execute_alone = execute_alone
        self._pending_writers = pending_writers
        self._lock = threading.Lock()
        self._is_busy = False
        """Whether a leader gathers members or its group is in progress."""
        self._waiting: list[Member] = []
        self._suspended_until = 0.0
        """Time by time.monotonic() until which all members are executed alone."""

    @property
    def waiting_members(self) -> int:
        """Number of members that wait for their group to begin."""
        return len(self._waiting)

    def execute(self, member: Member) -> Row:
        """Execute the statement for a member; return its row. Raises the errors of `execute_alone`."""
        self._pending_writers.arrive()
        left, now = remaining_seconds() or 0.0, time.monotonic()
        if left < MIN_JOIN_S or now < self._suspended_until:
            return self._execute_alone(member)
        member.deadline_at = now + left
        with self._lock:
            if self._is_busy:
                self._waiting.append(member)
            else:
                self._is_busy = member.is_leader = True
        if not member.is_leader:
            self._await_group(member)
        if member.is_leader:
            self._lead(member)
        return self._execute_alone(member) if member.row is None else member.row

    def _await_group(self, member: Member) -> None:
        """Wait until the member is a leader, its group has ended, or its deadline is reached.

        Returns after GROUP_WAIT_S if no group with the member has begun.
        """
        if member.wait(GROUP_WAIT_S):
            return
        with self._lock:
            if member in self._waiting:
                self._waiting.remove(member)
                self._suspend()
                return
        member.may_be_committed = True  # the leader sets the result at the end of the group
        member.wait(member.deadline_at - time.monotonic())

    def _lead(self, leader: Member) -> None:
        """Execute a group; then, even after an error, wake its members and the next leader."""
        leader.may_be_committed = False  # _await_group() may have set it, but the leader was in no group
        members, may_be_committed = [leader], True
        try:
            self._pending_writers.await_arrivals(GATHER_S)
            members = self._gather(leader)
            if len(members) == 1:
                leader.row = self._execute_alone(leader)
                return
            with deadline((min(member.deadline_at for member in members) - time.monotonic()) / 2):
                rows = self._execute_group(members)
            for member, row in zip(members, rows, strict=True):
                member.row = row
        except GroupFailedError as failure:
            may_be_committed = failure.may_be_committed
            self._suspend()
        finally:
            self._end_group()
            for member in members[1:]:
                member.may_be_committed = may_be_committed
                member.wake()
            leader.may_be_committed = may_be_committed

    def _gather(self, leader: Member) -> list[Member]:
        """Return the leader and waiting members without common claims. Other members keep waiting."""
        members, claims = [leader], set(leader.claims)
        others: list[Member] = []
        with self._lock:
            for member in self._waiting:
                if len(members) < MAX_MEMBERS and claims.isdisjoint(member.claims):
                    members.append(member)
                    claims |= member.claims
                else:
                    others.append(member)
            self._waiting = others
        return members

    def _end_group(self) -> None:
        """Make the first waiting member the leader of the next group, if there is one."""
        with self._lock:
            if not self._waiting:
                self._is_busy = False
                return
            leader = self._waiting.pop(0)
            leader.is_leader = True
        leader.wake()

    def _suspend(self) -> None:
        self._suspended_until = time.monotonic() + SUSPEND_S
