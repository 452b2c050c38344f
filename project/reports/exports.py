"""Exports: downloads of the attempts that match the reader's selection."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from threading import BoundedSemaphore
from urllib.parse import unquote_plus

from flask import Response, request
from waitress.channel import ClientDisconnected

from project.domain.audit import Action, ActorKind, NewEntry
from project.domain.errors import RefusalError
from project.domain.masking import mask
from project.domain.reports import CountAttempts, Report
from project.exporters import RAW_STREAMS, STREAMS
from project.exporters.names import file_name
from project.http import rate_limits
from project.http.guards import api_key_allowed, bearer_token
from project.http.query_parameters import read_boolean
from project.http.request_state import request_state
from project.http.translations import gettext
from project.presentation.formats import translations
from project.presentation.headings import file_heading
from project.presentation.selection import PARAMETERS, Selection, parse_selection_strictly
from project.reports.routes import bp, read_selection
from project.runtime import get_runtime
from project.services import reports as service

log = logging.getLogger(__name__)

MAX_CONCURRENT = 2
"""Maximum number of concurrent exports per process: more would take threads from /useradd."""
CHUNK = 256 * 1024
"""Maximum number of bytes that are passed to the server at a time."""
MEDIA_TYPES = {
    "txt": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

SLOW_S, SLOW_BYTES_PER_S = 60, 64 * 1024
"""A download is aborted if it has waited for its client for more than SLOW_S seconds in total, sent less than
SLOW_BYTES_PER_S bytes per second of waiting, and another download was refused since it began."""

_permits = BoundedSemaphore(MAX_CONCURRENT)


class _LastRefusal:
    """The time of the last refused download, by time.monotonic()."""

    at = -math.inf


_last_refusal = _LastRefusal()


@bp.get("/results/export.<any(txt, xlsx, csv):extension>")
@bp.get("/api/v1/download-txt/", endpoint="download_txt", defaults={"extension": "txt"})
@bp.get("/api/v1/download-xlsx/", endpoint="download_xlsx", defaults={"extension": "xlsx"})
@api_key_allowed
def export(extension: str) -> Response:
    """Stream a file with the selected attempts. Raises RefusalError.

    Attempts are counted while the file is sent; for a search, before: counting may time out then, and the response has
    to be an error. There is no Content-Length: the length of a compressed file is known only at its end, and for a text
    file PostgreSQL would have to produce the lines twice. /api/v1/download-* are addresses of the former Django version
    of this service.
    """
    rate_limits.consume_for_reader(rate_limits.EXPORT_LIMIT)
    raw = ("raw",) if extension in RAW_STREAMS else ()
    selection = read_selection(parse_selection_strictly, known=(*PARAMETERS, "lang", *raw))
    stream = (RAW_STREAMS if read_boolean(request.args, "raw") else STREAMS)[extension]
    if not _permits.acquire(blocking=False):
        _last_refusal.at = time.monotonic()
        raise RefusalError("exports_busy")
    with ExitStack() as stack:
        stack.callback(_permits.release)
        report = service.open_export(get_runtime().read_database, selection.filter, selection.zone, selection.now)
        count = cache(_make_counter(report, extension, selection))
        if selection.filter.is_search:
            count()
        lines = partial(service.iter_blocks, get_runtime().read_database, report)
        heading = file_heading(selection, report, _requester_name(), selection.now)
        response = Response(_chunks(stream(count, lines, heading, translations())))
        disposition = f'attachment; filename="{file_name(report, extension)}"'
        response.headers.update({"Content-Type": MEDIA_TYPES[extension], "Content-Disposition": disposition})
        response.call_on_close(stack.pop_all().close)
    return response


def _requester_name() -> str:
    """Return the login of the user who requested the export, or the label `API key`."""
    reader = request_state().reader
    return gettext("API key") if reader is None else reader.username


def _audit_entry(selection: Selection, extension: str) -> NewEntry:
    """Return the audit log entry of a download. Its filter contains no unmasked contacts."""
    reader, token = request_state().reader, bearer_token()
    values = {
        "format": extension,
        "filter": unquote_plus(selection.query_string(q=mask(selection.filter.text) or None)[1:]),
    }
    details: dict[str, str | int] = {name: value for name, value in values.items() if value}
    if reader is not None:
        return NewEntry.by_user(Action.DOWNLOADED, reader.id, details=details)
    key_id = get_runtime().api_keys.find_cached_id(token) if token else None
    return NewEntry(action=Action.DOWNLOADED, actor_kind=ActorKind.API_KEY, actor_id=key_id, details=details)


def _make_counter(report: Report, extension: str, selection: Selection) -> CountAttempts:
    """Return a function that counts the attempts, also after the request.

    The function logs the export and queues its audit entry.
    """
    database, state = get_runtime().read_database, request_state()
    entry = _audit_entry(selection, extension)
    activity = get_runtime().activity
    requester = {"client": rate_limits.rate_limit_key()} if state.reader is None else {"user_id": str(state.reader.id)}
    fields = {**requester, "format": extension, "request_id": str(state.request_id)}

    def count() -> Report:
        counted = service.add_export_counts(database, report)
        log.info("export", extra=fields | {"rows": counted.total})
        activity.add(replace(entry, details={**entry.details, "rows": counted.total}))
        return counted

    return count


def _chunks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Split blocks into small chunks, so that the server buffers little for a slow client.

    Raises ClientDisconnected to abort the download of a slow client, as SLOW_S describes.
    """
    began, waited_s, sent = time.monotonic(), 0.0, 0
    for block in blocks:
        for start in range(0, len(block), CHUNK):
            chunk, before = block[start : start + CHUNK], time.monotonic()
            yield chunk
            waited_s, sent = waited_s + time.monotonic() - before, sent + len(chunk)
            if waited_s > SLOW_S and sent < waited_s * SLOW_BYTES_PER_S and _last_refusal.at > began:
                raise ClientDisconnected
