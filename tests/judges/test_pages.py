"""Every page in both languages is valid for the Nu Html Checker (validator.w3.org)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask, template_rendered
from flask.testing import FlaskClient

from project.contract.error_codes import FIELD_CODES, PROBLEMS
from project.domain.errors import DatabaseUnavailableError, FieldError
from project.http import reauthentication
from project.services import reports as service
from tests.builders import ANNA, HTML, useradd
from tests.conftest import ROOT, Rows
from tests.functional.attempts import INVALID_PHONE, ago, keep
from tests.functional.test_admin_imports import upload
from tests.judges.programs import run_java

CHECKER = "vnu-jar/build/dist/vnu.jar"
TEMPLATES = ROOT / "project" / "templates"
PARTS = ("macros/", "layout/", "base.html", "admin/frame.html", "admin/list.html")
"""Templates that are never a whole page, in addition to those whose names begin with an underscore."""
PAGES = (
    "/results/",
    "/results/?period=all&result=rejected&code=invalid_phone&status=422&q=anna&tz=UTC",
    "/results/?period=today&q=long.ago",
    "/results/?period=dates&from=2024-01-02&to=2024-01-01",
    "/results/?address=127.0.0.1&client=Werkzeug",
    "/results/?period=nonsense",
    "/problems/",
    "/swagger/",
    "/nowhere/",
    "/useradd",
    "/account/",
    "/state/",
    "/logout/",
    "/admin/",
    "/admin/users/",
    "/admin/users/?search=nobody",
    "/admin/api-keys/",
    "/admin/audit/",
    "/admin/api-keys/new/",
    "/admin/nowhere/",
    *(f"/problems/{code}" for code in (*PROBLEMS, *FIELD_CODES)),
)
USER_PAGES = ("", "block/", "grant/", "reset/")
ERRORS = (INVALID_PHONE, FieldError("<b>&", "unknown_field"), FieldError("name", "blank"))


class Pages:
    """Fetches pages and keeps them as files, named after their addresses."""

    def __init__(self, client: FlaskClient, folder: Path, language: str) -> None:
        self._client = client
        self._folder = folder
        self._language = language

    def get(self, address: str, note: str = "") -> str:
        """Keep a page and return it."""
        return self._keep(address, note, "GET")

    def post(self, address: str, note: str, **form: str) -> str:
        """Submit the form on a page, follow redirects, keep and return the answer."""
        hidden = dict(re.findall(r'name="(csrf_token|once)" value="([^"]*)"', self.get(address)))
        return self._keep(address, note, "POST", data=hidden | form, follow_redirects=True)

    def _keep(self, address: str, note: str, method: str, **options: Any) -> str:
        headers = {**HTML, "Accept-Language": self._language}
        response = self._client.open(address, method=method, headers=headers, **options)
        assert response.mimetype == "text/html", address
        assert response.status_code not in {301, 302, 303}, address
        name = f"{self._language} {method} {address} {note}".strip().replace("/", "∕")
        (self._folder / f"{name}.html").write_bytes(response.data)
        return response.text


@pytest.fixture
def rendered(app: Flask) -> Iterator[set[str]]:
    """The names of the templates that are rendered during a test."""
    names: set[str] = set()

    def add(_: Flask, template: Any, **__: object) -> None:
        names.add(template.name)

    with template_rendered.connected_to(add, app):
        yield names


@pytest.fixture
def addresses(app: Flask, administrator: FlaskClient, rows: Rows) -> list[str]:
    """Addresses of all pages, with data of every kind."""
    rows.query("insert into api_keys (id, name, key_hash) values (gen_random_uuid(), 'shop <front>', 'x')")
    rows.query("update api_keys set last_used = current_date")
    rows.query("insert into api_keys (id, name, key_hash, revoked_at) values (gen_random_uuid(), 'old', 'y', now())")
    for minute in range(30):
        keep(
            app, ago(minutes=minute), username=f"somebody.{minute}", phone="+7 9•• •••-••-67", email="a•••@example.org"
        )
    kept = [
        keep(app, ago(days=20), username="long.ago"),
        keep(app, ago(minutes=2), status=503, code="database_unavailable", username=None, name=None),
        keep(app, ago(minutes=2), status=200, code="dry_run"),
        keep(app, ago(minutes=1), status=422, code="validation_failed", errors=ERRORS, phone="1", username="<i>&amp;"),
        keep(app, ago(minutes=1), status=0, code="interrupted"),
    ]
    user = useradd(app.test_client(), ANNA).get_json()["user"]["id"]
    key = rows.of("api_keys")[0]["id"]
    imported = upload(administrator, "username;phone\nby.import;+79991234500\n;1\n").location
    return [
        *PAGES,
        *("/admin/imports/", "/admin/imports/new/", imported),
        *(f"/admin/users/{user}/{page}" for page in USER_PAGES),
        f"/admin/api-keys/{key}/revoke/",
        *(f"/results/{attempt}/" for attempt in kept),
    ]


def test_every_page_in_both_languages_is_valid_html(
    app: Flask,
    administrator: FlaskClient,
    addresses: list[str],
    rendered: set[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for language in ("ru", "en"):
        visit_as_administrator(Pages(administrator, tmp_path, language), addresses, monkeypatch)
        with app.app_context():  # of its own: `g` keeps the administrator
            visit_as_anybody(Pages(app.test_client(), tmp_path, language))

    report = json.loads(run_java(CHECKER, "--format", "json", "--stdout", "--exit-zero-always", tmp_path))

    assert sorted(whole_pages() - rendered) == []
    assert len(list(tmp_path.iterdir())) > 2 * len(PAGES)
    assert not report["messages"], "\n".join(findings(report["messages"]))


def visit_as_administrator(pages: Pages, addresses: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each page, the answers to forms, and what is shown while PostgreSQL is unavailable."""
    for address in addresses:
        pages.get(address)
    user = next(address for address in addresses if address.endswith("/reset/"))
    assert 'id="secret"' in pages.post(user, "new password")
    assert 'id="secret"' in pages.post("/admin/api-keys/new/", "new key", name="shop")
    pages.post("/admin/api-keys/new/", "without a name", name=" ")
    pages.post("/account/", "wrong", current="wrong", new="short", confirmation="other")
    with monkeypatch.context() as patched:
        patched.setattr(reauthentication, "PASSWORD_VALID_S", -1)
        pages.get(user, "asks for the password")
        pages.post(user, "wrong password", password="wrong")
    with monkeypatch.context() as patched:
        patched.setattr(service, "build_report", _raise_unavailable)
        pages.get("/results/", "unavailable")


def visit_as_anybody(pages: Pages) -> None:
    """Keep the pages of somebody who is not logged in."""
    pages.get("/login/")
    pages.post("/login/", "wrong", login="<nobody>", password="wrong")
    pages.get("/nowhere/", "anybody")
    pages.get("/problems/validation_failed", "anybody")


def whole_pages() -> set[str]:
    """Return the names of the templates that are pages of their own."""
    names = {path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.html")}
    return {name for name in names if "/_" not in name and not name.startswith(PARTS)}


def findings(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Yield each kind of finding with an example and its number."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        kinds.setdefault(message["message"], []).append(message)
    for text, found in kinds.items():
        page, line, extract = (found[0].get(name) for name in ("url", "lastLine", "extract"))
        yield f"{len(found)} times, in {Path(unquote(str(page))).name}, line {line}: {text} {extract!r}"


def _raise_unavailable(*_: object, **__: object) -> None:
    raise DatabaseUnavailableError
