"""Keeps on disk what PostgreSQL cannot take, until it can: `DATA_DIR/spool`, a folder for each process.

A folder belongs to the process that holds the lock on its file `lock`; the kernel frees it even after kill -9, and
whoever finds a free one takes it over. It holds:

    lock            who owns the folder
    1764000000000.log ...  records, one a line with a checksum, named by the millisecond of the first one; a record
                    counts once the disk has confirmed it (fdatasync)
    intents         one slot for each request under way, for those who come after a kill -9
    quarantine.log  lines that could not be read or delivered; nothing reads them again but people

Records are texts without line breaks. What they mean is not known here.
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
"""Takes records to where they belong and returns those that it never can; raises when it cannot now."""

QUOTA = 64 * 1024 * 1024
"""Bytes of a folder's records: about 150,000 attempts."""
SEGMENT = 4 * 1024 * 1024
BATCH = 200
SLOT, SLOTS = 4096, 256
"""Bytes of a slot and their number. A page each, so that one write is whole or not there."""
_NAME = re.compile(r"\d{13}\.log")
"""Of a file of records. People leave other files beside them: copies, notes."""


class SpoolError(Exception):
    """The disk did not take a record; the message says why."""


class Spool:
    """The spool folder of this process below `root`, claimed when it is first needed, and again after a fork."""

    trace: Callable[[str], AbstractContextManager[object]] | None = None
    """Set by tracing to wrap every append in a span."""

    def __init__(self, root: Path, quota: int = QUOTA) -> None:
        self.root = root
        self._quota = quota
        self._lock = threading.Lock()
        self._own: Folder | None = None
        self._pid = 0
        self.lost = 0
        """Records that no disk took since this process started."""

    def open(self) -> "Folder":
        """Return the folder of this process. Raises SpoolError when there can be none."""
        if self._own is None or self._pid != os.getpid():
            with self._lock:
                if self._own is None or self._pid != os.getpid():
                    self._own, self._pid = self._claim(), os.getpid()
        return self._own

    def append(self, record: str) -> None:
        """Keep a record: when this returns, it is on the disk. Raises SpoolError."""
        try:
            with self.trace("spool append") if self.trace else nullcontext():
                self.open().append(record)
        except SpoolError:
            self.lost += 1
            raise

    def begin(self, record: str) -> int | None:
        """Note what shall be recorded if this process dies now; None when there is no place for it."""
        try:
            return self.open().begin(record)
        except SpoolError:
            return None

    def finish(self, slot: int | None) -> None:
        """Forget what begin() noted."""
        if slot is not None and self._own is not None:
            self._own.finish(slot)

    @property
    def fullness(self) -> float:
        """How much of this process's quota is used, 0 to 1. Raises SpoolError when nothing can be kept at all."""
        return self.open().size / self._quota

    def has_records(self) -> bool:
        """Tell whether this process has something to deliver."""
        return self._own is not None and self._own.size > 0

    def drain(self, deliver: Deliver) -> int:
        """Deliver what this process keeps; return how many records went. What `deliver` raises goes on."""
        return self.open().drain(deliver)

    def drain_orphans(self, deliver: Deliver) -> int:
        """Deliver what processes left behind that are no more; return how many records went."""
        drained = 0
        for path in _folders(self.root):
            folder = None
            with suppress(OSError):  # a folder that nobody can use: what is in it waits for better times
                folder = Folder.claim(path, self._quota)
            if folder is not None:
                try:
                    drained += folder.drain(deliver)
                finally:
                    folder.close()
        return drained

    def close(self) -> None:
        """Give the folder back; what is in it waits for its next owner."""
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
    """A folder that we own. Many threads append at a time, one drains."""

    def __init__(self, path: Path, lock: int, quota: int) -> None:
        self._path = path
        self._lock_fd = lock
        self._quota = quota
        self._lock = threading.Lock()
        self._draining = threading.Lock()
        self._active: _Segment | None = None
        self._newest = max((int(segment.stem) for segment in _segments(path)), default=0)
        self.size = sum(segment.stat().st_size for segment in _segments(path))
        """Bytes of records that wait here."""
        self._intents = os.open(path / "intents", os.O_RDWR | os.O_CREAT, 0o600)
        self._slots = deque(range(SLOTS))
        self._recover()

    @classmethod
    def claim(cls, path: Path, quota: int = QUOTA) -> "Folder | None":
        """Return the folder at `path`, made if need be; None when another process owns it. Raises OSError."""
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
        """Keep a record: when this returns, it is on the disk. Raises SpoolError."""
        line = _framed(record)
        try:
            with self._lock:
                segment = self._segment_for(len(line))
                segment.write(line)
                self.size += len(line)
                upto = segment.size
            segment.sync(upto)
        except OSError as error:
            raise SpoolError(f"the spool's disk failed: {error.strerror}") from error

    def begin(self, record: str) -> int | None:
        """Note in a slot what shall be recorded if this process dies; None when all are taken or it is too long."""
        line = _framed(record)
        if len(line) > SLOT or not self._slots:
            return None
        slot = self._slots.popleft()
        try:
            os.pwrite(self._intents, line, slot * SLOT)
        except OSError:
            self._slots.append(slot)
            return None
        return slot

    def finish(self, slot: int) -> None:
        """Empty a slot."""
        with suppress(OSError):  # the folder may be closed by now
            os.pwrite(self._intents, b"\0", slot * SLOT)
        self._slots.append(slot)

    def drain(self, deliver: Deliver) -> int:
        """Deliver every record, oldest first, and remove what is delivered. What `deliver` raises goes on."""
        with self._draining:
            with self._lock:
                self._seal()
                segments = _segments(self._path)
            return sum(self._drain(path, deliver) for path in segments)

    def _drain(self, path: Path, deliver: Deliver) -> int:
        content = path.read_bytes()
        good, bad = _read(content)
        for start in range(0, len(good), BATCH):
            bad += [_framed(record) for record in deliver(good[start : start + BATCH])]
        self._quarantine(bad)
        path.unlink()
        _sync_directory(self._path)
        with self._lock:
            self.size -= len(content)
        return len(good)

    def close(self) -> None:
        """Seal everything and let go of the folder."""
        with self._lock:
            self._seal()
            os.close(self._intents)
            self._intents = -1  # a late finish() must not write into whatever gets this number next
            os.close(self._lock_fd)

    def _seal(self) -> None:
        if self._active is not None:
            self._active.close()
            self._active = None

    def _segment_for(self, length: int) -> "_Segment":
        """Return the file that takes the next line."""
        if self.size + length > self._quota:
            raise SpoolError("the spool has reached its quota")
        if self._active is not None and (self._active.size > SEGMENT or self._active.is_broken):
            self._seal()
        if self._active is None:
            self._newest = max(self._newest + 1, time.time_ns() // 1_000_000)
            self._active = _Segment(self._path / f"{self._newest:013}.log")
            _sync_directory(self._path)
        return self._active

    def _recover(self) -> None:
        """Turn what a dead owner was at into records. A slot that cannot be kept now waits for the next owner."""
        left = os.pread(self._intents, SLOT * SLOTS, 0)
        if len(left) < SLOT * SLOTS:  # written out once, slots need no more of a full disk
            os.pwrite(self._intents, bytes(SLOT * SLOTS - len(left)), len(left))
        for slot in [at // SLOT for at in range(0, len(left), SLOT) if left[at]]:
            self._slots.remove(slot)
            with suppress(SpoolError, OSError):
                good, bad = _read(left[slot * SLOT : (slot + 1) * SLOT].partition(b"\n")[0])
                self._quarantine(bad)
                for record in good:
                    self.append(record)
                self.finish(slot)

    def _quarantine(self, lines: list[bytes]) -> None:
        if lines:
            descriptor = os.open(self._path / "quarantine.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(lines)
                file.flush()
                os.fdatasync(file.fileno())


class _Segment:
    """A file that grows. Threads that wait for the disk at the same time share one fdatasync."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        self._sync_lock = threading.Lock()
        self._synced = 0
        self.size = 0
        self.is_broken = False
        """Whether the disk failed once: a second fdatasync may succeed although the data is gone (PostgreSQL wiki,
        "Fsync Errors")."""

    def write(self, line: bytes) -> None:
        """Append a line whole or not at all. Raises OSError."""
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(line)

    def sync(self, upto: int) -> None:
        """Return when the first `upto` bytes are on the disk. Raises OSError: then nobody knows what is."""
        with self._sync_lock:
            if self._synced < upto:
                self._sync()

    def close(self) -> None:
        """Confirm what is written and close the file; whoever waits in sync() learns how that went."""
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
    """The records that wait below a spool's root, of all processes together."""

    records: int = 0
    bytes: int = 0
    oldest: float | None = None
    """When the oldest record was kept, in seconds since 1970; None when there is none."""
    quarantined: int = 0


def read_status(root: Path) -> SpoolStatus:
    """Count waiting records; a file that disappears while it is counted has been delivered."""
    records = size = quarantined = 0
    oldest: float | None = None
    for folder in _folders(root):
        quarantined += _content(folder / "quarantine.log").count(b"\n")
        for path in _segments(folder):
            if lines := _content(path):
                records += lines.count(b"\n")
                size += len(lines)
                begun = int(path.stem) / 1000
                oldest = begun if oldest is None else min(oldest, begun)
    return SpoolStatus(records, size, oldest, quarantined)


def _folders(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.glob("[0-9][0-9][0-9]")) if path.is_dir())


def _segments(folder: Path) -> list[Path]:
    """Return the files of records of a folder, the oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _framed(record: str) -> bytes:
    data = record.encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _read(content: bytes) -> tuple[list[str], list[bytes]]:
    """Split a file into records and lines that are damaged or torn."""
    good: list[str] = []
    bad: list[bytes] = []
    for line in content.split(b"\n"):
        if not line:
            continue
        record = _record(line)
        if record is None:
            bad.append(line + b"\n")
        else:
            good.append(record)
    return good, bad


def _record(line: bytes) -> str | None:
    """Return what stands in a line; None when it is damaged."""
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
        if error.errno != errno.EINVAL:  # file systems that know no such thing
            raise
    finally:
        os.close(descriptor)
