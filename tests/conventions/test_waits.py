"""Every wait of the service has a row in the table of CONTRIBUTING.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "project").rglob("*.py")), ROOT / "config.py", ROOT / "wsgi.py"]

WAITS = {"acquire", "wait", "join", "result", "get", "communicate", "poll", "select"}
"""Methods that wait without end unless they have an argument other than None."""
SLOW = {
    *("sleep", "sigwait", "sigwaitinfo", "waitpid", "wait3", "wait4", "system", "popen"),
    *("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getfqdn", "create_connection", "urlopen"),
    *("connect", "accept", "recv", "recv_into", "recvfrom", "sendall", "sendfile", "makefile"),
    *("flock", "lockf", "fsync", "fdatasync", "os.sync", "put"),
    *("subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output", "os.read"),
}
"""Functions that may wait, whatever their arguments. A dotted name is of that module only."""
BOUNDS = {"timeout", "LOCK_NB", "WNOHANG"}
"""Names of arguments that bound a wait."""
LOCK = re.compile(r"lock|mutex|condition|draining")
STATEMENTS = {"execute", "executemany", "scalar", "scalars"}
SQL = ("project/database/", "project/queries/")
"""The only modules that may execute statements, because they have a deadline."""
DISK = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "rmdir", "unlink", "rename", "touch"),
    *("iterdir", "glob", "rglob", "copytree", "rmtree", "mkdtemp", "mkstemp", "TemporaryFile", "TemporaryDirectory"),
    *("NamedTemporaryFile", "os.write", "os.pwrite", "os.pread", "os.replace", "os.link", "ftruncate", "os.stat"),
    *("statvfs", "disk_usage"),
}
DISKS = {
    "config.py": "start",
    "project/cli/attempts.py": "command",
    "project/cli/doctor.py": "doctor",
    "project/cli/import_files.py": "command",
    "project/cli/imports.py": "command",
    "project/embedded/cluster.py": "embedded",
    "project/embedded/connection_settings.py": "embedded",
    "project/embedded/data_directory.py": "embedded",
    "project/embedded/locks.py": "embedded",
    "project/embedded/__init__.py": "embedded",
    "project/embedded/watcher.py": "embedded",
    "project/exporters/packing.py": "memory",  # an archive in memory
    "project/server/output.py": "log",
    "project/spool.py": "disk",
}
"""Modules that use files, and the row of the table. No other may: a disk can freeze."""
ALLOWED = {
    "config.py _create_secret os.fsync": "start",
    "project/cli/doctor.py _check_disk os.fsync": "doctor",
    "project/cli/import_files.py open_credentials os.fsync": "command",
    "project/cli/imports.py _wait_for_database time.sleep": "import",
    "project/database/database.py Database._try_check self._engine.connect": "postgres",
    "project/database/database.py Database._try_check time.sleep": "postgres",
    "project/database/database.py Database._retry time.sleep": "postgres",
    "project/database/database.py Database.run_once self._engine.connect": "postgres",
    "project/database/database.py Database.write_transaction.try_once self._engine.connect": "postgres",
    "project/database/deadline.py _wait poller.poll": "migration",
    "project/database/group_commit.py Member.__init__ self._woken.acquire": "memory",
    "project/contract/import_runner.py with self._lock": "memory",
    "project/database/group_commit.py with self._lock": "memory",
    "project/database/hosts.py _open_connection psycopg2.connect": "connect",
    "project/database/hosts.py with self._lock": "memory",
    "project/database/name_lookup.py NameLookup._run socket.getaddrinfo": "dns",
    "project/database/name_lookup.py with self._lock": "memory",
    "project/database/semaphore.py with self._lock": "memory",
    "project/disk.py DiskThread._run queue.get": "idle",
    "project/database/pending_writers.py with self._lock": "memory",
    "project/database/pending_writers.py _Wait.__init__ self.over.acquire": "memory",
    "project/disk.py Operation.__init__ self._unfinished.acquire": "memory",
    "project/disk.py with self._start_lock": "closing",
    "project/embedded/__init__.py EmbeddedPostgres._watch time.sleep": "idle",
    "project/embedded/__init__.py EmbeddedPostgres.start thread.submit(ensure_running, self._root).result": "embedded",
    "project/embedded/__init__.py with self._lock": "embedded",
    "project/embedded/connection_settings.py _query cursor.execute": "embedded",
    "project/embedded/connection_settings.py await_server connect": "embedded",
    "project/embedded/connection_settings.py await_server time.sleep": "embedded",
    "project/embedded/connection_settings.py connect psycopg2.connect": "embedded",
    "project/embedded/data_directory.py write_atomically os.fsync": "embedded",
    "project/embedded/locks.py _wait_for time.sleep": "embedded",
    "project/embedded/watcher.py _adopt_or_start connect": "embedded",
    "project/embedded/watcher.py _stop time.sleep": "embedded",
    "project/embedded/watcher.py _watch time.sleep": "idle",
    "project/http/logs.py _BoundedQueueHandler.wait_until_written time.sleep": "closing",
    "project/http/tracing.py with self._lock": "memory",
    "project/metrics.py with metrics.lock": "memory",
    "project/metrics.py with self._update_lock": "memory",
    "project/queries/aggregates.py _wait_for_writers time.sleep": "writers",
    "project/server/__init__.py _listen socket.getaddrinfo": "start",
    "project/server/balancing.py ConnectionBalancer.wrap_accept.balanced_accept accept": "loop",
    "project/server/balancing.py ConnectionBalancer.wrap_accept.balanced_accept time.sleep": "loop",
    "project/server/connections.py Channel._has_ended_early self.socket.recv": "loop",
    "project/server/connections.py Channel._read client.recv": "keep-alive",
    "project/server/connections.py Channel.handle_read self.recv": "loop",
    "project/server/connections.py with self.outbuf_lock": "reader",
    "project/server/connections.py with self.requests_lock": "memory",
    "project/server/event_loop.py Server.accept super().accept": "loop",
    "project/server/supervisor.py Supervisor._fork time.sleep": "supervisor",
    "project/server/supervisor.py Supervisor._handle_exit time.sleep": "supervisor",
    "project/server/supervisor.py Supervisor._stop time.sleep": "stop",
    "project/server/supervisor.py Supervisor.prepare time.sleep": "start",
    "project/server/supervisor.py Supervisor._next_signal signal.sigwait": "idle",
    "project/server/supervisor.py _run_delayed time.sleep": "supervisor",
    "project/server/supervisor.py _stop_with_supervisor os.read": "idle",
    "project/server/worker.py _finish time.sleep": "stop",
    "project/server/worker.py with channel.outbuf_lock": "reader",
    "project/services/activity.py with self._lock": "memory",
    "project/services/rate_limiting.py with self._lock": "memory",
    "project/exporters/packing.py _write packed.result": "memory",
    "project/exporters/packing.py _write pending.result": "memory",
    "project/services/reports.py _escape_block.fetch executor.submit(_retry_overloaded, query).result": "download",
    "project/services/reports.py _open_snapshot time.sleep": "writers",
    "project/services/reports.py _retry_overloaded time.sleep": "download",
    "project/services/reports.py iter_blocks pending.popleft().result": "download",
    "project/services/upkeep.py with self._lock": "memory",
    "project/spool.py Folder._quarantine os.fdatasync": "disk",
    "project/spool.py Folder.probe os.fdatasync": "disk",
    "project/spool.py _Segment._sync os.fdatasync": "disk",
    "project/spool.py _replace_content os.fdatasync": "disk",
    "project/spool.py _sync_directory os.fsync": "disk",
    "project/spool.py with self._drain_lock": "disk",
    "project/spool.py with self._intents_lock": "disk",
    "project/spool.py with self._lock": "disk",
    "project/spool.py with self._sync_lock": "disk",
}
"""Places that wait without a bound of their own, or sleep: the row of the table that says why the wait ends.

