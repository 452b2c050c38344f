"""The results page announces new attempts, but shows them only on request."""

import re
from collections.abc import Callable

import pytest
from flask import Flask
from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import PageErrors
from tests.conftest import Rows
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

EVERY_MS = 10_000


@pytest.fixture
def poll_requests(reader_page: Page) -> list[Request]:
    """The poll requests that the open page sends."""
    requests: list[Request] = []
    reader_page.on("request", lambda request: requests.append(request) if "newer=" in request.url else None)
    return requests


@pytest.fixture
def live_page(reader_page: Page, poll_requests: list[Request]) -> Page:
    """A user's results page with a fake clock."""
    reader_page.clock.install()
    reader_page.goto("/results/")
    return reader_page


@pytest.fixture
def poll(live_page: Page) -> Callable[[], int]:
    """Advance the clock until the page polls, and return the status of the response."""

    def advance() -> int:
        with live_page.expect_response(re.compile("newer=")) as response:
            live_page.clock.run_for(EVERY_MS)
        response.value.finished()
        return response.value.status

    return advance


def announcements(page: Page) -> list[str]:
    """Return the texts of the page's status region."""
    return [text for text in page.get_by_role("status").all_inner_texts() if text]


def test_new_attempts_are_announced_and_shown_on_request(live_page: Page, app: Flask, poll: Callable[[], int]) -> None:
    rows = live_page.locator("#rows tbody tr")
    assert poll() == 204
    keep(app, ago(), username="anna")
    keep(app, ago(), username="boris")

    assert poll() == 200

    button = live_page.get_by_role("status").get_by_role("button", name="Show 2 new")
    expect(button).to_be_visible()
    expect(rows).to_have_count(1)
    button.click()
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("boris")
    expect(live_page.locator(".kpis dd b").first).to_have_text("3")
    expect(live_page.locator("#list")).to_be_focused()
    expect(button).to_have_count(0)
    assert poll() == 204


def test_an_unchanged_announcement_is_answered_304(live_page: Page, app: Flask, poll: Callable[[], int]) -> None:
    keep(app, ago())

    assert [poll(), poll()] == [200, 304]

    keep(app, ago())
    assert poll() == 200
    expect(live_page.get_by_role("button", name="Show 2 new")).to_be_visible()


def test_only_attempts_that_match_the_filter_are_announced(
    live_page: Page, app: Flask, poll: Callable[[], int]
) -> None:
    live_page.goto("/results/?result=rejected")
    keep(app, ago())
    assert poll() == 204
    keep(app, ago(), status=422, code="invalid_phone", errors=(INVALID_PHONE,))

    assert poll() == 200

    live_page.get_by_role("button", name="Show 1 new").click()
    expect(live_page.locator("#rows tbody tr")).to_have_count(1)
    expect(live_page).to_have_url(re.compile(r"\?result=rejected$"))


def test_unchecking_follow_stops_polling_and_is_remembered(live_page: Page, poll_requests: list[Request]) -> None:
    live_page.get_by_label("Follow new requests").uncheck()
    live_page.reload()
    expect(live_page.get_by_label("Follow new requests")).not_to_be_checked()

    live_page.clock.run_for(3 * EVERY_MS)
    live_page.evaluate("fetch('/livez')")

    assert poll_requests == []


def test_a_hidden_tab_does_not_poll(live_page: Page, poll_requests: list[Request]) -> None:
    live_page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.isHidden, configurable: true})")
    live_page.evaluate("window.isHidden = true")
    live_page.clock.run_for(3 * EVERY_MS)
    live_page.evaluate("fetch('/livez')")
    assert poll_requests == []

    with live_page.expect_request(re.compile("newer=")):
        live_page.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize(
    "query", ["?period=dates&from=2024-01-01&to=2024-01-02", "?before=ffffffff-ffff-7fff-bfff-ffffffffffff"]
)
def test_a_page_that_cannot_get_new_attempts_does_not_poll(live_page: Page, query: str) -> None:
    live_page.goto(f"/results/{query}")

    expect(live_page.locator("#newer")).to_have_count(0)
    expect(live_page.get_by_label("Follow new requests")).to_have_count(0)


def test_a_poll_after_the_session_has_ended_offers_a_link_to_the_login(
    live_page: Page, rows: Rows, poll: Callable[[], int], page_errors: PageErrors
) -> None:
    live_page.goto("/results/?period=30d")
    rows.query("update users set epoch = epoch + 1")

    assert poll() == 401

    live_page.get_by_role("status").get_by_role("link", name="The session has ended").click()
    expect(live_page).to_have_url(re.compile(r"/login/\?next="))
    assert "period%3D30d" in live_page.url
    page_errors.console[:] = [error for error in page_errors.console if "401" not in error]


def test_requesting_new_rows_after_the_session_has_ended_leads_to_the_login(
    live_page: Page, app: Flask, rows: Rows, poll: Callable[[], int], page_errors: PageErrors
) -> None:
    keep(app, ago())
    assert poll() == 200
    rows.query("update users set epoch = epoch + 1")

    live_page.get_by_role("button", name="Show 1 new").click()

    expect(live_page).to_have_url(re.compile(r"/login/\?next="))
    page_errors.console[:] = [error for error in page_errors.console if "401" not in error]
