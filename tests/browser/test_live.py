"""New attempts are offered, never pushed: rows stay where they are until the reader asks for more."""

import re
from collections.abc import Callable

import pytest
from flask import Flask
from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import Complaints
from tests.conftest import Rows
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

EVERY_MS = 10_000


@pytest.fixture
def asked(reader_page: Page) -> list[Request]:
    """What the open page asks by itself."""
    found: list[Request] = []
    reader_page.on("request", lambda request: found.append(request) if "newer=" in request.url else None)
    return found


@pytest.fixture
def live_page(reader_page: Page, asked: list[Request]) -> Page:
    """A reader's results page whose clock can be turned forward."""
    reader_page.clock.install()
    reader_page.goto("/results/")
    return reader_page


@pytest.fixture
def wait(live_page: Page) -> Callable[[], int]:
    """Turn the clock on until the page asks, and return the status of the answer."""

    def turn() -> int:
        with live_page.expect_response(re.compile("newer=")) as answer:
            live_page.clock.run_for(EVERY_MS)
        answer.value.finished()
        return answer.value.status

    return turn


def offered(page: Page) -> list[str]:
    """Return what the status of the page offers."""
    return [text for text in page.get_by_role("status").all_inner_texts() if text]


def test_new_attempts_are_offered_and_come_when_asked_for(live_page: Page, app: Flask, wait: Callable[[], int]) -> None:
    rows = live_page.locator("#rows tbody tr")
    assert wait() == 204
    keep(app, ago(), username="anna")
    keep(app, ago(), username="boris")

    assert wait() == 200

    button = live_page.get_by_role("status").get_by_role("button", name="Show 2 new")
    expect(button).to_be_visible()
    expect(rows).to_have_count(1)
    button.click()
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("boris")
    expect(live_page.locator(".kpis dd b").first).to_have_text("3")
    expect(live_page.locator("#list")).to_be_focused()
    expect(button).to_have_count(0)
    assert wait() == 204


def test_an_offer_that_the_page_knows_is_not_sent_again(live_page: Page, app: Flask, wait: Callable[[], int]) -> None:
    keep(app, ago())

    assert [wait(), wait()] == [200, 304]

    keep(app, ago())
    assert wait() == 200
    expect(live_page.get_by_role("button", name="Show 2 new")).to_be_visible()


def test_only_what_the_filter_chooses_is_offered(live_page: Page, app: Flask, wait: Callable[[], int]) -> None:
    live_page.goto("/results/?result=rejected")
    keep(app, ago())
    assert wait() == 204
    keep(app, ago(), status=422, code="invalid_phone", errors=(INVALID_PHONE,))

    assert wait() == 200

    live_page.get_by_role("button", name="Show 1 new").click()
    expect(live_page.locator("#rows tbody tr")).to_have_count(1)
    expect(live_page).to_have_url(re.compile(r"\?result=rejected$"))


def test_nobody_asks_while_the_box_is_empty_which_is_remembered(live_page: Page, asked: list[Request]) -> None:
    live_page.get_by_label("Follow new requests").uncheck()
    live_page.reload()
    expect(live_page.get_by_label("Follow new requests")).not_to_be_checked()

    live_page.clock.run_for(3 * EVERY_MS)
    live_page.evaluate("fetch('/livez')")

    assert asked == []


def test_nobody_asks_while_the_tab_is_hidden(live_page: Page, asked: list[Request]) -> None:
    live_page.evaluate("Object.defineProperty(document, 'hidden', {get: () => window.isHidden, configurable: true})")
    live_page.evaluate("window.isHidden = true")
    live_page.clock.run_for(3 * EVERY_MS)
    live_page.evaluate("fetch('/livez')")
    assert asked == []

    with live_page.expect_request(re.compile("newer=")):
        live_page.evaluate("window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize(
    "query", ["?period=dates&from=2024-01-01&to=2024-01-02", "?before=ffffffff-ffff-7fff-bfff-ffffffffffff"]
)
def test_a_page_to_which_nothing_can_come_does_not_ask(live_page: Page, query: str) -> None:
    live_page.goto(f"/results/{query}")

    expect(live_page.locator("#newer")).to_have_count(0)
    expect(live_page.get_by_label("Follow new requests")).to_have_count(0)


def test_a_session_that_has_ended_is_told_and_leads_to_the_login_and_back(
    live_page: Page, rows: Rows, wait: Callable[[], int], complaints: Complaints
) -> None:
    live_page.goto("/results/?period=30d")
    rows.query("update users set epoch = epoch + 1")

    assert wait() == 401

    live_page.get_by_role("status").get_by_role("link", name="The session has ended").click()
    expect(live_page).to_have_url(re.compile(r"/login/\?next="))
    assert "period%3D30d" in live_page.url
    complaints.errors[:] = [error for error in complaints.errors if "401" not in error]


def test_asking_for_rows_after_the_session_has_ended_leads_to_the_login(
    live_page: Page, app: Flask, rows: Rows, wait: Callable[[], int], complaints: Complaints
) -> None:
    keep(app, ago())
    assert wait() == 200
    rows.query("update users set epoch = epoch + 1")

    live_page.get_by_role("button", name="Show 1 new").click()

    expect(live_page).to_have_url(re.compile(r"/login/\?next="))
    complaints.errors[:] = [error for error in complaints.errors if "401" not in error]
