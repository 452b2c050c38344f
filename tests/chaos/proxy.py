"""TCP proxy between the service and PostgreSQL that injects network faults.

One thread owns all sockets; tests submit commands to it and wait for their results. `state` applies to all traffic
(pass, hold, swallow); a `Trap` waits for one statement and breaks its connection.
"""

import selectors
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar

from tests.chaos.processes import HOST, free_port
from tests.chaos.wire import Messages, statement

T = TypeVar("T")

AUTOCOMMIT_STATEMENTS = (b"useradd_", b"insert_attempts_")
COMMITTING = (b"COMMIT", *(verb + name for verb in (b"execute ", b"prepare ") for name in AUTOCOMMIT_STATEMENTS))
"""Statements that commit: COMMIT, and the prepared statements in autocommit mode."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with timeout 0: close() sends RST."""


class State(Enum):
    """The behaviour of the proxy for every connection."""

    PASS = auto()
    HOLD = auto()  # nothing is lost: data is delivered when the state ends
    SWALLOW = auto()  # data sent in this state is lost, and its connection with it


class TrapAction(Enum):
    """The effect of a trap on the connection that carries its statement."""

    DROP = auto()  # reset without delivering the statement
    DELIVER = auto()  # deliver the statement and reset at once
    DROP_REPLY = auto()  # deliver the statement, reset when its reply arrives
    FREEZE = auto()  # deliver the statement, never deliver a reply, stay connected
    DELAY = auto()  # deliver it and what follows after pass_through(), whether or not the client still waits


@dataclass
class Trap:
    """A trap for a statement that contains a text, or for the commit of its transaction."""

    action: TrapAction
    is_lasting: bool
    """Whether the trap stays set after it has fired."""
    containing: bytes
    is_for_commit: bool
    fired: threading.Event = field(default_factory=threading.Event)
    count: int = 0
    caught: list[bytes] = field(default_factory=list)
    """The statements that have fired the trap."""

    def matches(self, sql: bytes, before: bytes) -> bool:
        """Return whether the statement `sql` fires the trap.

        `before` is the SQL sent before in the same transaction. A commit is recognized by its beginning, because user
        data may contain the same words.
        """
        if self.is_for_commit and not sql.startswith(COMMITTING):
            return False
        return self.containing in (before + sql if self.is_for_commit else sql)

    def wait(self, seconds: float = 10) -> None:
        """Wait until the trap has fired."""
        assert self.fired.wait(seconds), f"no statement ran into the trap within {seconds} s"


