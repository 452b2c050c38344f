"""File locks of the embedded PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from project.embedded import locks


def test_the_wait_for_a_lock_that_a_frozen_process_holds_has_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(path: Path) -> None:
        with locks.locked(path):
            pass

    monkeypatch.setattr(locks, "LOCK_TIMEOUT_S", 0)
    path = tmp_path / "start.lock"
    with ThreadPoolExecutor() as threads, locks.locked(path):  # the thread ends after the block, whatever happens
        error = threads.submit(wait, path).exception(30)

    assert "another process has held" in str(error)
