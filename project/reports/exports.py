"""Downloads: the attempts that a page shows, all of them, under the same filter."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from tempfile import TemporaryFile
from threading import BoundedSemaphore
from typing import BinaryIO

from flask import Flask, Response, current_app, g, request
from flask.typing import ResponseReturnValue

from project.domain.errors import RefusalError
from project.domain.reports import Report
from project.exporters import csv, text, xlsx
from project.exporters.names import file_name
from project.exporters.words import Heading, Words
from project.outage import own_deadlines
from project.reports import wording
from project.reports.routes import bp
from project.reports.schemas import read_exactly
from project.services import reports as service
from project.web.formats import words
from project.web.languages import display_zone
from project.web.tools import tools

log = logging.getLogger(__name__)

AT_ONCE = 2
"""Exports at a time in one process: a third would take the threads of /useradd."""
BLOCK = 64 * 1024
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
    now = datetime.now(UTC)
    choice = read_exactly(request.args, display_zone(), now)
    with _place() as place:
        report = service.build_report(tools().reading, choice.filter, choice.zone, now, days=True)
        heading = wording.heading(choice, report, g.reader.username, now)
        log.info("export", extra={"user_id": str(g.reader.account.id), "format": ending, "rows": report.total})
        disposition = f'attachment; filename="{file_name(report, ending)}"'
        response = _WRITERS[ending](current_app._get_current_object(), report, heading, words())  # type: ignore[attr-defined]
        response.headers.update({"Content-Type": TYPES[ending], "Content-Disposition": disposition})
        response.call_on_close(place.pop_all().close)
    return response


def _place() -> ExitStack:
    """Take one of the places for exports. It is given back when the answer is over, whichever way that ends."""
    if not _places.acquire(blocking=False):
        raise RefusalError("exports_busy")
    place = ExitStack()
    place.callback(_places.release)
    return place


def _text(app: Flask, report: Report, heading: Heading, voice: Words) -> Response:
    rows = service.iter_attempts(tools().reading, report)
    return Response(_within(app, text.stream(report, rows, heading, voice)))


def _csv(app: Flask, report: Report, heading: Heading, voice: Words) -> Response:
    return Response(_within(app, csv.stream(report, service.iter_attempts(tools().reading, report))))


def _xlsx(app: Flask, report: Report, heading: Heading, voice: Words) -> Response:
    """Write the workbook to a file without a name, then send it: a broken one is never begun."""
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(TemporaryFile(prefix="useradd-"))
        with own_deadlines():
            xlsx.write(report, service.iter_attempts(tools().reading, report), file, heading, voice)
        size = file.tell()
        file.seek(0)
        response = Response(iter(partial(file.read, BLOCK), b""))
        response.content_length = size
        response.call_on_close(stack.pop_all().close)
    return response


_WRITERS: dict[str, Callable[[Flask, Report, Heading, Words], Response]] = {"txt": _text, "csv": _csv, "xlsx": _xlsx}


def _within(app: Flask, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield blocks that are made inside the application: a stream goes on when its request is over."""
    while True:
        with app.app_context():
            block = next(blocks, None)
        if block is None:
            return
        yield block
