"""Gzip compression of pages and static text files.

A page contains a secret, the CSRF token, and the search text, which an attacker may choose: the compressed length could
reveal the token (BREACH). A gzip header of random length hides the length, as in Django 4.2, and SameSite cookies
prevent cross-site requests.
"""

import gzip
import io
import secrets
from functools import lru_cache

from flask import Flask, Response, request

COMPRESSED_TYPES = frozenset({"text/html", "text/css", "text/javascript", "image/svg+xml"})
MIN_BYTES = 1000
"""Minimum number of bytes of a body that is compressed. A shorter one fits into one TCP packet anyway."""
MAX_PADDING = 100
"""Maximum number of random bytes in the gzip header of a page."""
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
        response.set_etag(response.get_etag()[0] or "", weak=True)  # the same file in another encoding
    else:
        response.set_data(_compress_page(response.get_data()))
    response.content_encoding = "gzip"
    return response


def _compress_page(text: bytes) -> bytes:
    packed = io.BytesIO()
    padding = "x" * secrets.randbelow(MAX_PADDING)
    with gzip.GzipFile(padding, "wb", COMPRESSION_LEVEL, packed, mtime=0) as file:
        file.write(text)
    return packed.getvalue()


@lru_cache(maxsize=64)
def _compress_file(content: bytes) -> bytes:
    return gzip.compress(content, COMPRESSION_LEVEL, mtime=0)
