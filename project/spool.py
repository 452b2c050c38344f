"""Stores records in `DATA_DIR/spool` while PostgreSQL is unavailable.

A folder belongs to the process that holds the lock on its file `lock`. The kernel releases the lock even after kill -9;
then another process can claim the folder. It contains:

    lock                   locked by the owner of the folder
    1764000000000.log ...  segments: records, one per line with a checksum, named by the millisecond of the first one; a
                           record is stored once fdatasync has returned
    intents                one slot per request in progress: recorded as interrupted after a kill -9
    quarantine.log         lines that could not be read or delivered, for an operator to inspect

Records are text without line breaks; this module does not interpret them.
"""

import errno
import fcntl
import os
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

Deliver = Callable[[list[str]], list[str]]
"""Delivers records and returns those that can never be delivered. Raises if delivery is impossible now."""

QUOTA = 64 * 1024 * 1024
"""Maximum size of a folder's records in bytes: about 150,000 attempts."""
SEGMENT_BYTES = 4 * 1024 * 1024
BATCH = 200
SLOT_BYTES, SLOT_COUNT = 4096, 256
"""Size and number of intent slots. A slot is one memory page, so that its write is atomic."""
_SEGMENT_NAME = re.compile(r"\d{13}\.log")
"""Other files in the folder, such as copies, are ignored."""


class SpoolError(Exception):
    """A record could not be stored; the message says why."""


class Spool:
    """The spool of this process: a folder in `root`, claimed on first use and after a fork."""

    trace: Callable[[str], AbstractContextManager[object]] | None = None
    """Set by tracing to wrap every append in a span."""

    def __init__(self, root: Path, quota: int = QUOTA) -> None:
        self.root = root
        self._quota = quota
        self._lock = threading.Lock()
        self._own: Folder | None = None
        self._pid = 0
        self.lost = 0
        """Records that could not be stored since this process started."""

    def open(self) -> "Folder":
        """Return the folder of this process. Raises SpoolError if none can be claimed."""
        if self._own is None or self._pid != os.getpid():
            with self._lock:
                if self._own is None or self._pid != os.getpid():
                    self._own, self._pid = self._claim(), os.getpid()
        return self._own

    def append(self, record: str) -> None:
        """Store a record durably. Raises SpoolError."""
        try:
            with self.trace("spool append") if self.trace else nullcontext():
                self.open().append(record)
        except SpoolError:
            self.lost += 1
            raise

    def write_intent(self, record: str) -> int | None:
        """Store what to record if this process dies; return the slot, None if none is usable."""
        try:
            return self.open().write_intent(record)
        except SpoolError:
            return None

    def clear_intent(self, slot: int | None) -> None:
        """Clear the slot that write_intent() returned."""
        if slot is not None and self._own is not None:
            self._own.clear_intent(slot)

    @property
    def fullness(self) -> float:
        """Used share of this process's quota, 0 to 1. Raises SpoolError if the spool is unusable."""
        return self.open().size / self._quota

    def has_records(self) -> bool:
        """Return whether this process has records to deliver."""
        return self._own is not None and self._own.size > 0

    def drain(self, deliver: Deliver) -> int:
        """Deliver records of this process; return how many. Exceptions of `deliver` propagate."""
        return self.open().drain(deliver)

    def drain_orphans(self, deliver: Deliver) -> int:
        """Deliver records of dead processes; return how many. Exceptions of `deliver` propagate."""
        drained = 0
        for path in _folders(self.root):
            folder = None
            with suppress(OSError):  # unusable folder: its records wait
                folder = Folder.claim(path, self._quota)
            if folder is not None:
                try:
                    drained += folder.drain(deliver)
                finally:
                    folder.close()
        return drained

    def close(self) -> None:
        """Release the folder; its records wait for the next owner."""
        with self._lock:
            if self._own is not None:
                self._own.close()
                self._own = None

    def _claim(self) -> "Folder":
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1000):
                folder = Folder.claim(self.root / f"{number:03}", self._quota)
                if folder is not None:
                    return folder
        except OSError as error:
            raise SpoolError(f"{self.root} cannot be used: {error.strerror}") from error
        raise SpoolError(f"{self.root} has no free folder")


