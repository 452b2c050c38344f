"""Takes the screenshots of the READMEs: `.venv/bin/python docs/screenshots.py`; with a folder, those of all pages.

The data come from sample.py and the clock is fixed, so that a screenshot changes only if its page does.
"""

import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, tzinfo
from itertools import product
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import flask_migrate
import psycopg2
from flask import Flask
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from waitress.server import create_server
from werkzeug.exceptions import TooManyRequests

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from config import Config  # noqa: E402 - needs the root on the path
from docs import sample  # noqa: E402
from project import create_app  # noqa: E402
from project.contract.schemas import user_add_schema  # noqa: E402
from project.domain.errors import DatabaseUnavailableError, OverloadedError, SearchTooBroadError  # noqa: E402
from project.domain.passwords import new_idempotency_key  # noqa: E402
from project.domain.registration import Credentials, Role  # noqa: E402
from project.domain.users import UserFilter  # noqa: E402
from project.embedded import ensure_running  # noqa: E402
from project.runtime import get_runtime  # noqa: E402
from project.services import registration  # noqa: E402
from project.services.api_keys import issue_key  # noqa: E402
from project.services.users import block_user, find_users, grant_role  # noqa: E402

IMAGES = ROOT / "docs" / "images"
POLL_MS = 10_000
"""Interval in ms at which the results page polls for new attempts."""
LANGUAGES = ("ru", "en")
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
ZOOMED = ViewportSize(width=320, height=256)
"""A desktop at 400 % zoom (WCAG 2.2, 1.4.10)."""
PAPER = ViewportSize(width=718, height=1000)
"""A4 with margins of a centimetre."""
POSTER = ViewportSize(width=1280, height=1380)
LOOKS = {"light": DESKTOP, "dark": DESKTOP, "phone": PHONE, "zoomed": ZOOMED, "print": PAPER}
PAGES = {
    "results": "/results/",
    "filtered": "/results/?result=rejected&code=invalid_phone",
    "page-2": "{older}",
    "two-notes": "/results/?period=century&code=none&result=failed",
    "today": "/results/?period=today",
    "last-week": "/results/?period=last-week&result=rejected",
    "found": "/results/?period=30d&q=petrov+ivan",
    "all": "/results/?period=all",
    "dates": "/results/?period=dates&from=2026-11-12&to=2026-11-14",
    "reversed": "/results/?period=dates&from=2026-11-14&to=2026-11-12",
    "no-hits": "/results/?period=today&q=%3Dpetrov.ivan",
    "nothing-at-all": "/results/?period=all&q=%3Dnobody",
    "rejected": "{rejected}",
    "conflict": "{conflict}",
    "interrupted": "{interrupted}",
    "replayed": "{replayed}",
    "malformed": "{malformed}",
    "created": "{created}",
    "spooled": "{spooled}",
    "problem": "/problems/validation_failed",
    "problems": "/problems/",
    "field-problem": "/problems/username_taken",
    "retry-problem": "/problems/outcome_unknown",
    "not-found": "/nowhere/",
    "forbidden": "/admin/",
    "not-allowed": "/useradd",
    "swagger": "/swagger/",
    "account": "/account/",
    "service-state": "/state/",
}
ERRORS = {
    "unavailable": ("project.services.login.find_account", DatabaseUnavailableError),
    "overloaded": ("project.services.reports.build_report", OverloadedError),
    "too-broad": ("project.services.reports.build_report", SearchTooBroadError),
    "too-many": ("project.services.reports.build_report", TooManyRequests),
    "defect": ("project.services.reports.build_report", RuntimeError),
}
"""Name of an error page -> function that is patched, and the error that it raises."""
ADMIN_PAGES = {
    "state": "/admin/",
    "users": "/admin/users/",
    "users-none": "/admin/users/?search=nobody",
    "user": "{user}",
    "oneself": "{oneself}",
    "block": "{user}block/",
    "reset": "{user}reset/",
    "grant": "{user}grant/",
    "audit": "{user}audit/",
    "filtered-users": "/admin/users/?role=administrator",
    "revoke": "{key}",
    "client-filters": "/results/?client=python",
    "keys": "/admin/api-keys/",
    "audit-log": "/admin/audit/",
    "new-key": "/admin/api-keys/new/",
    "imports": "/admin/imports/",
    "new-import": "/admin/imports/new/",
}