class Proxy:
    """A proxy to port `target` on 127.0.0.1.

    It listens on a port that never changes, or on `listener`.
    """

    def __init__(self, target: int, listener: socket.socket | None = None) -> None:
        self.port = listener.getsockname()[1] if listener else free_port()
        self.target = target
        self.state = State.PASS
        self.trap: Trap | None = None
        self.links: set[_Link] = set()
        self.selector = selectors.DefaultSelector()
        self._commands: list[Callable[[], None]] = []
        self._wakeup_receiver, self._wakeup_sender = socket.socketpair()
        self.selector.register(self._wakeup_receiver, selectors.EVENT_READ, self._run_commands)
        self._listener: socket.socket | None = None
        self._running = True
        self._listen(listener)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    # --- Commands of the tests ----------------------------------------------------------------------------------

    def pass_through(self) -> None:
        """End all faults: listen, remove the trap, deliver held data.

        Connections that lost data are reset.
        """
        self._submit(self._heal)

    def reset(self) -> int:
        """Reset all connections (RST), let new ones pass, and return how many were reset."""
        return self._submit(self._cut_all)

    def refuse(self) -> None:
        """Close the listener and reset all connections: new ones are refused."""
        self._submit(self._close_listener)

    def blackhole(self) -> None:
        """Accept connections, discard all data and send nothing."""
        self._submit(lambda: self._set(State.SWALLOW))

    def hold(self) -> None:
        """Stop the traffic: connections stay open, and data is delivered after pass_through()."""
        self._submit(lambda: self._set(State.HOLD))

    def reset_statement(self, containing: str = "", *, deliver: bool = False, is_lasting: bool = False) -> Trap:
        """Reset the connection that carries the next statement with this text.

        With `deliver`, PostgreSQL receives the statement before.
        """
        return self._arm(TrapAction.DELIVER if deliver else TrapAction.DROP, containing, is_lasting=is_lasting)

    def freeze_statement(self, containing: str = "", *, is_lasting: bool = False) -> Trap:
        """Deliver the next statement with this text, but never its reply."""
        return self._arm(TrapAction.FREEZE, containing, is_lasting=is_lasting)

    def delay_statement(self, containing: str) -> Trap:
        """Deliver the next statement with this text only after pass_through().

        The statement is delivered even if its client has left.
        """
        return self._arm(TrapAction.DELAY, containing)

    def drop_commit(self, containing: str = "", *, is_lasting: bool = False) -> Trap:
        """Reset the connection at the COMMIT of a transaction with this text.

        PostgreSQL never receives the COMMIT.
        """
        return self._arm(TrapAction.DROP, containing, is_for_commit=True, is_lasting=is_lasting)

    def drop_commit_reply(self, containing: str = "", *, is_lasting: bool = False) -> Trap:
        """Deliver COMMIT, drop its reply and reset: committed, but the service cannot know."""
        return self._arm(TrapAction.DROP_REPLY, containing, is_for_commit=True, is_lasting=is_lasting)

    def freeze_commit(self, containing: str = "", *, is_lasting: bool = False) -> Trap:
        """Deliver COMMIT, but never its reply; the connection stays open."""
        return self._arm(TrapAction.FREEZE, containing, is_for_commit=True, is_lasting=is_lasting)

    def delay_commit(self, containing: str = "") -> Trap:
        """Deliver the next COMMIT only after pass_through().

        COMMIT is delivered even if the service has closed its connection.
        """
        return self._arm(TrapAction.DELAY, containing, is_for_commit=True)

    def retarget(self, port: int) -> None:
        """Send new connections to another port; existing ones are unaffected."""
        self._submit(lambda: setattr(self, "target", port))

    def connections(self) -> int:
        """Return the number of connected clients."""
        return self._submit(lambda: len(self.links))

    def close(self) -> None:
        """Close all sockets and stop the thread."""
        self._submit(self._finish)
        self._thread.join(timeout=5)
        self._wakeup_receiver.close()
        self._wakeup_sender.close()
        self.selector.close()

    # --- The proxy's thread -------------------------------------------------------------------------------------

    def _submit(self, command: Callable[[], T]) -> T:
        """Run a command in the proxy's thread between two events and return its result."""
        done, results = threading.Event(), []

        def run() -> None:
            try:
                results.append(command())
            finally:
                done.set()

        self._commands.append(run)
        self._wakeup_sender.send(b"!")
        assert done.wait(5), "the proxy's thread has ended"
        return results[0]

    def _run_commands(self, events: int) -> None:
        for _ in self._wakeup_receiver.recv(100):
            self._commands.pop(0)()

    def _run(self) -> None:
        while self._running:
            for key, events in self.selector.select():
                if key.fd in self.selector.get_map() and self.selector.get_key(key.fd).data is key.data:
                    key.data(events)

    def _listen(self, listener: socket.socket | None = None) -> None:
        if self._listener is None:
            self._listener = listener or socket.create_server((HOST, self.port), backlog=200)
            self._listener.setblocking(False)
            self.selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _accept(self, events: int) -> None:
        assert self._listener is not None
        with suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = self._listener.accept()
            self.links.add(_Link(self, client))

    def trap_for(self, sql: bytes, before: bytes) -> Trap | None:
        """Return the trap that this statement fires; unset the trap if it is not lasting."""
        trap = self.trap
        if trap is None or not trap.matches(sql, before):
            return None
        trap.caught.append(sql)
        if not trap.is_lasting:
            self.trap = None
        return trap

    def _arm(
        self, action: TrapAction, containing: str, *, is_for_commit: bool = False, is_lasting: bool = False
    ) -> Trap:
        trap = Trap(action, is_lasting, containing.encode(), is_for_commit)
        self._submit(lambda: setattr(self, "trap", trap))
        return trap

    def _set(self, state: State) -> None:
        self.state = state
        for link in list(self.links):
            link.watch()

    def _heal(self) -> None:
        self.trap = None
        self._listen()
        for link in list(self.links):
            link.heal()
        self._set(State.PASS)

    def _cut_all(self) -> int:
        links = list(self.links)
        for link in links:
            link.cut()
        return len(links)

    def _close_listener(self) -> None:
        if self._listener:
            self.selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        self._cut_all()

    def _finish(self) -> None:
        self._close_listener()
        self._running = False


