"""The spool: a confirmed record is not lost, whatever the disk and the kernel do."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from project.spool import SLOT_BYTES, SLOT_COUNT, Folder, Intent, Spool, SpoolError, Undelivered, read_status
from tests.builders import BARE_IMPORT

ROOT = Path(__file__).parents[2]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """An empty spool."""
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


class Delivered(list[str]):
    """Collects delivered records; rejects `poison` and postpones `late`."""

    def __call__(self, records: list[str]) -> Undelivered:
        """Accept all records but these."""
        rejected = [record for record in records if record == "poison"]
        postponed = [record for record in records if record == "late"]
        self.extend(record for record in records if record not in {"poison", "late"})
        return Undelivered(rejected, postponed)


def refuse(records: list[str]) -> Undelivered:
    """Fail as an unavailable database."""
    raise ConnectionError


def framed(data: bytes) -> bytes:
    """Return a line with the right checksum for any data."""
    return b"%08x %s\n" % (zlib.crc32(data), data)


def segments(spool: Spool) -> list[Path]:
    """Return the segment files."""
    return sorted(spool.root.glob("*/*[0-9].log"))


def written(spool: Spool, record: str) -> Intent:
    """Write an intent and wait for the disk."""
    intent = spool.write_intent(record)
    assert intent
    assert intent.wait(10)
    return intent


def kill_while(tmp_path: Path, steps: str) -> None:
    """Run `steps` on a spool in another process, which then kills itself."""
    program = (
        f"import os\nfrom pathlib import Path\nfrom project.spool import Spool\ns = Spool(Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", f"{BARE_IMPORT}{program}; {steps}; os.kill(os.getpid(), 9)"], cwd=ROOT)


def test_records_are_delivered_once_and_in_order(spool: Spool) -> None:
    delivered = Delivered()
    for number in range(450):
        spool.append(f"record {number}")

    assert spool.drain(delivered) == 450
    assert spool.drain(delivered) == 0

    assert delivered == [f"record {number}" for number in range(450)]
    assert not spool.has_records()
    assert segments(spool) == []


def test_records_that_cannot_be_delivered_stay_in_the_spool(spool: Spool) -> None:
    delivered = Delivered()
    spool.append("one")
    with pytest.raises(ConnectionError):
        spool.drain(refuse)
    spool.append("two")

    assert spool.has_records()
    spool.drain(delivered)

    assert delivered == ["one", "two"]


def test_a_record_is_on_the_disk_before_append_returns(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def sync(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", sync)

    spool.append("one")
    first = synced[-1]
    spool.append("two")

    assert 0 < first < synced[-1] == segments(spool)[0].stat().st_size


def test_threads_that_wait_for_the_disk_share_one_fdatasync(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go, calls = threading.Event(), threading.Event(), []
    real = os.fdatasync

    def slow(fd: int) -> None:
        calls.append(fd)
        entered.set()
        assert go.wait(10)
        real(fd)

    spool.open()
    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=spool.append, args=(str(number),)) for number in range(20)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    while spool._record_thread._queue.qsize() < len(threads) - 1:
        os.sched_yield()
    go.set()
    for thread in threads:
        thread.join()

    assert len(calls) == 2


def test_a_damaged_line_is_quarantined_and_the_others_are_delivered(spool: Spool, tmp_path: Path) -> None:
    delivered = Delivered()
    for number in range(20):
        spool.append(f"record {number}")
    [path] = segments(spool)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"record 7", b"record X") + b"12345678 torn in the mid")

    spool.drain(delivered)

    assert len(delivered) == 19
    assert "record 7" not in delivered
    assert read_status(spool.root).quarantined == 2
    [quarantine] = spool.root.glob("*/quarantine.log")
    assert quarantine.stat().st_mode & 0o777 == 0o600


def test_garbage_in_a_segment_is_quarantined(spool: Spool) -> None:
    delivered = Delivered()
    spool.append("good")
    [path] = segments(spool)
    garbage = [b"\0\xff\x80 not a line\n", b"x" * 9000 + b"\n", b"deadbeef \n", b"\r\n", framed(b"\xff no UTF-8")]
    path.write_bytes(b"".join([*garbage, path.read_bytes()]))
    path.with_name("0000000000001.log").write_bytes(b"")
    path.with_name("0000000000002.log").write_bytes(b"torn before its first line end")

    spool.drain(delivered)

    assert delivered == ["good"]
    [quarantine] = spool.root.glob("*/quarantine.log")
    assert quarantine.read_bytes() == b"torn before its first line end\n" + b"".join(garbage)


@pytest.mark.parametrize(
    "name", ["notes.log", "copy of 1.log", "1764000000000-1.log", "1764000000000.log.gz", "17.log", "README"]
)
def test_foreign_files_in_the_spool_are_left_alone(tmp_path: Path, name: str) -> None:
    kill_while(tmp_path, "s.append('kept')")
    foreign_file = tmp_path / "000" / name
    foreign_file.write_text("left by an operator\n")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "999").write_text("a file, not a folder")
    spool, delivered = Spool(tmp_path), Delivered()

    spool.drain(delivered)

    assert delivered == ["kept"]
    assert foreign_file.read_text() == "left by an operator\n"
    assert read_status(tmp_path) == read_status(tmp_path / "nothing here")
    spool.close()


def test_a_poison_record_is_quarantined_and_does_not_block_the_queue(spool: Spool) -> None:
    delivered = Delivered()
    for record in ("one", "poison", "two"):
        spool.append(record)

    spool.drain(delivered)

    assert delivered == ["one", "two"]
    assert (read_status(spool.root).records, read_status(spool.root).quarantined) == (0, 1)


def test_a_full_disk_raises_at_once_and_the_spool_recovers_when_there_is_space(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = Delivered()
    spool.append("before")
    real = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) > 4:
            return real(fd, data[:4])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", half)
        with pytest.raises(SpoolError, match="No space left"):
            spool.append("1234")
    spool.append("after")
    spool.drain(delivered)

    assert delivered == ["before", "after"]
    assert spool.lost_records == 1
    assert read_status(spool.root).quarantined == 0


def test_an_incomplete_line_that_cannot_be_removed_does_not_damage_the_next_record(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = Delivered()
    real = os.write

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    def half(fd: int, data: bytes) -> int:
        return real(fd, data[:4]) if len(data) > 4 else fail()

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", half)
        disk.setattr(os, "ftruncate", fail)
        with pytest.raises(SpoolError, match="Input/output error"):
            spool.append("1234")
    spool.append("after")
    spool.drain(delivered)

    assert delivered == ["after"]
    assert read_status(spool.root).quarantined == 1


def test_after_a_failed_fsync_a_new_segment_is_started(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", fail)
        with pytest.raises(SpoolError, match="Input/output error"):
            spool.append("doubtful")
    spool.append("sure")

    assert len(segments(spool)) == 2


def test_the_quota_is_enforced(tmp_path: Path) -> None:
    spool = Spool(tmp_path, quota_bytes=100)
    spool.append("x" * 80)

    with pytest.raises(SpoolError, match="quota"):
        spool.append("y" * 80)

    assert spool.fullness > 0.8
    spool.drain(Delivered())
    spool.append("y" * 80)
    spool.close()


def test_a_large_spool_is_split_into_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.spool.SEGMENT_BYTES", 100)
    spool, delivered = Spool(tmp_path), Delivered()
    for number in range(20):
        spool.append(f"{number:050}")

    assert len(segments(spool)) > 5
    spool.drain(delivered)

    assert delivered == sorted(delivered)
    assert len(delivered) == 20
    spool.close()


def test_an_intent_of_a_killed_process_becomes_a_record(tmp_path: Path) -> None:
    kill_while(
        tmp_path, "s.append('kept'); s.write_intent('at work'); done = s.write_intent('answered'); s.clear_intent(done)"
    )
    spool, delivered = Spool(tmp_path), Delivered()

    spool.drain(delivered)
    spool.close()
    again = Spool(tmp_path)
    again.drain(delivered)

    assert delivered == ["kept", "at work"]
    again.close()


def test_a_damaged_intent_is_quarantined_and_its_slot_is_reused(tmp_path: Path) -> None:
    kill_while(tmp_path, "[s.write_intent(f'request {number}').wait(10) for number in range(3)]")
    intents = tmp_path / "000" / "intents"
    content = bytearray(intents.read_bytes())
    content[1 * SLOT_BYTES + 12] ^= 1
    content[9 * SLOT_BYTES : 10 * SLOT_BYTES] = b"\xff" * SLOT_BYTES
    intents.write_bytes(bytes(content[: 200 * SLOT_BYTES + 100]))
    spool, delivered = Spool(tmp_path), Delivered()

    spool.drain(delivered)

    assert delivered == ["request 0", "request 2"]
    assert read_status(tmp_path).quarantined == 2
    assert None not in [written(spool, "note").slot for _ in range(SLOT_COUNT)]
    spool.close()


def test_a_damaged_intent_on_a_full_disk_does_not_prevent_opening_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_while(tmp_path, "s.write_intent('broken').wait(10); s.write_intent('at work').wait(10)")
    intents = tmp_path / "000" / "intents"
    intents.write_bytes(b"#" + intents.read_bytes()[1:])

    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool, delivered = Spool(tmp_path), Delivered()
    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", fail)
        spool.open()
    spool.close()
    spool.drain(delivered)

    assert set(delivered) == {"at work"}  # possibly delivered twice: the table stores it once
    spool.close()


def test_the_records_of_a_dead_process_are_drained_by_another_one(tmp_path: Path, spool: Spool) -> None:
    spool.append("mine")
    kill_while(spool.root, "s.append('theirs'); s.write_intent('interrupted').wait(10)")
    delivered = Delivered()

    assert spool.drain_orphans(delivered) == 2
    assert spool.drain_orphans(delivered) == 0

    assert delivered == ["theirs", "interrupted"]
    assert read_status(spool.root).records == 1


def test_two_open_spools_never_share_a_folder(tmp_path: Path) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    first.append("one")
    second.append("two")
    delivered = Delivered()

    assert second.drain_orphans(delivered) == 0
    second.drain(delivered)

    assert delivered == ["two"]
    first.close()
    second.close()


def test_requests_beyond_the_number_of_slots_get_no_intent(spool: Spool) -> None:
    intents = [written(spool, "note") for _ in range(SLOT_COUNT + 1)]

    assert intents[-1].slot is None
    spool.clear_intent(intents[-1])
    spool.clear_intent(intents[0])
    assert written(spool, "note").slot == intents[0].slot


def test_an_intent_that_is_too_long_gets_no_slot(spool: Spool) -> None:
    assert written(spool, "x" * 5000).slot is None


def test_files_are_accessible_only_to_their_owner(spool: Spool) -> None:
    spool.append("secret enough")

    modes = {path.name[-4:]: path.stat().st_mode & 0o777 for path in spool.root.rglob("*") if path.is_file()}

    assert set(modes.values()) == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (spool.root, *spool.root.iterdir())} == {0o700}


def put_a_file(root: Path) -> None:
    """Put a file where the spool should be."""
    root.write_text("")


def put_a_dangling_link(root: Path) -> None:
    """Put a dangling link there, as for a disk that is not mounted."""
    root.symlink_to(root.parent / "nowhere")


def put_a_folder_as_lock(root: Path) -> None:
    """Put a folder in place of the lock file."""
    (root / "000" / "lock").mkdir(parents=True)


def put_a_folder_as_intents(root: Path) -> None:
    """Put a folder in place of the intents file."""
    (root / "000" / "intents").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [put_a_file, put_a_dangling_link, put_a_folder_as_lock, put_a_folder_as_intents])
def test_a_folder_that_cannot_be_used_is_reported(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    spoil(tmp_path / "spool")
    spool = Spool(tmp_path / "spool")

    with pytest.raises(SpoolError, match=f"{spool.root} cannot be used: "):
        spool.append("anything")
    assert spool.write_intent("anything") is None
    assert spool.problem
    assert spool.lost_records == 1
    assert spool.drain_orphans(Delivered()) == 0


def test_a_folder_that_cannot_be_used_leaves_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool, descriptors = Spool(tmp_path), Path("/dev/fd")
    before = len(list(descriptors.iterdir()))
    monkeypatch.setattr(os, "pwrite", fail)

    for _ in range(3):
        assert spool.check()

    assert len(list(descriptors.iterdir())) == before


def test_a_record_is_reported_as_lost_while_the_system_has_no_thread_for_it(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", fail)
        intent = spool.write_intent("at work")
        assert intent is not None
        spool.clear_intent(intent)
        with pytest.raises(SpoolError, match="can't start new thread"):
            spool.append("lost")
    spool.append("kept")

    delivered = Delivered()
    spool.drain(delivered)
    assert delivered == ["kept"]


def test_a_child_process_locks_a_folder_of_its_own(spool: Spool) -> None:
    spool.append("parent")
    pid = os.fork()
    if pid == 0:
        spool.append("child")
        os._exit(0)
    os.waitpid(pid, 0)

    assert [path.parent.name for path in segments(spool)] == ["000", "001"]


def test_interrupted_intents_are_kept_until_the_disk_has_space(tmp_path: Path) -> None:
    kill_while(tmp_path, "s.write_intent('at work').wait(10)")
    full = Folder.try_lock(tmp_path / "000", quota_bytes=1)
    assert full is not None
    full.close()
    spool, delivered = Spool(tmp_path), Delivered()

    spool.drain(delivered)

    assert delivered == ["at work"]
    spool.close()


def test_the_status_counts_all_folders(tmp_path: Path, spool: Spool) -> None:
    assert read_status(spool.root) == read_status(tmp_path / "nothing here")
    spool.append(json.dumps({"a": 1}))
    other = Spool(spool.root)
    other.append("b")

    found = read_status(spool.root)

    assert (found.records, found.oldest is not None) == (2, True)
    assert found.bytes == sum(path.stat().st_size for path in segments(spool))
    other.close()


# --- Slow, frozen and vanished disks -------------------------------------------------------------------------------


class Gate:
    """Blocks functions of `os`, as a frozen disk does, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self._opened = threading.Event()
        self.entered = threading.Event()
        self.calls: list[str] = []
        for name in names:
            monkeypatch.setattr(os, name, self._blocked(name, getattr(os, name)))

    def _blocked(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            self.entered.set()
            assert self._opened.wait(10)
            return real(*arguments)

        return call

    def open(self) -> None:
        """End the wait of all calls."""
        self._opened.set()


@pytest.mark.parametrize("prepare", [Spool.open, lambda spool: (spool.append("first"), spool.drain(Delivered()))])
def test_a_record_waits_for_a_single_flush(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[Spool], object]
) -> None:
    prepare(spool)
    gate = Gate(monkeypatch, "fsync", "fdatasync")
    gate.open()

    spool.append("one")

    assert gate.calls == ["fdatasync"]


