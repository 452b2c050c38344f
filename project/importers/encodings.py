"""Detects the encoding of a text file, and checks the file before its first row is read."""

import codecs
import io
from typing import BinaryIO

from project.domain.encodings import guess_encoding
from project.importers.rows import FileError

_CHUNK_BYTES = 1024 * 1024
_SAMPLE_BYTES = 64 * 1024
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_text(file: BinaryIO) -> io.TextIOWrapper:
    """Return the file as a text stream whose line endings are all read as LF.

    Raises FileError unless the encoding is UTF-8, or UTF-16 with a byte order mark (Excel's "Unicode text").
    """
    encoding = "utf-16" if file.read(2) in _UTF16_MARKS else "utf-8-sig"
    file.seek(0)
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    while chunk := file.read(_CHUNK_BYTES):
        try:
            line += decoder.decode(chunk).count("\n")
        except UnicodeDecodeError as error:
            raise _encoding_error(chunk, line + chunk.count(b"\n", 0, error.start)) from None
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise FileError("cut_character", line=line) from None
    file.seek(0)
    return io.TextIOWrapper(file, encoding=encoding)


def _encoding_error(chunk: bytes, line: int) -> FileError:
    guess = guess_encoding(chunk[:_SAMPLE_BYTES])
    return FileError("encoding", line=line, encoding=guess) if guess else FileError("not_utf8", line=line)
