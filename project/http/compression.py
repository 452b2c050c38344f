"""Gzip compression of pages and static text files.

A page contains a secret (the CSRF token) and text that an attacker may choose (the search), so its compressed length
could reveal the token (BREACH). As in Django 4.2, a gzip header of random length hides the length of a page. SameSite
cookies prevent cross-site requests.
"""

import gzip
import io
import secrets
from functools import lru_cache

from flask import Flask, Response, request

COMPRESSED_TYPES = frozenset({"text/html", "text/css", "text/javascript", "image/svg+xml"})
MIN_BYTES = 1000
"""Length in bytes from which a body is compressed. A shorter body fits into one TCP packet."""
MAX_PADDING = 100
"""Upper bound of the random length, in bytes, of the file name in the gzip header of a page."""
COMPRESSION_LEVEL = 6


def init_app(app: Flask) -> None:
    """Register the compression of responses."""
    app.after_request(_compress)


def _compress(response: Response) -> Response:
    media_type = response.headers.get("Content-Type", "").partition(";")[0]
    if media_type not in COMPRESSED_TYPES or response.status_code in {204, 206, 304}:
        return response
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings["gzip"] or (response.content_length or 0) < MIN_BYTES:
        return response
    response.direct_passthrough = False
    if request.endpoint == "static":
        response.set_data(_compress_file(response.get_data()))
        response.set_etag(response.get_etag()[0] or "", weak=True)  # weak: the bytes differ between encodings
    else:
        response.set_data(_compress_page(response.get_data()))
    response.content_encoding = "gzip"
    return response


def _compress_page(content: bytes) -> bytes:
    packed = io.BytesIO()
    padding = "x" * secrets.randbelow(MAX_PADDING)
    with gzip.GzipFile(padding, "wb", COMPRESSION_LEVEL, packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()


@lru_cache(maxsize=64)
def _compress_file(content: bytes) -> bytes:
    return gzip.compress(content, COMPRESSION_LEVEL, mtime=0)
