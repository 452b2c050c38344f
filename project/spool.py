"""Stores records in `DATA_DIR/spool` while PostgreSQL is unavailable.

Each process takes a folder by locking the file `lock`. When the process dies, even by kill -9, the kernel releases the
lock, and another process can take the folder. A folder contains:

    lock                   locked by the owner of the folder
    1764000000000.log ...  segments: records, one per line with a checksum; the name is the Unix time of its start in
                           milliseconds, or more if that is taken; a record is stored once fdatasync has returned
    next                   an empty file, which becomes the next segment: its directory entry is already durable
    intents                a slot for each request in progress, up to SLOT_COUNT: after a kill -9, its attempt is
                           recorded as interrupted
    quarantine.log         lines that are damaged or can never be delivered, for inspection by an operator
    probe                  written regularly to check that the disk accepts data

Records are text without line breaks; this module does not interpret them. Request threads do not access the disk: they
wait for the threads of the spool with a timeout (docs/adr/0031).
"""

import errno
import fcntl
import os
import re
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from project.disk import DiskThread, Operation, StuckDetector, call_with_timeout


class Undelivered(NamedTuple):
    """Records that were not delivered."""

    rejected: Sequence[str] = ()
    """Records that can never be delivered."""
    postponed: Sequence[str] = ()
    """Records to deliver later. Until then, newer records are delivered before them."""


Deliver = Callable[[list[str]], Undelivered]
"""Delivers records and returns the undelivered ones. Raises an error if no record can be delivered now."""

QUOTA_BYTES = 64 * 1024 * 1024
"""Default maximum size of a folder's records in bytes: about 150,000 attempts."""
SEGMENT_BYTES = 4 * 1024 * 1024
"""Size in bytes after which a segment is closed and the next one is started."""
DRAIN_BATCH = 200
"""Maximum number of records that a drain delivers at a time."""
SLOT_BYTES, SLOT_COUNT = 4096, 256
"""Size in bytes and number of slots for intents. A slot is one memory page, so that writing it is atomic."""
INTENT_TIMEOUT_S, APPEND_TIMEOUT_S, CLOSE_TIMEOUT_S = 0.1, 10.0, 1.0
"""Timeouts in seconds of the disk for writing or clearing an intent, for storing a record (by default), and for closing
each part of the spool."""
NO_RESPONSE = "the spool's disk does not respond"
_SEGMENT_NAME = re.compile(r"\d{13}\.log")
"""Matches the names of segments. Other files in the folder, such as copies, are ignored."""


class SpoolError(Exception):
    """The spool cannot store a record or cannot be used. The message contains the reason."""


class QuotaError(SpoolError):
    """The spool has reached its quota, although its disk may have space."""


class AppendOperation(Operation):
    """A disk operation that appends a record to a segment."""

    __slots__ = ("is_abandoned", "line")

    def __init__(self, record: str) -> None:
        super().__init__()
        self.line = _encode_line(record)
        self.is_abandoned = False
        """Whether the requesting thread no longer waits; if the operation has not begun, it is then skipped."""


class Intent(Operation):
    """The record of a request in progress, and the disk operation that writes it to a slot."""

    __slots__ = ("folder", "line", "slot")

    def __init__(self, record: str) -> None:
        super().__init__()
        self.line = _encode_line(record)
        self.folder: Folder | None = None
        self.slot: int | None = None
        """Number of the slot in `folder`; None before the record is written, or if it cannot be written."""


class _ClearOperation(Operation):
    __slots__ = ("intent",)

    def __init__(self, intent: Intent) -> None:
        super().__init__()
        self.intent = intent


