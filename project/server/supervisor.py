"""The parent of all workers: forks them, replaces those that die, stops them all."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

log = logging.getLogger(__name__)

PREPARE_S = 10
"""Seconds that the start waits for the preparation."""
TRY_AGAIN_LATER = 75
"""Exit status of a preparation that must be tried again (EX_TEMPFAIL of sysexits.h)."""
_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_TOO_YOUNG_S = 1.0


class Supervisor:
    """Does `work` in `count` processes, each told its number, until a signal says stop."""

    def __init__(self, work: Callable[[int], None], count: int, listener: socket.socket, stop_s: float) -> None:
        self._work = work
        self._count = count
        self._listener = listener
        self._stop_s = stop_s
        self._workers: dict[int, tuple[int, float]] = {}
        """Process id -> its number, and when it was born, by time.monotonic()."""
        self._preparing: tuple[int, Callable[[], None]] | None = None
        self._lifeline = os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)

    def prepare(self, prepare: Callable[[], None]) -> None:
        """Run `prepare` in a child; exit with it unless it takes long or only has to be tried again."""
        pid, end = self._fork(prepare), time.monotonic() + PREPARE_S
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._judge(os.waitstatus_to_exitcode(status), prepare)
                return
            time.sleep(0.01)
        self._preparing = (pid, prepare)

    def _judge(self, code: int, prepare: Callable[[], None]) -> None:
        self._preparing = None
        if code == TRY_AGAIN_LATER:
            self._preparing = (self._fork(lambda: _later(prepare)), prepare)
        elif code != 0:
            sys.exit(code if code > 0 else 1)

    def start(self) -> None:
        """Start the workers."""
        for number in range(self._count):
            self._hire(number)

    def _hire(self, number: int) -> None:
        self._workers[self._fork(partial(self._work, number))] = (number, time.monotonic())

    def watch(self) -> int:
        """Replace workers that die until a signal says stop; return the exit status of it all."""
        while signal.sigwait(_WATCHED) == signal.SIGCHLD:
            for pid, status in _reap():
                self._replace(pid, status)
        return self._stop()

    def _replace(self, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if self._preparing and pid == self._preparing[0]:
            if code not in {0, TRY_AGAIN_LATER}:
                log.error("migration failed, retrying", extra={"exit_status": code})
            self._judge(TRY_AGAIN_LATER if code else 0, self._preparing[1])
        elif pid in self._workers:
            number, born = self._workers.pop(pid)
            log.error("worker died, replacing it", extra={"worker": number, "pid": pid, "exit_status": code})
            if time.monotonic() - born < _TOO_YOUNG_S:
                time.sleep(_TOO_YOUNG_S)  # whatever kills it at birth must not keep the machine busy
            self._hire(number)

    def _stop(self) -> int:
        """Ask all children to end, wait for them, and end those that do not."""
        self._listener.close()
        left = {*self._workers, *([self._preparing[0]] if self._preparing else [])}
        for pid in left:
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + self._stop_s
        statuses = []
        while left and time.monotonic() < end:
            for pid, status in _reap():
                left.discard(pid)
                statuses += [status] if pid in self._workers else []
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        log.info("stopped")
        return 0 if not left and not any(statuses) else 1

    def _fork(self, task: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.close(self._lifeline[1])
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            threading.Thread(target=_follow, args=(self._lifeline[0],), daemon=True).start()
            task()
        except SystemExit:
            raise
        except BaseException:
            log.exception("worker crashed")
            sys.exit(1)
        sys.exit(0)


def _later(task: Callable[[], None]) -> None:
    time.sleep(_TOO_YOUNG_S)
    task()


def _reap() -> list[tuple[int, int]]:
    """Return process id and status of every child that has died; one SIGCHLD may stand for several."""
    dead = []
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            dead.append(found)
    except ChildProcessError:
        pass
    return dead


def _follow(lifeline: int) -> None:
    """Stop when the supervisor is gone, however it went: its end of the pipe closes."""
    os.read(lifeline, 1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
