"""Downloads: the attempts that a page shows, all of them, under the same filter."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from threading import BoundedSemaphore

from flask import Response, request
from flask.typing import ResponseReturnValue

from project.domain.errors import RefusalError
from project.domain.reports import Count, Report
from project.exporters import STREAMS
from project.exporters.names import file_name
from project.http import rate_limits
from project.http.languages import display_zone
from project.http.request_state import request_state
from project.presentation.formats import translations
from project.presentation.headings import heading
from project.presentation.selection import parse_selection_strictly
from project.reports.routes import bp
from project.runtime import get_runtime
from project.services import reports as service

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Exports at a time in one process: a third would take the threads of /useradd."""
PIECE = 256 * 1024
TYPES = {
    "txt": "text/plain; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}

_places = BoundedSemaphore(AT_ONCE)


@bp.get("/results/export.<any(txt, xlsx, csv):ending>")
def export(ending: str) -> ResponseReturnValue:
    """Send the chosen attempts as a file."""
    return _export(ending)


@bp.get("/api/v1/download-txt/")
def download_txt() -> ResponseReturnValue:
    """The same under its address in the Django version of this service."""
    return _export("txt")


@bp.get("/api/v1/download-xlsx/")
def download_xlsx() -> ResponseReturnValue:
    """The same under its address in the Django version of this service."""
    return _export("xlsx")


def _export(ending: str) -> Response:
    """Begin to send the file; its attempts are counted when its first bytes are on their way.

    What a search finds is counted before: that may take too long, and whoever searches must be told.

    The length is not announced: that of a packed file is known when its last byte is, and to add up that of a text
    PostgreSQL would have to write it twice. The page tells beforehand what to expect.
    """
    rate_limits.consume_for_reader(rate_limits.EXPORTS)
    now = datetime.now(UTC)
    selection = parse_selection_strictly(request.args, display_zone(), now)
    with _place() as place:
        begun = service.open_export(get_runtime().read_database, selection.filter, selection.zone, now)
        count = _count(begun, ending)
        if selection.filter.text:
            counted = count()
            count = lambda: counted  # noqa: E731
        lines = partial(service.iter_blocks, get_runtime().read_database, begun)
        top = heading(selection, begun, request_state().account.username, now)
        response = Response(_pieces(STREAMS[ending](count, lines, top, translations())))
        disposition = f'attachment; filename="{file_name(begun, ending)}"'
        response.headers.update({"Content-Type": TYPES[ending], "Content-Disposition": disposition})
        response.call_on_close(place.pop_all().close)
    return response


def _count(begun: Report, ending: str) -> Count:
    """Return what counts the attempts, and notes who gets them, when the request is over."""
    database = get_runtime().read_database
    known = {
        "user_id": str(request_state().account.id),
        "format": ending,
        "request_id": str(request_state().request_id),
    }

    def count() -> Report:
        report = service.count_export(database, begun)
        log.info("export", extra=known | {"rows": report.total})
        return report

    return count


def _pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut blocks, so that the server keeps little of what it cannot send yet."""
    for block in blocks:
        for start in range(0, len(block), PIECE):
            yield block[start : start + PIECE]


def _place() -> ExitStack:
    """Take one of the places for exports. It is given back when the answer is over, whichever way that ends."""
    if not _places.acquire(blocking=False):
        raise RefusalError("exports_busy")
    place = ExitStack()
    place.callback(_places.release)
    return place