class FixedDatetime(datetime):
    """A datetime whose now() is fixed."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Return the time of the screenshots."""
        return sample.NOW.astimezone(tz)


def main() -> None:
    """Take the requested screenshots."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else None
    with serve() as (app, address), start_chromium() as browser:
        reader = create_reader(app)
        password = reader.password
        if folder:
            with open_as_reader(browser, address, password) as page:
                take_in_all_looks(page, "new", "/results/?period=today", folder)
        sample.insert(app, list(sample.records()))
        take_posters(app, browser, address, password)
        if folder:
            take_all_pages(browser, address, password, folder)
            take_admin_pages(app, browser, address, reader, folder)


@contextmanager
def serve() -> Iterator[tuple[Flask, str]]:
    """Serve the application on a new database; yield the application and its address."""
    server_url = ensure_running(ROOT / ".postgres-for-tests" / "embedded")
    name = f"screenshots_{os.getpid()}"
    execute(server_url, f"create database {name}")
    with tempfile.TemporaryDirectory() as data_dir, fixed_clock():
        url = f"{server_url.rpartition('/')[0]}/{name}"
        logging.disable(logging.ERROR)  # the errors of ERRORS are intended
        settings = {"DATABASE_URL": url, "DATA_DIR": data_dir, "RATELIMIT_ENABLED": "0"}
        app = create_app(Config.from_environment(settings))
        with app.app_context():
            flask_migrate.upgrade()
        server = create_server(app, host="127.0.0.1", port=0, threads=4, clear_untrusted_proxy_headers=False)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield app, f"http://127.0.0.1:{server.effective_port}"
        finally:
            server.close()
            thread.join()
            get_runtime(app).stop()
            execute(server_url, f"drop database {name} with (force)")


@contextmanager
def fixed_clock() -> Iterator[None]:
    """Make pages show sample.NOW as the current time."""
    with (
        patch("project.reports.routes.datetime", FixedDatetime),
        patch("project.presentation.formats.datetime", FixedDatetime),
        patch("project.presentation.service_state.datetime", FixedDatetime),
    ):
        yield


def execute(url: str, statement: str) -> None:
    """Execute an SQL statement outside of a transaction."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    connection.cursor().execute(statement)
    connection.close()


