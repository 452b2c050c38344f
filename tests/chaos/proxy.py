"""A network that breaks on demand, between the service and PostgreSQL.

One thread owns all sockets; the tests hand it orders and wait until they are carried out. `state` is what happens to
all traffic (pass, hold, swallow) and to the listener; a `Trap` waits for one statement and breaks its connection.
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

ALONE = (b"useradd_", b"insert_attempts_")
COMMITTING = (b"COMMIT", *(verb + name for verb in (b"execute ", b"prepare ") for name in ALONE))
"""COMMIT itself, and statements that are transactions by themselves, prepared in the same message at first."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: close() sends RST."""


class State(Enum):
    """What happens to every connection."""

    PASS = auto()
    HOLD = auto()  # nothing is lost: everything arrives when the state ends
    SWALLOW = auto()  # what was sent meanwhile is lost, and with it the connection


class Break(Enum):
    """What a trap does to the connection on which its statement comes."""

    BEFORE = auto()  # cut, the statement is not delivered
    DELIVER = auto()  # deliver the statement and cut at once
    EAT = auto()  # deliver it, cut when the reply comes
    FREEZE = auto()  # deliver it, let no reply through ever, stay connected
    KEEP = auto()  # keep it back, and what follows, until pass_through(): it arrives late, whether or not anybody waits


@dataclass
class Trap:
    """Waits for a statement that contains a text, or for one that commits a transaction with such a statement."""

    action: Break
    lasting: bool
    containing: bytes
    is_for_commit: bool
    fired: threading.Event = field(default_factory=threading.Event)
    count: int = 0

    def catches(self, sql: bytes, before: bytes) -> bool:
        """Tell whether this is the statement, `before` being what its transaction has said already.

        The words of one that commits may stand in somebody's name, too.
        """
        if self.is_for_commit and not sql.startswith(COMMITTING):
            return False
        return self.containing in (before + sql if self.is_for_commit else sql)

    def wait(self, seconds: float = 10) -> None:
        """Wait until it has caught something."""
        assert self.fired.wait(seconds), f"no statement ran into the trap within {seconds} s"


