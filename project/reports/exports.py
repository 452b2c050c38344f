"""Downloads: the attempts that a page shows, all of them, under the same filter."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from threading import BoundedSemaphore

from flask import Response, g, request
from flask.typing import ResponseReturnValue

from project.domain.errors import RefusalError
from project.exporters import STREAMS
from project.exporters.names import file_name
from project.reports.routes import bp
from project.services import reports as service
from project.web import limits
from project.web.choices import read_exactly
from project.web.formats import words
from project.web.headings import heading
from project.web.languages import display_zone
from project.web.tools import tools

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Exports at a time in one process: a third would take the threads of /useradd."""
PIECE = 128 * 1024
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
    """Begin to send the file.

    Its length is not announced: that of a packed file is known when its last byte is, and to add up that of a text
    PostgreSQL would have to write it twice. The page tells beforehand what to expect.
    """
    limits.spend_reader(limits.EXPORTS)
    now = datetime.now(UTC)
    choice = read_exactly(request.args, display_zone(), now)
    with _place() as place:
        report = service.build_export(tools().reading, choice.filter, choice.zone, now)
        top = heading(choice, report, g.reader.username, now)
        log.info("export", extra={"user_id": str(g.reader.account.id), "format": ending, "rows": report.total})
        lines = partial(service.iter_blocks, tools().reading, report)
        response = Response(_pieces(STREAMS[ending](report, lines, top, words())))
        disposition = f'attachment; filename="{file_name(report, ending)}"'
        response.headers.update({"Content-Type": TYPES[ending], "Content-Disposition": disposition})
        response.call_on_close(place.pop_all().close)
    return response


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