A lock has one line per file: its bound depends on all its holders. Other waits name their function.
"""
OTHER_ROWS = {
    "silence",
    "heartbeat",
    "slow-reader",
    "request",
    "group",
    "group-members",
    "queue",
    "permit",
    "intent",
    "record",
    "redis",
    "program",
}
"""Rows of waits that have their own bound."""
ALWAYS_READY = {
    "connection.poll",
    "server.poll",
    "self._queue.put",
    "self._record_thread.put",
    "self._intent_thread.put",
}
"""psycopg2's and subprocess's poll() and SimpleQueue's put() do not wait."""


def test_every_wait_has_a_row_of_the_table_that_bounds_it() -> None:
    found = {wait for path in FILES for wait in _waits(path.read_text(), _name(path))}

    assert sorted(found - ALLOWED.keys()) == [], "waits without a bound"
    assert sorted(ALLOWED.keys() - found) == [], "waits that no longer exist"


def test_only_listed_modules_use_files() -> None:
    found = {_name(path) for path in FILES if any(_calls(path.read_text(), DISK))}

    assert sorted(found - DISKS.keys()) == [], "modules that may wait for a disk"
    assert sorted(DISKS.keys() - found) == [], "modules that use no files any more"


def test_every_row_of_the_table_is_used_and_every_used_row_exists() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)

    assert sorted(rows) == sorted({*ALLOWED.values(), *DISKS.values(), *OTHER_ROWS})