class Proxy:
    """Passes TCP connections to `target` on 127.0.0.1, from a port of its own that never changes, or a `listener`."""

    def __init__(self, target: int, listener: socket.socket | None = None) -> None:
        self.port = listener.getsockname()[1] if listener else free_port()
        self.target = target
        self.state = State.PASS
        self.trap: Trap | None = None
        self.links: set[_Link] = set()
        self.selector = selectors.DefaultSelector()
        self._orders: list[Callable[[], None]] = []
        self._bell, self._ringer = socket.socketpair()
        self.selector.register(self._bell, selectors.EVENT_READ, self._obey)
        self._listener: socket.socket | None = None
        self._running = True
        self._listen(listener)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    # --- What tests order ---------------------------------------------------------------------------------------

    def pass_through(self) -> None:
        """Heal: listen, forget the trap, let through what was held. Connections that lost something are reset."""
        self._order(self._heal)

    def reset(self) -> int:
        """RST all connections now; new ones pass. Return how many there were."""
        return self._order(self._cut_all)

    def refuse(self) -> None:
        """Close the listener and reset all connections: nobody lives at this address."""
        self._order(self._close_listener)

    def blackhole(self) -> None:
        """Accept connections, swallow everything, answer nothing."""
        self._order(lambda: self._set(State.SWALLOW))

    def hold(self) -> None:
        """Stop the traffic like a lost cable: connections stay, what is sent arrives after pass_through()."""
        self._order(lambda: self._set(State.HOLD))

    def reset_statement(self, containing: str = "", *, deliver: bool = False, lasting: bool = False) -> Trap:
        """RST the connection on which the next statement (with this text in it) comes, delivered or not."""
        return self._arm(Break.DELIVER if deliver else Break.BEFORE, containing, lasting=lasting)

    def freeze_statement(self, containing: str = "", *, lasting: bool = False) -> Trap:
        """Deliver the next statement (with this text in it), never its reply."""
        return self._arm(Break.FREEZE, containing, lasting=lasting)

    def keep_statement(self, containing: str) -> Trap:
        """Deliver the next statement with this text in it only after pass_through(), even if nobody waits any more."""
        return self._arm(Break.KEEP, containing)

    def commit_drop(self, of: str = "", *, lasting: bool = False) -> Trap:
        """RST the connection on which COMMIT of a transaction with this text in it comes; PostgreSQL never sees it."""
        return self._arm(Break.BEFORE, of, is_for_commit=True, lasting=lasting)

    def commit_eat(self, of: str = "", *, lasting: bool = False) -> Trap:
        """Deliver COMMIT, swallow the reply and RST: committed, and the service cannot know."""
        return self._arm(Break.EAT, of, is_for_commit=True, lasting=lasting)

    def commit_freeze(self, of: str = "", *, lasting: bool = False) -> Trap:
        """Deliver COMMIT and nothing in return; the connection stays open."""
        return self._arm(Break.FREEZE, of, is_for_commit=True, lasting=lasting)

    def commit_keep(self, of: str = "") -> Trap:
        """Deliver the next COMMIT only after pass_through(), even if the service has long gone away."""
        return self._arm(Break.KEEP, of, is_for_commit=True)

    def retarget(self, port: int) -> None:
        """Send new connections to another port; the present ones stay where they are."""
        self._order(lambda: setattr(self, "target", port))

    def connections(self) -> int:
        """Return how many clients are connected."""
        return self._order(lambda: len(self.links))

    def close(self) -> None:
        """End everything."""
        self._order(self._finish)
        self._thread.join(timeout=5)
        self._bell.close()
        self._ringer.close()
        self.selector.close()

    # --- What the thread does -----------------------------------------------------------------------------------

    def _order(self, what: Callable[[], T]) -> T:
        """Let the thread do something between two events and return what came of it."""
        done, results = threading.Event(), []

        def carry_out() -> None:
            try:
                results.append(what())
            finally:
                done.set()

        self._orders.append(carry_out)
        self._ringer.send(b"!")
        assert done.wait(5), "the proxy's thread is gone"
        return results[0]

    def _obey(self, events: int) -> None:
        for _ in self._bell.recv(100):
            self._orders.pop(0)()

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
        """Return the trap that this statement runs into; a single one is used up by that."""
        trap = self.trap
        if trap is None or not trap.catches(sql, before):
            return None
        if not trap.lasting:
            self.trap = None
        return trap

    def _arm(self, action: Break, containing: str, *, is_for_commit: bool = False, lasting: bool = False) -> Trap:
        trap = Trap(action, lasting, containing.encode(), is_for_commit)
        self._order(lambda: setattr(self, "trap", trap))
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
        doomed = list(self.links)
        for link in doomed:
            link.cut()
        return len(doomed)

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
    """One connection through the proxy. `is_damaged`: bytes were lost, it can never be of use again."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._messages = Messages()
        self._to_server, self._to_client = bytearray(), bytearray()
        self._eats = self._mute = self.is_damaged = False
        self._kept: bytearray | None = None
        self._transaction = b""
        """What has been said since the last COMMIT."""
        self._masks: dict[socket.socket, int] = {}
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client: socket.socket | None = client
        self._server: socket.socket | None = None
        if proxy.state is State.SWALLOW:
            self.is_damaged = True
        else:
            self._call(proxy.target)
        self.watch()

    def _call(self, target: int) -> None:
        self._server = socket.socket()
        self._server.setblocking(False)
        self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connect_ex((HOST, target))  # a refusal shows when it is read

    def watch(self) -> None:
        """Wait for what may happen next on either side: nothing, while traffic is held."""
        flows = self._proxy.state is not State.HOLD
        read, write = flows * selectors.EVENT_READ, flows * selectors.EVENT_WRITE
        if self._client:
            self._register(self._client, read | (write if self._to_client else 0), self._from_client)
        if self._server:
            self._register(self._server, read | (write if self._to_server else 0), self._from_server)

    def _register(self, side: socket.socket, mask: int, callback: Callable[[int], None]) -> None:
        former = self._masks.get(side, 0)
        self._masks[side] = mask
        if former == mask:
            return
        if former and mask:
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
                self._left(self._client, was_reset=data is None, unheard=self._swallows() or self._kept is not None)
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
                self._left(self._server, was_reset=data is None, unheard=self._mute or self._swallows())
            elif self._eats:
                self.cut()
            elif self._mute or self._swallows():
                self.is_damaged = True
            elif self._client:
                self._to_client += data
                _flush(self._client, self._to_client)
        self.watch()

    def _swallows(self) -> bool:
        return self._proxy.state is State.SWALLOW or self.is_damaged

    def _forward(self, messages: list[bytes]) -> None:
        """Send messages on, until one runs into a trap that cuts."""
        for message in messages:
            trap = None if self._kept is not None else self._trap_for(statement(message))
            if trap and trap.action is Break.KEEP:
                self._kept = bytearray()
            if self._kept is not None:
                self._kept += message
            elif self._server and not (trap and trap.action is Break.BEFORE):
                self._to_server += message
                _flush(self._server, self._to_server)
            if trap:
                self._spring(trap)
                if not self._client:
                    return

    def _trap_for(self, sql: bytes | None) -> Trap | None:
        if sql is None:
            return None
        trap = self._proxy.trap_for(sql, self._transaction)
        self._transaction = b"" if sql.startswith((*COMMITTING, b"ROLLBACK")) else self._transaction + sql
        return trap

    def _spring(self, trap: Trap) -> None:
        trap.count += 1  # first: whoever notices the break finds it counted
        self._eats = trap.action is Break.EAT
        self._mute = trap.action is Break.FREEZE
        if trap.action in {Break.BEFORE, Break.DELIVER}:
            self.cut()
        trap.fired.set()

    def _left(self, side: socket.socket, *, was_reset: bool, unheard: bool) -> None:
        """One side has closed; the other one learns it, unless the network swallows that, too."""
        if unheard:
            self.is_damaged = True
            self._close(side)
        elif was_reset:
            self.cut()
        else:
            self.close()

    def heal(self) -> None:
        """Deliver what was kept back; else give up a connection that has lost something."""
        if self._kept is not None and self._server:
            self._to_server += self._kept
            self._kept, self.is_damaged = None, False  # who has left needs no reply; the server learns it in the end
            _flush(self._server, self._to_server)
        elif self.is_damaged or self._mute:
            self.cut()

    def cut(self) -> None:
        """RST both sides. What was delivered before stays delivered."""
        for side in filter(None, (self._client, self._server)):
            with suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close both sides."""
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
    """Return what came; nothing when the other end closed, None when it was reset or never there."""
    try:
        return side.recv(65536)
    except OSError:
        return None


def _flush(side: socket.socket, waiting: bytearray) -> None:
    """Send what the kernel takes; what is wrong with a connection shows when it is read."""
    with suppress(OSError):
        sent = side.send(waiting)
        del waiting[:sent]
