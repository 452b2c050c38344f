"""Tests of the files of the embedded PostgreSQL."""

import errno
import os
from pathlib import Path

import pytest

from project.embedded.data_directory import write_atomically


def test_a_file_is_replaced_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "port"
    write_atomically(path, "20001")

    write_atomically(path, "20002")

    assert (path.read_text(), path.stat().st_mode & 0o777) == ("20002", 0o600)


def test_a_disk_that_cannot_store_a_file_leaves_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "port"
    write_atomically(path, "20001")

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "20002")

    assert [file.read_text() for file in tmp_path.iterdir()] == ["20001"]
