"""Writes the output files of `flask users import`: credentials and refused rows."""

import csv
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from project.domain.registration import Credentials
from project.exporters.tables import BYTE_ORDER_MARK, CREDENTIALS, WriteRow, csv_line, open_csv_table, open_xlsx_table
from project.http.translations import gettext


class CredentialsFile:
    """A CSV file to which credentials are appended, each only once.

    Credentials that the file already contains are recognized by digests of login and password, kept in memory. If a
    process was killed while it was writing, the next process removes the incomplete last line.
    """

    def __init__(self, file: BinaryIO, path: Path, *, is_for_excel: bool) -> None:
        """Read the existing lines of the file, or write the headers into an empty file.

        Raises UsageError if the file has other columns.
        """
        self._file = file
        self._written: set[bytes] = set()
        self._delimiter = ";" if is_for_excel else ","
        self._read(path)
        if not self._file.tell():
            self._file.write((BYTE_ORDER_MARK if is_for_excel else b"") + csv_line(CREDENTIALS, self._delimiter))
        self._file.flush()

    def append(self, issued: Sequence[Credentials]) -> None:
        """Append the credentials that are not in the file yet, and flush them."""
        for credentials in issued:
            user = credentials.user
            cells = (user.name, credentials.login, credentials.password, user.phone or "", user.email or "")
            digest = _digest(cells[1], cells[2])
            if digest not in self._written:
                self._written.add(digest)
                self._file.write(csv_line(cells, self._delimiter))
        self._file.flush()

    def _read(self, path: Path) -> None:
        """Read the existing lines, cut off an incomplete last line, and seek to the end.

        Raises UsageError if the file has other columns.
        """
        end = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break
            text = line.decode("utf-8-sig", "replace")
            if number == 0:
                self._delimiter = max(",;", key=text.count)
            [cells] = csv.reader([text], delimiter=self._delimiter)
            if number == 0 and tuple(cells) != CREDENTIALS:
                message = gettext("%(file)s has other columns: name a new file for the credentials.", file=str(path))
                raise click.UsageError(message)
            if len(cells) == len(CREDENTIALS):
                self._written.add(_digest(cells[1].removeprefix("'"), cells[2]))
            end += len(line)
        self._file.seek(end)
        self._file.truncate()


def _digest(login: str, password: str) -> bytes:
    return hashlib.blake2b(f"{login}\0{password}".encode(), digest_size=16).digest()


@contextmanager
def open_credentials(path: Path, *, is_for_excel: bool) -> Iterator[CredentialsFile]:
    """Open or create a file of credentials, readable only by its owner; sync it when closed.

    Raises ClickException if the file is in use or has other columns, OSError if it cannot be opened.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        os.fchmod(file.fileno(), 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(gettext("%(file)s is in use by another import.", file=str(path))) from None
        try:
            yield CredentialsFile(file, path, is_for_excel=is_for_excel)
        finally:
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def open_refused(path: Path, *, is_for_excel: bool) -> Iterator[WriteRow]:
    """Create the file of refused rows, .csv or .xlsx; yield a function that writes a row.

    Raises OSError.
    """
    with path.open("wb") as file:
        if path.suffix.lower() == ".xlsx":
            with open_xlsx_table(file) as write:
                yield write
        else:
            with open_csv_table(file, ";" if is_for_excel else ",", has_mark=is_for_excel) as write:
                yield write