class Spool:
    """The spool of this process: a folder in `root`, locked on first use.

    Another one is locked after a fork, and if the folder is gone.

    append(), write_intent() and clear_intent() use the disk in two threads, so that intents do not wait for a flush.
    The properties return the last results of these threads and of check(), and never block.
    """

    trace: Callable[[str], AbstractContextManager[object]] | None = None
    """Traces each append as a span; set by http/tracing.py, None without tracing."""

    def __init__(self, root: Path, quota_bytes: int = QUOTA_BYTES) -> None:
        self.root = root
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()
        self._folder: Folder | None = None
        self._pid = 0
        self._record_thread = DiskThread("spool-records", self._store)
        self._intent_thread = DiskThread("spool-intents", self._write_or_clear)
        self._check_detector = StuckDetector()
        self._problem: str | None = None
        self.lost_records = 0
        """Number of failed calls of append(). After a timeout, the record may still be stored."""
        self.status = SpoolStatus()
        """Totals of all folders at the last successful check(); zeros before."""

    def open(self) -> "Folder":
        """Return the folder of this process; lock a free one first if needed. Raises SpoolError."""
        with self._lock:
            if not self.is_open:
                self._folder = None
            if self._folder is not None and self._folder.is_gone():
                self._folder.close()
                self._folder = None
            if self._folder is None:
                self._folder, self._pid = self._lock_free_folder(), os.getpid()
            return self._folder

    @property
    def is_open(self) -> bool:
        """Whether this process has locked its folder."""
        return self._folder is not None and self._pid == os.getpid()

    def append(self, record: str, timeout_s: float = APPEND_TIMEOUT_S) -> None:
        """Store a record durably; count it in `lost_records` on an error.

        Raises SpoolError if that fails or takes longer than `timeout_s`; then the record may still be stored later.
        """
        try:
            with self.trace("spool append") if self.trace else nullcontext():
                self._append(AppendOperation(record), timeout_s)
        except SpoolError:
            self.lost_records += 1
            raise

    def write_intent(self, record: str) -> Intent | None:
        """Request that a record is written to a slot; return its intent for clear_intent().

        Waits at most INTENT_TIMEOUT_S; after that, the thread of the spool still writes the record. Returns None, and
        writes nothing, if the disk was already known to be unusable.
        """
        if self.problem:
            return None
        intent = Intent(record)
        self._intent_thread.put(intent)
        intent.wait(INTENT_TIMEOUT_S)
        return intent

    def clear_intent(self, intent: Intent) -> None:
        """Delete the record of an intent from its slot; wait for the disk at most INTENT_TIMEOUT_S.

        Call this before the response is sent: if the process is killed while the record exists, the attempt is recorded
        as not answered.
        """
        clearing = _ClearOperation(intent)
        self._intent_thread.put(clearing)
        if not self.is_stuck:
            clearing.wait(INTENT_TIMEOUT_S)

    @property
    def is_stuck(self) -> bool:
        """Whether a thread or check() has been using the disk for more than disk.STUCK_S."""
        return self._record_thread.is_stuck or self._intent_thread.is_stuck or self._check_detector.is_stuck

    @property
    def problem(self) -> str | None:
        """The reason why the last append or check failed, or the disk is stuck; or None.

        A full quota is not a problem of the disk, see `fullness`.
        """
        return NO_RESPONSE if self.is_stuck else self._problem

    @property
    def fullness(self) -> float:
        """Used share of the quota; 0 before open(). Raises SpoolError if there is a `problem`."""
        if problem := self.problem:
            raise SpoolError(problem)
        return 0.0 if self._folder is None else self._folder.size / self._quota_bytes

    def has_records(self) -> bool:
        """Return whether the folder of this process has records; False before open()."""
        return self._folder is not None and self._folder.size > 0

    def check(self) -> str | None:
        """Check that the disk accepts records; update `status`; return the problem or None.

        Updates `problem`, too. Waits for the disk without a limit. After a failure `status` is unchanged.
        """
        with self._check_detector:
            try:
                self.open().probe(is_durable=self._problem is not None)
                self.status = read_status(self.root, self.status)
                self._problem = None
            except SpoolError as error:
                self._problem = str(error)
            except OSError as error:
                self._problem = _failure_message(error)
        return self._problem

    def drain(self, deliver: Deliver) -> int:
        """Deliver the records of this process; return the number of delivered and rejected ones.

        Exceptions of `deliver` propagate. Raises SpoolError or OSError if the disk is unusable.
        """
        return self.open().drain(deliver)

    def drain_orphans(self, deliver: Deliver) -> int:
        """Deliver the records of dead processes; return the number of delivered and rejected ones.

        Exceptions of `deliver` propagate. Skips folders that cannot be opened; raises OSError if the disk fails later.
        """
        drained = 0
        for path in _list_folders(self.root):
            folder = None
            with suppress(OSError):  # the records of an unusable folder are kept
                folder = Folder.try_lock(path, self._quota_bytes)
            if folder is not None:
                try:
                    drained += folder.drain(deliver)
                finally:
                    folder.close()
        return drained

    def close(self) -> None:
        """Stop the threads and release the folder; its records stay for the next owner.

        Waits at most CLOSE_TIMEOUT_S for each thread and for the release, which may then continue.
        """
        for thread in (self._record_thread, self._intent_thread):
            thread.stop(CLOSE_TIMEOUT_S)
        with suppress(TimeoutError):
            call_with_timeout(self._release, CLOSE_TIMEOUT_S)

    def _release(self) -> None:
        with self._lock:
            if self._folder is not None:
                self._folder.close()
                self._folder = None

    def _append(self, record: AppendOperation, timeout_s: float) -> None:
        if self.is_stuck:
            raise SpoolError(NO_RESPONSE)
        self._record_thread.put(record)
        if not record.wait(timeout_s):
            record.is_abandoned = True
            raise SpoolError(NO_RESPONSE)
        if record.error is not None:
            error = record.error
            raise error if isinstance(error, SpoolError) else SpoolError(str(error)) from error

    def _store(self, batch: list[AppendOperation]) -> None:
        """Store the records that are not abandoned; update `problem`. Raises SpoolError."""
        records = [record for record in batch if not record.is_abandoned]
        if records:
            try:
                self.open().append(records)
            except SpoolError as error:
                self._problem = str(error)
                raise
            failures = [record.error for record in records if record.error and not isinstance(record.error, QuotaError)]
            self._problem = str(failures[0]) if failures else None

    def _write_or_clear(self, batch: list[Intent | _ClearOperation]) -> None:
        for operation in batch:
            if isinstance(operation, Intent):
                with suppress(SpoolError, OSError):
                    operation.folder = (self.is_open and self._folder) or self.open()
                    operation.slot = operation.folder.write_intent(operation.line)
            elif (slot := operation.intent.slot) is not None and (folder := operation.intent.folder):
                folder.clear_intent(slot)
            operation.finish()

    def _lock_free_folder(self) -> "Folder":
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for number in range(1000):
                folder = Folder.try_lock(self.root / f"{number:03}", self._quota_bytes)
                if folder is not None:
                    return folder
        except OSError as error:
            raise SpoolError(f"{self.root} cannot be used: {error.strerror}") from error
        raise SpoolError(f"{self.root} has no free folder")


