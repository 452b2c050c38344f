"""Chromium against the service, served by waitress.

A console error of a page fails its test.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright

from tests.builders import IVAN, useradd
from tests.serving import serve

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium from TEST_CHROMIUM or the PATH, or the one that Playwright installed."""
    path = os.environ.get("TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(app: Flask) -> Iterator[str]:
    """Base URL of the service."""
    with serve(app) as address:
        yield address


def count_clicks(page: Page) -> None:
    """Count the clicks in this tab from the next page on."""
    page.add_init_script("""addEventListener("click", (event) => {
        if (event.detail) sessionStorage.clicks = Number(sessionStorage.clicks ?? 0) + 1; // without those of Enter
    }, true);""")


def clicks(page: Page) -> int:
    """Return the number of clicks that were counted."""
    return int(page.evaluate("sessionStorage.clicks ?? 0"))


def expand(page: Page) -> None:
    """Unfold the filters and all details of a page."""
    page.evaluate("""() => {
        for (const fold of document.querySelectorAll("#fold")) fold.checked = true;
        for (const details of document.querySelectorAll("details")) details.open = true;
    }""")


@dataclass
class PageErrors:
    """Console errors and foreign requests of a page."""

    console: list[str] = field(default_factory=list)
    foreign_requests: list[str] = field(default_factory=list)

    def record(self, message: ConsoleMessage) -> None:
        """Record a console message of level error."""
        if message.type == "error":
            self.console.append(message.text)


@pytest.fixture
def page_errors() -> PageErrors:
    """Console errors, CSP violations included, and requests to other hosts."""
    return PageErrors()


@pytest.fixture
def page(browser: Browser, address: str, client: FlaskClient, page_errors: PageErrors) -> Iterator[Page]:
    """An empty tab without a session, on empty tables.

    A console error or a request to another host fails the test.
    """
    context = browser.new_context(base_url=address, locale="en", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", page_errors.record)
    page.on("pageerror", lambda error: page_errors.console.append(str(error)))

    def block_foreign(route: Route, request: Request) -> None:
        if request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            page_errors.foreign_requests.append(request.url)
            route.abort()

    page.route("**/*", block_foreign)
    yield page
    context.close()
    assert page_errors.console == []
    assert page_errors.foreign_requests == []


@pytest.fixture
def reader_page(page: Page, client: FlaskClient) -> Page:
    """A tab of a new user who has logged in."""
    credentials = useradd(client, IVAN).json
    assert credentials is not None
    page.goto("/login/")
    page.fill("[name=login]", credentials["login"])
    page.fill("[name=password]", credentials["password"])
    page.click("main form button[type=submit], main form button:not([type])")
    page.wait_for_url("**/results/")
    return page