def test_an_attempt_goes_on_once_a_kill_would_leave_its_intent(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.spool.INTENT_TIMEOUT_S", 10)
    spool.open()
    gate = Gate(monkeypatch, "pwrite")
    intents: list[Intent | None] = []
    thread = threading.Thread(target=lambda: intents.append(spool.write_intent("at work")))
    thread.start()
    assert gate.entered.wait(10)

    assert intents == []
    gate.open()
    thread.join()

    [intent] = intents
    assert intent
    assert intent.slot is not None


def test_no_request_waits_for_a_frozen_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("project.spool.INTENT_TIMEOUT_S", 0.0)
    spool.open()
    gate = Gate(monkeypatch, "pwrite")

    first, second = spool.write_intent("first"), spool.write_intent("second")
    assert first
    assert second
    assert gate.entered.wait(10)
    spool.clear_intent(first)
    assert not first.wait(0)
    gate.open()

    assert second.wait(10)
    spool.clear_intent(second)
    spool.close()
    [intents] = spool.root.glob("*/intents")
    assert [at for at in range(SLOT_COUNT) if intents.read_bytes()[at * SLOT_BYTES]] == []


def test_a_record_for_which_the_disk_takes_too_long_is_reported_as_lost(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.open()
    gate, delivered = Gate(monkeypatch, "fdatasync"), Delivered()
    thread = threading.Thread(target=spool.append, args=("in the flush",))
    thread.start()
    assert gate.entered.wait(10)
    with pytest.raises(SpoolError, match="does not respond"):
        spool.append("in the queue", timeout_s=0)
    gate.open()
    spool.append("after")
    thread.join()

    spool.drain(delivered)

    assert spool.lost_records == 1
    assert delivered == ["in the flush", "after"]


def test_a_frozen_disk_is_reported_without_asking_it(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.open()
    gate = Gate(monkeypatch, "fdatasync")
    thread = threading.Thread(target=spool.append, args=("slow",))
    thread.start()
    assert gate.entered.wait(10)
    assert spool.fullness < 1

    monkeypatch.setattr("project.disk.STUCK_S", -1.0)

    assert spool.problem == "the spool's disk does not respond"
    with pytest.raises(SpoolError, match="does not respond"):
        _ = spool.fullness
    with pytest.raises(SpoolError, match="does not respond"):
        spool.append("refused at once")
    assert spool.write_intent("nobody waits for it") is None
    gate.open()
    thread.join()


def test_a_removed_folder_is_created_again(spool: Spool) -> None:
    delivered = Delivered()
    intent = written(spool, "in progress")
    spool.append("lost with the folder")
    shutil.rmtree(spool.root)

    assert spool.check() is None
    spool.append("one")
    shutil.rmtree(spool.root)
    spool.append("two")
    spool.clear_intent(intent)
    spool.drain(delivered)

    assert delivered == ["two"]


def test_a_full_disk_is_noticed_before_a_record_needs_it(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert spool.check() is None
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", fail)
        assert spool.check() == spool.problem == "the spool's disk failed: No space left on device"

    assert spool.check() is None
    assert spool.problem is None


def test_after_a_failed_flush_the_disk_is_unusable_until_a_flush_succeeds(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", fail)
        with pytest.raises(SpoolError):
            spool.append("doubtful")
        assert spool.check()
        assert spool.problem

    assert spool.check() is None


def test_a_postponed_record_stays_and_the_others_are_delivered(spool: Spool) -> None:
    delivered = Delivered()
    for record in ("one", "late", "poison", "two"):
        spool.append(record)

    assert (spool.drain(delivered), spool.drain(delivered)) == (3, 0)

    assert delivered == ["one", "two"]
    assert (read_status(spool.root).records, read_status(spool.root).quarantined) == (1, 1)
    assert spool.has_records()
    assert spool._folder
    assert spool._folder.size == segments(spool)[0].stat().st_size


def test_records_of_a_segment_whose_renaming_was_lost_are_delivered(tmp_path: Path) -> None:
    kill_while(tmp_path, "s.append('kept')")
    [segment] = (tmp_path / "000").glob("*[0-9].log")
    segment.rename(tmp_path / "000" / "next")
    spool, delivered = Spool(tmp_path), Delivered()

    spool.drain(delivered)

    assert delivered == ["kept"]
    spool.close()


def test_the_status_is_counted_again_only_as_far_as_files_have_changed(spool: Spool) -> None:
    for record in ("one", "late"):
        spool.append(record)
        spool.check()
        assert spool.status == read_status(spool.root)

    spool.drain(Delivered())
    spool.check()

    assert spool.status == read_status(spool.root)
    assert spool.status.records == 1
