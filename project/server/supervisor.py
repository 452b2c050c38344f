"""The parent process of all workers: forks them, replaces dead or hung ones, stops them."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from project.server import heartbeats
from project.server.heartbeats import Heartbeats
from project.server.output import end_interrupted_line, make_log_non_blocking

log = logging.getLogger(__name__)

PREPARE_S = 10
"""Seconds for which the start waits for `prepare`, which then continues in the background."""
_RESTART_DELAY_S = 1.0
"""Seconds before a failed preparation or fork is retried, and before a worker is replaced that ran for less time."""

_UNUSED_SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGPIPE", "SIGIO", "SIGPWR")
"""Signals that end a process by default and mean nothing to this service if sent to it. Some systems lack some."""
_CLEAN_STATUSES = {0, signal.SIGTERM}
"""Wait statuses of workers that have ended cleanly. SIGTERM kills a worker that has not begun to serve."""


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop the service, without SIGHUP if it is ignored (nohup)."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hang_up]


class Supervisor:
    """Runs `work(index)` in `count` worker processes until a stop signal.

    Workers that have not ended `stop_s` seconds after the signal are killed. Creating a supervisor
    blocks or ignores signals in this process, and makes its log non-blocking.
    """

    def __init__(self, work: Callable[[int], None], count: int, listener: socket.socket, stop_s: float) -> None:
        self._work = work
        self._worker_count = count
        self._listener = listener
        self._stop_s = stop_s
        self._workers: dict[int, tuple[int, float]] = {}
        """PID -> index of the worker and its start by time.monotonic()."""
        self._preparing: tuple[int, Callable[[], None]] | None = None
        """PID and function of a preparation that runs in the background."""
        self._supervisor_pipe = os.pipe()
        self.stop_signals = stop_signals()
        self._watched = {*self.stop_signals, signal.SIGCHLD}
        self.heartbeats = Heartbeats(count)
        self._checked_at = 0.0
        _ignore_unused_signals()
        signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        make_log_non_blocking()

    def prepare(self, prepare: Callable[[], None]) -> None:
        """Run `prepare` in a child process and wait for it up to PREPARE_S.

        If `prepare` fails within this time, raises SystemExit with its exit status (1 after a signal). If it takes
        longer, or exits with EX_TEMPFAIL, it continues in the background, where it is retried after every failure.
        """
        pid, end = self._fork(prepare), time.monotonic() + PREPARE_S
        while pid and time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._handle_preparation_exit(os.waitstatus_to_exitcode(status), prepare)
                return
            time.sleep(0.01)
        self._preparing = (pid, prepare) if pid else None

    def _handle_preparation_exit(self, code: int, prepare: Callable[[], None]) -> None:
        self._preparing = None
        if code == os.EX_TEMPFAIL:
            if pid := self._fork(lambda: _run_delayed(prepare)):
                self._preparing = (pid, prepare)
        elif code != 0:
            sys.exit(code if code > 0 else 1)

    def start(self) -> None:
        """Fork the worker processes."""
        for index in range(self._worker_count):
            self._start_worker(index)

    def _start_worker(self, index: int) -> None:
        self.heartbeats.start(index)
        if pid := self._fork(partial(self._work, index)):
            self._workers[pid] = (index, time.monotonic())

    def watch(self) -> int:
        """Replace workers that die or hang, until a stop signal, then stop; return the exit status.

        The status is 0 if all workers ended cleanly and all child processes in time, otherwise 1.
        """
        while (signum := self._next_signal()) in {None, signal.SIGCHLD}:
            for pid, status in _reap():
                self._handle_exit(pid, status)
            self._kill_hung()
        if signum == signal.SIGINT:
            end_interrupted_line()
        return self._stop()

    def _next_signal(self) -> int | None:
        """Wait for a signal and return it, or None after heartbeats.CHECK_EVERY_S (macOS: never)."""
        if sys.platform == "darwin":  # has no sigtimedwait()
            return signal.sigwait(self._watched)
        received = signal.sigtimedwait(self._watched, heartbeats.CHECK_EVERY_S)
        # CPython returns undefined values if a stop of this process (SIGSTOP) interrupts the wait beyond its end.
        return received.si_signo if received and received.si_signo in self._watched else None

    def _kill_hung(self) -> None:
        """Kill workers that hang, at most once per heartbeats.CHECK_EVERY_S.

        watch() then replaces them like other dead workers.
        """
        now = time.monotonic()
        if now - self._checked_at < heartbeats.CHECK_EVERY_S:
            return
        self._checked_at = now
        hung = self.heartbeats.find_hung()
        for pid, (index, _) in self._workers.items():
            if index in hung:
                log.error("worker hangs, killing it", extra={"worker": index, "pid": pid})
                os.kill(pid, signal.SIGKILL)

    def _handle_exit(self, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if self._preparing and pid == self._preparing[0]:
            if code not in {0, os.EX_TEMPFAIL}:
                log.error("migration failed, retrying", extra={"exit_status": code})
            self._handle_preparation_exit(os.EX_TEMPFAIL if code else 0, self._preparing[1])
        elif pid in self._workers:
            index, started = self._workers.pop(pid)
            log.error("worker died, replacing it", extra={"worker": index, "pid": pid, "exit_status": code})
            if time.monotonic() - started < _RESTART_DELAY_S:
                time.sleep(_RESTART_DELAY_S)  # a crash loop must not keep the machine busy
            self._start_worker(index)

    def _stop(self) -> int:
        """Terminate all child processes; kill them after the timeout; return the exit status."""
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
        return 0 if not left and set(statuses) <= _CLEAN_STATUSES else 1

    def _fork(self, task: Callable[[], None]) -> int | None:
        """Run a task in a child process; return the PID, or None after a stop signal.

        If the system is out of memory or processes, the fork is retried, so that the other workers continue.
        """
        while (pid := _try_fork()) is None:
            if signal.sigpending() & set(self.stop_signals):
                return None
            time.sleep(_RESTART_DELAY_S)
        if pid:
            return pid
        try:
            os.close(self._supervisor_pipe[1])
            for signum in self.stop_signals:
                signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._watched)
            threading.Thread(target=_stop_with_supervisor, args=(self._supervisor_pipe[0],), daemon=True).start()
            task()
        except SystemExit:
            raise
        except BaseException:
            log.exception("worker crashed")
            sys.exit(1)
        sys.exit(0)


def _ignore_unused_signals() -> None:
    """Ignore signals that have no meaning for the service but would end its processes."""
    for signum in (getattr(signal, name) for name in _UNUSED_SIGNALS if hasattr(signal, name)):
        if signal.getsignal(signum) is signal.SIG_DFL:
            signal.signal(signum, signal.SIG_IGN)


def _try_fork() -> int | None:
    """Fork and return the PID; if the system refuses, log the error and return None."""
    try:
        return os.fork()
    except OSError as error:
        log.error("process cannot be started, retrying", extra={"cause": error.strerror})  # noqa: TRY400 - the cause suffices
        return None


def _run_delayed(task: Callable[[], None]) -> None:
    time.sleep(_RESTART_DELAY_S)
    task()


def _reap() -> list[tuple[int, int]]:
    """Return PID and wait status of each dead child. One SIGCHLD may stand for several."""
    dead = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            dead.append(child)
    return dead


def _stop_with_supervisor(pipe: int) -> None:
    """Stop this process when the supervisor ends, even by SIGKILL, which closes the pipe."""
    os.read(pipe, 1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