class _Link:
    """A connection through the proxy. `is_damaged` is set after data was lost on it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._messages = Messages()
        self._to_server, self._to_client = bytearray(), bytearray()
        self._drops_reply = self._is_mute = self.is_damaged = False
        self._delayed: bytearray | None = None
        self._transaction = b""
        """SQL sent since the last COMMIT."""
        self._masks: dict[socket.socket, int] = {}
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client: socket.socket | None = client
        self._server: socket.socket | None = None
        if proxy.state is State.SWALLOW:
            self.is_damaged = True
        else:
            self._connect(proxy.target)
        self.watch()

    def _connect(self, target: int) -> None:
        self._server = socket.socket()
        self._server.setblocking(False)
        self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connect_ex((HOST, target))  # an error shows when the socket is read

    def watch(self) -> None:
        """Register the events to wait for on either side: none while traffic is held."""
        flows = self._proxy.state is not State.HOLD
        read, write = flows * selectors.EVENT_READ, flows * selectors.EVENT_WRITE
        if self._client:
            self._register(self._client, read | (write if self._to_client else 0), self._from_client)
        if self._server:
            self._register(self._server, read | (write if self._to_server else 0), self._from_server)

    def _register(self, side: socket.socket, mask: int, callback: Callable[[int], None]) -> None:
        previous = self._masks.get(side, 0)
        self._masks[side] = mask
        if previous == mask:
            return
        if previous and mask:
            self._proxy.selector.modify(side, mask, callback)
        elif mask:
            self._proxy.selector.register(side, mask, callback)
        else:
            self._proxy.selector.unregister(side)

    def _from_client(self, events: int) -> None:
        assert self._client
        if events & selectors.EVENT_WRITE:
            _flush(self._client, self._to_client)
        if events & selectors.EVENT_READ:
            data = _receive(self._client)
            if not data:
                is_hidden = self._swallows() or self._delayed is not None
                self._side_closed(self._client, was_reset=data is None, is_hidden=is_hidden)
            elif self._swallows():
                self.is_damaged = True
            else:
                self._forward(self._messages.feed(data))
        self.watch()

    def _from_server(self, events: int) -> None:
        assert self._server
        if events & selectors.EVENT_WRITE:
            _flush(self._server, self._to_server)
        if events & selectors.EVENT_READ:
            data = _receive(self._server)
            if not data:
                is_hidden = self._is_mute or self._swallows()
                self._side_closed(self._server, was_reset=data is None, is_hidden=is_hidden)
            elif self._drops_reply:
                self.cut()
            elif self._is_mute or self._swallows():
                self.is_damaged = True
            elif self._client:
                self._to_client += data
                _flush(self._client, self._to_client)
        self.watch()

    def _swallows(self) -> bool:
        return self._proxy.state is State.SWALLOW or self.is_damaged

    def _forward(self, messages: list[bytes]) -> None:
        """Forward messages to the server until one fires a trap that cuts the connection."""
        for message in messages:
            trap = None if self._delayed is not None else self._trap_for(statement(message))
            if trap and trap.action is TrapAction.DELAY:
                self._delayed = bytearray()
            if self._delayed is not None:
                self._delayed += message
            elif self._server and not (trap and trap.action is TrapAction.DROP):
                self._to_server += message
                _flush(self._server, self._to_server)
            if trap:
                self._fire(trap)
                if not self._client:
                    return

    def _trap_for(self, sql: bytes | None) -> Trap | None:
        if sql is None:
            return None
        trap = self._proxy.trap_for(sql, self._transaction)
        self._transaction = b"" if sql.startswith((*COMMITTING, b"ROLLBACK")) else self._transaction + sql
        return trap

    def _fire(self, trap: Trap) -> None:
        trap.count += 1  # first, so that it is counted before a test can notice the fault
        self._drops_reply = trap.action is TrapAction.DROP_REPLY
        self._is_mute = trap.action is TrapAction.FREEZE
        if trap.action in {TrapAction.DROP, TrapAction.DELIVER}:
            self.cut()
        trap.fired.set()

    def _side_closed(self, side: socket.socket, *, was_reset: bool, is_hidden: bool) -> None:
        """Close the other side, too, unless the simulated fault hides that this side has closed."""
        if is_hidden:
            self.is_damaged = True
            self._close(side)
        elif was_reset:
            self.cut()
        else:
            self.close()

    def heal(self) -> None:
        """Deliver delayed data, or reset the connection if it has lost data."""
        if self._delayed is not None and self._server:
            self._to_server += self._delayed
            self._delayed, self.is_damaged = None, False  # the server learns from its reply that the client has left
            _flush(self._server, self._to_server)
        elif self.is_damaged or self._is_mute:
            self.cut()

    def cut(self) -> None:
        """Reset both sides (RST); data that was delivered stays delivered."""
        for side in filter(None, (self._client, self._server)):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close the connections to client and server."""
        for side in filter(None, (self._client, self._server)):
            self._close(side)

    def _close(self, side: socket.socket) -> None:
        self._register(side, 0, self._from_client)
        side.close()
        if side is self._client:
            self._client = None
        else:
            self._server = None
        if not self._client and not self._server:
            self._proxy.links.discard(self)


def _receive(side: socket.socket) -> bytes | None:
    """Return received data, b"" after a close, None if the connection was reset or refused."""
    try:
        return side.recv(65536)
    except OSError:
        return None


def _flush(side: socket.socket, pending: bytearray) -> None:
    """Send as much as the kernel accepts; an error shows when the socket is read."""
    with suppress(OSError):
        sent = side.send(pending)
        del pending[:sent]
