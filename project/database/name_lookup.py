"""Host name lookups with a timeout.

getaddrinfo() has no timeout: it takes 10 s and more if the DNS server does not answer (measured). Here it runs in a
separate thread, and the addresses of the last successful lookup remain usable.
"""

import socket
import threading
from concurrent.futures import Future


class NameLookup:
    """Resolves host names in threads. At most one lookup per name runs at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Future[None]] = {}
        self._last_addresses: dict[str, list[str]] = {}

    def resolve(self, name: str, timeout_s: float) -> list[str]:
        """Return the addresses of a host, or the last known ones if the lookup fails or times out.

        Raises OSError if no addresses are known.
        """
        try:
            self._start(name).result(max(0.0, timeout_s))
        except (OSError, UnicodeError, TimeoutError) as error:  # UnicodeError: a name that IDNA cannot encode
            if name not in self._last_addresses:
                raise OSError(f'could not resolve host name "{name}": {str(error) or "no answer from DNS"}') from error
        return self._last_addresses[name]

    def _start(self, name: str) -> Future[None]:
        with self._lock:
            lookup = self._running.get(name)
            if lookup is None:
                lookup = Future()
                thread = threading.Thread(target=self._run, args=(name, lookup), name="name-lookup", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the system starts no more threads; the next call tries again
                    raise OSError(str(error)) from error
                self._running[name] = lookup  # only now: the thread needs the lock to delete the entry
        return lookup

    def _run(self, name: str, lookup: Future[None]) -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except Exception as error:
            self._finish(name)
            lookup.set_exception(error)
        else:
            self._last_addresses[name] = list(dict.fromkeys(str(address[0]) for *_, address in found))
            self._finish(name)
            lookup.set_result(None)

    def _finish(self, name: str) -> None:
        with self._lock:
            del self._running[name]