class Folder:
    """A folder owned by this process. Thread-safe: appends are concurrent, drains are not."""

    def __init__(self, path: Path, lock: int, quota: int) -> None:
        self._path = path
        self._lock_fd = lock
        self._quota = quota
        self._lock = threading.Lock()
        self._draining = threading.Lock()
        self._active: _Segment | None = None
        self._newest = max((int(segment.stem) for segment in _segments(path)), default=0)
        self.size = sum(segment.stat().st_size for segment in _segments(path))
        """Size of the stored records in bytes."""
        self._intents = os.open(path / "intents", os.O_RDWR | os.O_CREAT, 0o600)
        self._free_slots = deque(range(SLOT_COUNT))
        self._recover()

    @classmethod
    def claim(cls, path: Path, quota: int = QUOTA) -> "Folder | None":
        """Create and claim the folder `path`; return None if it has an owner. Raises OSError."""
        path.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(path, lock, quota)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, BlockingIOError):
                return None
            raise

    def append(self, record: str) -> None:
        """Store a record durably. Raises SpoolError."""
        line = _framed(record)
        try:
            with self._lock:
                segment = self._segment_for(len(line))
                segment.write(line)
                self.size += len(line)
                size = segment.size
            segment.sync(size)
        except OSError as error:
            raise SpoolError(f"the spool's disk failed: {error.strerror}") from error

    def write_intent(self, record: str) -> int | None:
        """Store a record and return its slot; None if it is too long or no slot is free."""
        line = _framed(record)
        if len(line) > SLOT_BYTES or not self._free_slots:
            return None
        slot = self._free_slots.popleft()
        try:
            os.pwrite(self._intents, line, slot * SLOT_BYTES)
        except OSError:
            self._free_slots.append(slot)
            return None
        return slot

    def clear_intent(self, slot: int) -> None:
        """Clear a slot."""
        with suppress(OSError):  # the folder may be closed
            os.pwrite(self._intents, b"\0", slot * SLOT_BYTES)
        self._free_slots.append(slot)

    def drain(self, deliver: Deliver) -> int:
        """Deliver records, oldest first; delete delivered segments. Exceptions propagate."""
        with self._draining:
            with self._lock:
                self._seal()
                segments = _segments(self._path)
            return sum(self._drain(path, deliver) for path in segments)

    def _drain(self, path: Path, deliver: Deliver) -> int:
        content = path.read_bytes()
        good, bad = _parse(content)
        for start in range(0, len(good), BATCH):
            bad += [_framed(record) for record in deliver(good[start : start + BATCH])]
        self._quarantine(bad)
        path.unlink()
        _sync_directory(self._path)
        with self._lock:
            self.size -= len(content)
        return len(good)

    def close(self) -> None:
        """Close the active segment and release the folder."""
        with self._lock:
            self._seal()
            os.close(self._intents)
            self._intents = -1  # the descriptor may be reused before a late clear_intent()
            os.close(self._lock_fd)

    def _seal(self) -> None:
        if self._active is not None:
            self._active.close()
            self._active = None

    def _segment_for(self, length: int) -> "_Segment":
        """Return a segment for a line of `length` bytes. Raises SpoolError at the quota."""
        if self.size + length > self._quota:
            raise SpoolError("the spool has reached its quota")
        if self._active is not None and (self._active.size > SEGMENT_BYTES or self._active.is_broken):
            self._seal()
        if self._active is None:
            self._newest = max(self._newest + 1, time.time_ns() // 1_000_000)
            self._active = _Segment(self._path / f"{self._newest:013}.log")
            _sync_directory(self._path)
        return self._active

    def _recover(self) -> None:
        """Record the intents of a dead owner; a slot that fails waits for the next owner."""
        size = SLOT_BYTES * SLOT_COUNT
        content = os.pread(self._intents, size, 0)
        if len(content) < size:  # allocate all slots now: the disk may be full later
            os.pwrite(self._intents, bytes(size - len(content)), len(content))
        for slot in [start // SLOT_BYTES for start in range(0, len(content), SLOT_BYTES) if content[start]]:
            self._free_slots.remove(slot)
            with suppress(SpoolError, OSError):
                good, bad = _parse(content[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES].partition(b"\n")[0])
                self._quarantine(bad)
                for record in good:
                    self.append(record)
                self.clear_intent(slot)

    def _quarantine(self, lines: list[bytes]) -> None:
        if lines:
            descriptor = os.open(self._path / "quarantine.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(lines)
                file.flush()
                os.fdatasync(file.fileno())


class _Segment:
    """An append-only file. Threads that sync at the same time share one fdatasync."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        self._sync_lock = threading.Lock()
        self._synced = 0
        self.size = 0
        self.is_broken = False
        """Whether fdatasync has failed: another may succeed despite data loss (PostgreSQL wiki, "Fsync Errors")."""

    def write(self, line: bytes) -> None:
        """Append a line completely or not at all. Raises OSError."""
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(line)

    def sync(self, size: int) -> None:
        """Return when `size` bytes are durable. Raises OSError: then it is unknown which are."""
        with self._sync_lock:
            if self._synced < size:
                self._sync()

    def close(self) -> None:
        """Sync and close the file; threads in sync() get the result."""
        with self._sync_lock:
            with suppress(OSError):
                if self._synced < self.size:
                    self._sync()
            os.close(self._fd)

    def _sync(self) -> None:
        if self.is_broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        size = self.size
        try:
            os.fdatasync(self._fd)
        except OSError:
            self.is_broken = True
            raise
        self._synced = size


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """Totals of all folders below a spool's root."""

    records: int = 0
    bytes: int = 0
    oldest: float | None = None
    """When the oldest segment was begun, a Unix timestamp; None if there is none."""
    quarantined: int = 0


def read_status(root: Path) -> SpoolStatus:
    """Count stored records. A file that disappears meanwhile has been delivered."""
    records = size = quarantined = 0
    oldest: float | None = None
    for folder in _folders(root):
        quarantined += _read_if_exists(folder / "quarantine.log").count(b"\n")
        for path in _segments(folder):
            if lines := _read_if_exists(path):
                records += lines.count(b"\n")
                size += len(lines)
                begin = int(path.stem) / 1000
                oldest = begin if oldest is None else min(oldest, begin)
    return SpoolStatus(records, size, oldest, quarantined)


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.glob("[0-9][0-9][0-9]")) if path.is_dir())


def _segments(folder: Path) -> list[Path]:
    """Return the segments of a folder, oldest first."""
    return sorted(path for path in folder.iterdir() if _SEGMENT_NAME.fullmatch(path.name))


def _read_if_exists(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _framed(record: str) -> bytes:
    data = record.encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _parse(content: bytes) -> tuple[list[str], list[bytes]]:
    """Split content into records and damaged or incomplete lines."""
    good: list[str] = []
    bad: list[bytes] = []
    for line in content.split(b"\n"):
        if not line:
            continue
        record = _checked_record(line)
        if record is None:
            bad.append(line + b"\n")
        else:
            good.append(record)
    return good, bad


def _checked_record(line: bytes) -> str | None:
    """Return the record in a line, None if it is damaged."""
    checksum, _, data = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(data):
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not supported by the file system
            raise
    finally:
        os.close(descriptor)
