"""Administration pages that create users from an uploaded file."""

import io
from pathlib import PurePath
from uuid import UUID

from flask import Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _
from wtforms import BooleanField, Form

from project.admin.confirmation import Confirmation, ConfirmForm, reauthenticate, render_confirmation
from project.admin.routes import bp
from project.contract.import_runner import MAX_FILE_BYTES, MAX_ROWS, get_import_runner
from project.contract.import_texts import cells_and_messages, file_text, refused_cells, refused_headers, stored_source
from project.domain.imports import ImportRun, ImportState
from project.domain.text import clean
from project.exporters.tables import BYTE_ORDER_MARK, CREDENTIALS, csv_line, open_csv_table, open_xlsx_table
from project.extensions import csrf
from project.http import reauthentication
from project.http.query_parameters import page_parameters
from project.http.request_state import request_state
from project.http.translations import gettext, language_code
from project.importers import FileError, Note, Row, is_remark_header
from project.presentation.formats import format_number
from project.runtime import get_runtime
from project.services import imports as service

UPLOAD_PATH = "/admin/imports/new/"
MAX_SHOWN_ROWS = 100
"""Maximum number of refused rows on a page; the download contains all refused rows."""
MAX_FILE_NAME_LENGTH = 200
MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
DOWNLOAD_CREDENTIALS = Confirmation(
    _("Download the passwords of “%(name)s”?"),
    _("The file is made once: the service stores only hashes. Keep it safe, pass the passwords on and delete it."),
    _("Download"),
)


class UploadForm(Form):
    """A form that uploads a file. The file itself is in request.files."""

    ignore_unknown = BooleanField(_("Ignore columns with unknown names"))


@bp.get("/imports/")
@page_parameters()
def imports() -> str:
    """List the newest 100 imports. Imports are deleted after 24 hours."""
    runs = service.find_imports(get_runtime().read_database.primary)
    return render_template("admin/imports.html", runs=runs)


@bp.route("/imports/new/", methods=["GET", "POST"])
@page_parameters()
def new_import() -> ResponseReturnValue:
    """Show the upload form (GET), or store a file and wake the thread that validates it (POST).

    The view checks the CSRF token itself, because CSRFProtect would read the body before access control has run and the
    limit of the body's size is raised.
    """
    if request.method != "POST":
        return _upload_page(UploadForm())
    request.max_content_length = MAX_FILE_BYTES
    csrf.protect()
    form, file = UploadForm(request.form), request.files.get("file")
    if file is None or not file.filename:
        return _upload_page(form, gettext("Choose a file.")), 422
    name = clean(PurePath(file.filename.replace("\\", "/")).name, MAX_FILE_NAME_LENGTH)
    by = request_state().account.id
    ignore_unknown = bool(form.ignore_unknown.data)
    import_id = service.create_import(get_runtime().database, by, name, file.read(), ignore_unknown=ignore_unknown)
    get_import_runner().wake()
    return redirect(url_for("admin.show_import", import_id=import_id))


csrf.exempt(new_import)


def _upload_page(form: UploadForm, error: str = "") -> str:
    return render_template("admin/new_import.html", form=form, error=error, max_rows=MAX_ROWS, max_size=MAX_FILE_BYTES)


@bp.route("/imports/<uuid:import_id>/", methods=["GET", "POST"])
@page_parameters()
def show_import(import_id: UUID) -> ResponseReturnValue:
    """Show the progress and result of an import (GET), or start creating its users (POST).

    POST only redirects if the import is not checked or has been started.
    """
    form, run = ConfirmForm(request.form), _find_import(import_id)
    if request.method != "POST":
        return _render_import(run, form)
    if run.state is ImportState.CHECKED:
        if not reauthenticate(form):
            return _render_import(run, form), 422
        service.start_import(get_runtime().database, get_runtime().passwords, import_id, request_state().account.id)
        get_import_runner().wake()
    return redirect(url_for("admin.show_import", import_id=import_id))


@bp.route("/imports/<uuid:import_id>/credentials/", methods=["GET", "POST"])
def import_credentials(import_id: UUID) -> ResponseReturnValue:
    """Ask for confirmation (GET), or send the credentials of an import as CSV, once (POST).

    Redirects to the import if it is not done or its credentials were downloaded before. A password is empty if the user
    has changed it or its secret is no longer configured. Raises RefusalError if the secret of the import is not.
    """
    form, run = ConfirmForm(request.form), _find_import(import_id)
    if run.credentials_at is not None or run.state is not ImportState.DONE:
        return redirect(url_for("admin.show_import", import_id=import_id))
    if request.method != "POST" or not reauthenticate(form):
        return render_confirmation(
            DOWNLOAD_CREDENTIALS, run.file_name, url_for("admin.show_import", import_id=import_id), form
        )
    runtime = get_runtime()
    issued = service.download_credentials(runtime.database, runtime.passwords, run, request_state().account.id)
    delimiter = _delimiter()
    lines = [csv_line(cells, delimiter) for cells in (CREDENTIALS, *issued)]
    return _file_response(BYTE_ORDER_MARK + b"".join(lines), "csv", "passwords")


@bp.get("/imports/<uuid:import_id>/refused.<any(csv, xlsx):extension>")
@page_parameters()
def refused_rows(import_id: UUID, extension: str) -> Response:
    """Send the refused rows of a file, with an additional column `What to fix`."""
    run, file = _find_import(import_id), io.BytesIO()
    source = stored_source(run)
    rows = service.find_refused_rows(get_runtime().read_database.primary, import_id)
    opened = open_xlsx_table(file) if extension == "xlsx" else open_csv_table(file, _delimiter(), has_mark=True)
    with opened as write:
        write(refused_headers(source))
        for row in rows:
            if row.refusal:
                write(refused_cells(source, Row(row.number, row.cells, {}, row.refusal, 0), row.refusal))
    return _file_response(file.getvalue(), extension, "refused")


def _render_import(run: ImportRun, form: ConfirmForm) -> str:
    source = stored_source(run)
    rows = service.find_refused_rows(get_runtime().read_database.primary, run.id, MAX_SHOWN_ROWS)
    return render_template(
        "admin/import.html",
        run=run,
        form=form,
        error=_error_text(run),
        notes=[file_text(Note(note["code"], note["params"])) for note in run.notes],
        headers=[header for header in run.headers if not is_remark_header(header)],
        refused=[(row, *cells_and_messages(source, row.cells, row.refusal)) for row in rows if row.refusal],
        asks_password=reauthentication.is_required(),
    )


def _error_text(run: ImportRun) -> str:
    """Return the reason why the file of an import cannot be read, or "" if it can."""
    if run.error is None:
        return ""
    code, params = run.error["code"], dict(run.error["params"])
    if "limit" in params:
        params["limit"] = format_number(params["limit"])
    return file_text(FileError("unknown_columns_of_upload" if code == "unknown_columns" else code, **params))


def _find_import(import_id: UUID) -> ImportRun:
    return service.get_import(get_runtime().read_database.primary, import_id)


def _delimiter() -> str:
    return ";" if language_code() == "ru" else ","


def _file_response(content: bytes, extension: str, name: str) -> Response:
    response = Response(content, content_type=MEDIA_TYPES[extension])
    response.headers["Content-Disposition"] = f"attachment; filename={name}.{extension}"
    response.headers["Cache-Control"] = "no-store"
    return response
