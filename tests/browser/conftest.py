"""Chromium against the service, served as in real life. Whatever a page complains about fails its test."""

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright
from waitress.server import create_server

from tests.builders import IVAN, useradd

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
    """Debian's Chromium, or the one that Playwright installed."""
    path = os.environ.get("TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(app: Flask) -> Iterator[str]:
    """Where the service listens."""
    server = create_server(app, host="127.0.0.1", port=0, threads=4, clear_untrusted_proxy_headers=False)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    thread.join()


@dataclass
class Complaints:
    """What went wrong on a page without anybody clicking on it."""

    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def note(self, message: ConsoleMessage) -> None:
        """Keep what the console shows in red."""
        if message.type == "error":
            self.errors.append(message.text)


@pytest.fixture
def complaints() -> Complaints:
    """Console errors, content security policy violations among them, and requests to other hosts."""
    return Complaints()


@pytest.fixture
def page(browser: Browser, address: str, client: FlaskClient, complaints: Complaints) -> Iterator[Page]:
    """An empty tab of a stranger, on empty tables; any complaint of the page fails the test."""
    context = browser.new_context(base_url=address, locale="en", viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.on("console", complaints.note)
    page.on("pageerror", lambda error: complaints.errors.append(str(error)))

    def keep_home(route: Route, request: Request) -> None:
        if request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            complaints.foreign.append(request.url)
            route.abort()

    page.route("**/*", keep_home)
    yield page
    context.close()
    assert complaints.errors == []
    assert complaints.foreign == []


@pytest.fixture
def reader_page(page: Page, client: FlaskClient) -> Page:
    """A tab of a user who has just been created and has logged in."""
    credentials = useradd(client, IVAN).json
    assert credentials is not None
    page.goto("/login/")
    page.fill("[name=login]", credentials["login"])
    page.fill("[name=password]", credentials["password"])
    page.click("main form button[type=submit], main form button:not([type])")
    page.wait_for_url("**/results/")
    return page