@contextmanager
def start_chromium() -> Iterator[Browser]:
    """Start the Chromium of the system, or the one that Playwright installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("TEST_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


def create_reader(app: Flask) -> Credentials:
    """Create the user who reads the pages, before the first attempt that they show."""
    attempt = sample.reader_attempt(sample.NOW - timedelta(days=sample.DAYS))
    body = {"name": "Иван Петров", "username": "petrov.ivan", "phone": "+7 999 123-45-67"}
    new_user = user_add_schema("RU").load(body)
    with app.app_context():
        return registration.register(
            get_runtime().database, get_runtime().passwords, attempt, new_idempotency_key(), new_user
        )


@contextmanager
def open_as_reader(browser: Browser, address: str, password: str) -> Iterator[Page]:
    """Open a page as the logged-in reader."""
    context = browser.new_context(base_url=address, locale="ru", viewport=DESKTOP, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/login/")
    page.fill("[name=login]", "petrov.ivan")
    page.fill("[name=password]", password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/results/")
    yield page
    context.close()


def take_posters(app: Flask, browser: Browser, address: str, password: str) -> None:
    """Take the screenshots of the READMEs: the results page that offers new attempts."""
    with ExitStack() as stack:
        pages = {}
        for language, theme in product(LANGUAGES, THEMES):
            page = stack.enter_context(open_as_reader(browser, address, password))
            page.clock.install()
            page.set_viewport_size(POSTER)
            page.emulate_media(color_scheme=theme)
            page.goto(f"/results/?lang={language}")
            page.evaluate("document.getElementById('state').id = ''")  # its requests time out when the clock jumps
            pages[f"results{'-ru' if language == 'ru' else ''}-{theme}"] = page
        sample.insert(app, sample.latest(3))
        for name, page in pages.items():
            page.clock.run_for(POLL_MS)
            page.get_by_role("status").get_by_role("button").wait_for()
            page.screenshot(path=IMAGES / f"{name}.png")


def take_all_pages(browser: Browser, address: str, password: str, folder: Path) -> None:
    """Take screenshots of every page in every look and language."""
    with open_as_reader(browser, address, password) as page:
        links = {name: find_first_link(page, query) for name, query in FIRST_ROWS.items()}
        page.goto("/results/")
        links["older"] = str(page.get_by_role("link", name="Старее").get_attribute("href")).removesuffix("#list")
        for name, path in PAGES.items():
            take_in_all_looks(page, name, path.format(**links), folder)
        for name, (function, error) in ERRORS.items():
            with patch(function, side_effect=error):
                take_in_all_looks(page, name, "/results/", folder)
    context = browser.new_context(base_url=address)
    page = context.new_page()
    take_in_all_looks(page, "login", "/login/", folder)
    page.fill("[name=login]", "petrov.ivan")
    page.fill("[name=password]", "wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    for look in LOOKS:
        take_screenshot(page, look, folder / f"login-error-{look}.png")
    context.close()


def take_admin_pages(app: Flask, browser: Browser, address: str, reader: Credentials, folder: Path) -> None:
    """Make the reader an administrator, create users and take screenshots of the admin pages."""
    with app.app_context():
        grant_role(get_runtime().database, reader.user.id, Role.ADMINISTRATOR, None)
        for attempt, body in sample.users(12):
            registration.register(
                get_runtime().database,
                get_runtime().passwords,
                attempt,
                new_idempotency_key(),
                user_add_schema("RU").load(body),
            )
        issue_key(get_runtime().database, "Витрина магазина", reader.user.id)
        users = find_users(get_runtime().database, UserFilter(role=Role.USER), "RU", 3, None)[0]
        block_user(get_runtime().database, users[1].id, reader.user.id)
        grant_role(get_runtime().database, users[2].id, Role.AUDITOR, reader.user.id)
    with open_as_reader(browser, address, reader.password) as page:
        links = {
            "user": find_first_link(page, "/admin/users/"),
            "oneself": find_first_link(page, "/admin/users/?search=petrov.ivan"),
            "key": find_first_link(page, "/admin/api-keys/"),
        }
        for name, path in ADMIN_PAGES.items():
            take_in_all_looks(page, name, path.format(**links), folder)
        with patch("project.http.reauthentication.is_required", return_value=True):
            take_in_all_looks(page, "password-again", f"{links['user']}block/", folder)
        page.goto("/admin/api-keys/new/?lang=ru")
        page.fill("[name=name]", "Отчёты")
        page.keyboard.press("Enter")
        page.locator("#secret").wait_for()
        for look in LOOKS:
            take_screenshot(page, look, folder / f"secret-{look}.png")


FIRST_ROWS = {
    "rejected": "/results/?code=invalid_phone&q=orlov&period=all",
    "created": "/results/?result=created",
    "spooled": "/results/?status=503",
    "conflict": "/results/?code=username_taken",
    "interrupted": "/results/?code=interrupted&period=all",
    "replayed": "/results/?code=replayed",
    "malformed": "/results/?code=malformed_json",
}
"""Placeholder in PAGES -> list of attempts; the page of the first one replaces the placeholder."""


def find_first_link(page: Page, address: str) -> str:
    """Return the address that the first row of the list at `address` links to."""
    page.goto(address)
    return str(page.locator("#rows tbody a").first.get_attribute("href"))


def take_in_all_looks(page: Page, name: str, address: str, folder: Path) -> None:
    """Take screenshots of a page in every look and language."""
    folder.mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
        page.wait_for_load_state("networkidle")
        for look in LOOKS:
            take_screenshot(page, look, folder / f"{name}-{language}-{look}.png")


def take_screenshot(page: Page, look: str, path: Path) -> None:
    """Take a screenshot of the current page in a look of LOOKS."""
    page.set_viewport_size(LOOKS[look])
    page.emulate_media(
        media="print" if look == "print" else "screen", color_scheme="dark" if look == "dark" else "light"
    )
    page.screenshot(path=path, full_page=True)


if __name__ == "__main__":
    main()