@pytest.mark.parametrize(
    "source",
    [
        "lock.acquire()",
        "lock.acquire(timeout=None)",
        "with self._lock: pass",
        "event.wait()",
        "condition.wait(None)",
        "queue.get()",
        "future.result()",
        "thread.join()",
        "process.wait()",
        "process.communicate()",
        "subprocess.run(['true'])",
        "os.fsync(1)",
        "from os import fdatasync\nfdatasync(1)",
        "socket.getaddrinfo('a', 1)",
        "sock.connect(('a', 1))",
        "sock.recv(1)",
        "sock.sendall(b'')",
        "poller.poll()",
        "poller.poll(None if left is None else left)",
        "fcntl.flock(1, fcntl.LOCK_EX)",
        "time.sleep(1)",
        "import time as t\nt.sleep(1)",
        "psycopg2.connect('')",
        "cursor.execute('select 1')",
        "os.waitpid(-1, 0)",
    ],
)
def test_waits_without_a_bound_are_found(source: str) -> None:
    assert list(_waits(source, "project/services/example.py"))


@pytest.mark.parametrize(
    "source",
    [
        "lock.acquire(timeout=1)",
        "event.wait(1)",
        "', '.join(names)",
        "settings.get('name')",
        "poller.poll(0)",
        "select.poll()",
        "fcntl.flock(1, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "subprocess.run(['true'], timeout=1)",
        "os.waitpid(-1, os.WNOHANG)",
    ],
)
def test_bounded_waits_are_not_found(source: str) -> None:
    assert list(_waits(source, "project/services/example.py")) == []


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _waits(source: str, path: str) -> Iterator[str]:
    """Yield the file, the function and the call of each wait; for a lock without the function."""
    for function, node in _nodes(ast.parse(source), ""):
        if isinstance(node, ast.With):
            held = [one.context_expr for one in node.items if not isinstance(one.context_expr, ast.Call)]
            names = map(ast.unparse, held)
            yield from (f"{path} with {name}" for name in names if LOCK.search(name.rpartition(".")[2]))
        elif isinstance(node, ast.Call) and _may_wait(node, path):
            yield f"{path} {function} {ast.unparse(node.func)}"


def _may_wait(call: ast.Call, path: str) -> bool:
    function = ast.unparse(call.func)
    name = function.rpartition(".")[2]
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    if function in ALWAYS_READY or function == "select.poll":
        return False
    if name in WAITS:
        return not arguments or any(map(_may_be_none, arguments))
    if name in STATEMENTS:
        return not path.startswith(SQL)
    words = {keyword.arg for keyword in call.keywords} | set(re.findall(r"\w+", " ".join(map(ast.unparse, arguments))))
    return _is_one_of(function, SLOW) and not words & BOUNDS


def _may_be_none(argument: ast.expr) -> bool:
    choices = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
    return any(isinstance(choice, ast.Constant) and choice.value is None for choice in choices)


def _calls(source: str, names: set[str]) -> Iterator[ast.Call]:
    for _, node in _nodes(ast.parse(source), ""):
        if isinstance(node, ast.Call) and _is_one_of(ast.unparse(node.func), names):
            yield node


def _is_one_of(function: str, names: set[str]) -> bool:
    """Return whether a function, as it is written, is one of `names`, dotted or not."""
    return function in names or function.rpartition(".")[2] in names


def _nodes(parent: ast.AST, function: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield all nodes with the name of the function that they are in."""
    for node in ast.iter_child_nodes(parent):
        yield function, node
        inner = function
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = f"{function}.{node.name}".lstrip(".")
        yield from _nodes(node, inner)