class Folder:
    """A folder of the spool that this process owns.

    Only one thread may write and clear intents. The other methods are thread-safe; one thread drains at a time.
    """

    def __init__(self, path: Path, lock_fd: int, quota_bytes: int) -> None:
        self._path = path
        self._lock_fd = lock_fd
        self._quota_bytes = quota_bytes
        self._lock = threading.Lock()
        self._intents_lock = threading.Lock()
        self._drain_lock = threading.Lock()
        self._is_closed = False
        self._active_segment: _Segment | None = None
        self._newest_ms = max((int(segment.stem) for segment in _list_segments(path)), default=0)
        self._recover_next()
        self.size = sum(segment.stat().st_size for segment in _list_segments(path))
        """Total size of the segments in bytes."""
        self._is_next_prepared = False
        self._free_slots = deque(range(SLOT_COUNT))
        with ExitStack() as opened:  # closes the files on an error: retries, twice a second, would leak them
            self._probe_fd = _open_file(path / "probe", os.O_WRONLY | os.O_CREAT, opened)
            self._intents_fd = _open_file(path / "intents", os.O_RDWR | os.O_CREAT, opened)
            with suppress(OSError):  # on a full disk, the first record reports the error
                self._prepare_next()
            self._recover_intents()
            opened.pop_all()

    @classmethod
    def try_lock(cls, path: Path, quota_bytes: int = QUOTA_BYTES) -> "Folder | None":
        """Lock a folder, creating it if needed; return None if it is locked already.

        Stores the intents of a dead owner as records. Raises OSError.
        """
        path.mkdir(mode=0o700, exist_ok=True)
        lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(path, lock_fd, quota_bytes)
        except BaseException as error:
            os.close(lock_fd)
            if isinstance(error, BlockingIOError):
                return None
            raise

    def is_gone(self) -> bool:
        """Return whether the folder was removed, replaced or unmounted, or cannot be accessed."""
        try:
            found = (self._path / "lock").stat()
        except OSError:
            return True
        return not os.path.samestat(found, os.fstat(self._lock_fd))

    def append(self, records: Sequence[AppendOperation]) -> None:
        """Store records durably, usually with one flush; set `error` of each record that failed."""
        written: dict[_Segment, list[AppendOperation]] = {}
        sizes: dict[_Segment, int] = {}
        with self._lock:
            for record in records:
                try:
                    segment = self._get_segment(len(record.line))
                    segment.write(record.line)
                except OSError as error:
                    record.error = SpoolError(_failure_message(error))
                except SpoolError as error:
                    record.error = error
                else:
                    self.size += len(record.line)
                    written.setdefault(segment, []).append(record)
                    sizes[segment] = segment.size
        for segment, records_in_it in written.items():
            try:
                segment.sync(sizes[segment])
            except OSError as error:
                for record in records_in_it:
                    record.error = SpoolError(_failure_message(error))

    def write_intent(self, line: bytes) -> int | None:
        """Write a line to a free slot; return the number of the slot.

        Returns None if the line is too long, no slot is free, or the disk fails.
        """
        if len(line) > SLOT_BYTES or not self._free_slots:
            return None
        slot = self._free_slots.popleft()
        try:
            self._write_slot(slot, line)
        except OSError:
            self._free_slots.append(slot)
            return None
        return slot

    def clear_intent(self, slot: int) -> None:
        """Mark a slot as empty, so that it can be used again. Ignores errors of the disk."""
        with suppress(OSError):  # the folder may be closed
            self._write_slot(slot, b"\0")
        self._free_slots.append(slot)

    def _write_slot(self, slot: int, content: bytes) -> None:
        with self._intents_lock:  # close() must not run meanwhile: the descriptor might be reused
            os.pwrite(self._intents_fd, content, slot * SLOT_BYTES)

    def probe(self, *, is_durable: bool) -> None:
        """Write to the file `probe`, with fdatasync if `is_durable`; create `next` if missing.

        Raises OSError.
        """
        os.pwrite(self._probe_fd, bytes(SLOT_BYTES), 0)
        if is_durable:
            os.fdatasync(self._probe_fd)
        os.ftruncate(self._probe_fd, 0)  # otherwise the next probe would need no disk space
        if not self._is_next_prepared:
            self._prepare_next()

    def drain(self, deliver: Deliver) -> int:
        """Deliver all records, oldest first; return the number of delivered and rejected ones.

        Deletes these records; rejected ones and damaged lines go to quarantine.log, postponed ones stay. Exceptions of
        `deliver` propagate; the records of that segment are then delivered again. Raises OSError.
        """
        with self._drain_lock:
            if not self._is_next_prepared:
                self._prepare_next()
            with self._lock:
                sealed, self._active_segment = self._active_segment, None
                segments = _list_segments(self._path)
            if sealed is not None:
                sealed.close()
            return sum(self._drain_segment(path, deliver) for path in segments)

    def _drain_segment(self, path: Path, deliver: Deliver) -> int:
        content = path.read_bytes()
        records, quarantined = _split_lines(content)
        postponed: list[str] = []
        for start in range(0, len(records), DRAIN_BATCH):
            undelivered = deliver(records[start : start + DRAIN_BATCH])
            quarantined += [_encode_line(record) for record in undelivered.rejected]
            postponed += undelivered.postponed
        if postponed and len(postponed) == len(records) and not quarantined:
            return 0
        self._quarantine(quarantined)
        remainder = b"".join(map(_encode_line, postponed))
        if remainder:
            _replace_content(path, remainder)
        else:
            path.unlink()
        self._prepare_next()
        with self._lock:
            self.size -= len(content) - len(remainder)
        return len(records) - len(postponed)

    def close(self) -> None:
        """Close the active segment and release the folder."""
        with self._lock, self._intents_lock:
            self._is_closed = True
            self._seal()
            for descriptor in (self._intents_fd, self._probe_fd, self._lock_fd):
                os.close(descriptor)
            self._intents_fd = self._probe_fd = -1

    def _seal(self) -> None:
        if self._active_segment is not None:
            self._active_segment.close()
            self._active_segment = None

    def _get_segment(self, length: int) -> "_Segment":
        """Return or start the segment for a line of `length` bytes. Raises OSError, SpoolError."""
        if self._is_closed:
            raise SpoolError(f"{self._path} was released")
        if self.size + length > self._quota_bytes:
            raise QuotaError("the spool has reached its quota")
        if self._active_segment is not None and (
            self._active_segment.size > SEGMENT_BYTES or self._active_segment.is_broken
        ):
            self._seal()
        if self._active_segment is None:
            self._newest_ms = max(self._newest_ms + 1, time.time_ns() // 1_000_000)
            path = self._path / f"{self._newest_ms:013}.log"
            is_durable, self._is_next_prepared = self._is_next_prepared, False
            if is_durable:  # the rename is not synced: after a machine crash the file may have either name
                (self._path / "next").rename(path)
            self._active_segment = _Segment(path)
            if not is_durable:
                _sync_directory(self._path)
        return self._active_segment

    def _prepare_next(self) -> None:
        """Create the file `next` unless it exists, and sync the directory. Raises OSError."""
        with self._lock:
            is_new = not self._is_next_prepared
            if is_new:
                os.close(os.open(self._path / "next", os.O_WRONLY | os.O_CREAT, 0o600))
        _sync_directory(self._path)
        if is_new:
            self._is_next_prepared = True

    def _recover_next(self) -> None:
        """Rename `next` to a segment if it has records: a machine crash can undo the rename."""
        path = self._path / "next"
        if path.exists() and path.stat().st_size:
            self._newest_ms = max(self._newest_ms + 1, time.time_ns() // 1_000_000)
            path.rename(self._path / f"{self._newest_ms:013}.log")

    def _recover_intents(self) -> None:
        """Store or quarantine the intents that a dead process left; clear their slots.

        The slot of an intent that cannot be stored is kept. Raises OSError if the file of slots cannot be used.
        """
        size = SLOT_BYTES * SLOT_COUNT
        content = os.pread(self._intents_fd, size, 0)
        if len(content) < size:  # allocate all slots now: the disk may be full later
            os.pwrite(self._intents_fd, bytes(size - len(content)), len(content))
        slots = [start // SLOT_BYTES for start in range(0, len(content), SLOT_BYTES) if content[start]]
        recovered: list[tuple[int, AppendOperation | None]] = []
        for slot in slots:
            self._free_slots.remove(slot)
            with suppress(OSError):
                line = content[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES].partition(b"\n")[0]
                records, damaged = _split_lines(line)
                self._quarantine(damaged)
                recovered.append((slot, AppendOperation(records[0]) if records else None))
        operations = [operation for _, operation in recovered if operation]
        if operations:
            self.append(operations)
        for slot, operation in recovered:
            if operation is None or operation.error is None:
                self.clear_intent(slot)

    def _quarantine(self, lines: list[bytes]) -> None:
        if lines:
            descriptor = os.open(self._path / "quarantine.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(lines)
                file.flush()
                os.fdatasync(file.fileno())


class _Segment:
    """An append-only file of records. Concurrent calls of sync() share an fdatasync."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._sync_lock = threading.Lock()
        self._synced = 0
        self.size = 0
        self.is_broken = False
        """Whether no more records may be appended, because fdatasync or the removal of an incomplete line has failed.
        The next fdatasync may succeed despite data loss (PostgreSQL wiki: Fsync Errors)."""

    def write(self, line: bytes) -> None:
        """Append a line completely or not at all. Raises OSError."""
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            self._truncate()
            raise
        self.size += len(line)

    def _truncate(self) -> None:
        """Remove an incomplete line: the next record would be appended to it and be damaged, too."""
        try:
            os.ftruncate(self._fd, self.size)
        except OSError:
            self.is_broken = True

    def sync(self, size: int) -> None:
        """Wait until the first `size` bytes are durable. Raises OSError if they may be lost."""
        with self._sync_lock:
            if self._synced < size:
                self._sync()

    def close(self) -> None:
        """Sync and close the file.

        Threads that wait in sync() return or raise according to this last sync.
        """
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
    """Totals of all folders of a spool: records, bytes, oldest segment, quarantined lines."""

    records: int = 0
    bytes: int = 0
    oldest: float | None = None
    """Unix timestamp in seconds of the start of the oldest segment with records; None if there is none."""
    quarantined: int = 0
    """Number of lines in quarantine, which are not counted in `records`."""
    file_counts: Mapping[Path, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)
    """Path of a file -> its size in bytes and number of lines, for the next call of read_status()."""


def read_status(root: Path, last: SpoolStatus | None = None) -> SpoolStatus:
    """Return the totals of all folders; read only data that was added since the status `last`.

    If `last` is None, reads all data. Raises OSError.
    """
    known = last.file_counts if last else {}
    files: dict[Path, tuple[int, int]] = {}
    records = size = quarantined = 0
    oldest: float | None = None
    for folder in _list_folders(root):
        path = folder / "quarantine.log"
        files[path] = _count_lines(path, known)
        quarantined += files[path][1]
        for path in _list_segments(folder):
            files[path] = length, lines = _count_lines(path, known)
            if length:
                records += lines
                size += length
                begin = int(path.stem) / 1000
                oldest = begin if oldest is None else min(oldest, begin)
    return SpoolStatus(records, size, oldest, quarantined, files)


def _count_lines(path: Path, known: Mapping[Path, tuple[int, int]]) -> tuple[int, int]:
    """Return the size in bytes and the number of lines of a file; zeros if it does not exist.

    Reads only what was added to the counts in `known`. Raises OSError.
    """
    length, lines = known.get(path, (0, 0))
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < length:  # the file was rewritten
                length = lines = 0
            file.seek(length)
            added = file.read(size - length)
    except FileNotFoundError:
        return 0, 0
    return length + len(added), lines + added.count(b"\n")


def _list_folders(root: Path) -> Iterator[Path]:
    return (path for path in sorted(root.glob("[0-9][0-9][0-9]")) if path.is_dir())


def _list_segments(folder: Path) -> list[Path]:
    """Return the segments of a folder, oldest first."""
    return sorted(path for path in folder.iterdir() if _SEGMENT_NAME.fullmatch(path.name))


def _encode_line(record: str) -> bytes:
    """Return the line of a record: its CRC-32 in hexadecimal, a space, the record, a line feed."""
    data = record.encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _split_lines(content: bytes) -> tuple[list[str], list[bytes]]:
    """Split content into valid records, and lines that are damaged or incomplete."""
    records: list[str] = []
    damaged: list[bytes] = []
    for line in content.split(b"\n"):
        if not line:
            continue
        record = _decode_line(line)
        if record is None:
            damaged.append(line + b"\n")
        else:
            records.append(record)
    return records, damaged


def _decode_line(line: bytes) -> str | None:
    """Return the record in a line, or None if the line is damaged."""
    checksum, _, data = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(data):
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _open_file(path: Path, flags: int, opened: ExitStack) -> int:
    """Open a file; register it with `opened` to be closed."""
    descriptor = os.open(path, flags, 0o600)
    opened.callback(os.close, descriptor)
    return descriptor


def _failure_message(error: OSError) -> str:
    return f"the spool's disk failed: {error.strerror}"


def _replace_content(path: Path, content: bytes) -> None:
    """Replace the content of a file durably and atomically. Raises OSError."""
    draft = path.with_suffix(".draft")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fdatasync(file.fileno())
    draft.replace(path)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # not supported by the file system
            raise
    finally:
        os.close(descriptor)
