"""Daily work with the results page: find a person, answer for a period, follow requests."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from openpyxl import load_workbook
from playwright.sync_api import Page, expect

from tests.browser.conftest import clicks, count_clicks
from tests.conftest import Rows
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

MOSCOW = ZoneInfo("Europe/Moscow")
EVERY_MS = 10_000
BROKEN_WORDS = """() => [...document.querySelectorAll("#rows .why, #rows .badge, #rows .name")].flatMap((cell) => {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    const broken = [];
    while (walker.nextNode()) {
        for (const word of walker.currentNode.data.matchAll(/[^\\s-]+/g)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, word.index);
            range.setEnd(walker.currentNode, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) broken.push(word[0]);
        }
    }
    return broken;
})"""
"""JavaScript that returns the words in table rows that are broken over several lines."""
OFF_CENTRE = """() => {
    const columns = [...document.querySelectorAll(".columns .hit")].map((hit) => hit.getBoundingClientRect());
    return [...document.querySelectorAll(".plot .x text")].map((label) => {
        const box = label.getBoundingClientRect();
        const middle = (box.left + box.right) / 2;
        return Math.min(...columns.map((column) => Math.abs((column.left + column.right) / 2 - middle)));
    });
}"""
"""Returns the distance of each label from the middle of the nearest column, in pixels."""


@pytest.fixture
def auditor_page(reader_page: Page, rows: Rows) -> Page:
    """The results page of an auditor."""
    rows.query("update users set role = 'auditor' where username = 'petrov.ivan'")
    reader_page.goto("/results/")
    return reader_page


def query(page: Page) -> dict[str, str]:
    """Return the query parameters of the address."""
    return dict(parse_qsl(urlsplit(page.url).query))


def top(page: Page, selector: str) -> float:
    """Return the distance of an element from the top of the page."""
    page.wait_for_load_state()  # the style sheet of a page after a form may not be loaded yet
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return box["y"] + float(page.evaluate("scrollY"))


def downloaded(page: Page, link: str) -> Path:
    """Follow a link to a file and return its path."""
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    return download.value.path().rename(download.value.path().with_suffix(".xlsx"))


def test_why_somebody_was_not_created_takes_two_clicks(auditor_page: Page, app: Flask) -> None:
    refused = {"status": 422, "code": "invalid_phone", "errors": (INVALID_PHONE,)}
    keep(app, ago(minutes=9), username="p.sidorov", name="Пётр Сидоров", phone="+7 912 •••-••-41", **refused)
    keep(app, ago(minutes=5), username="p.sidorov", name="Пётр Сидоров", phone="+7 912 •••-••-41")
    for minute in range(30):
        keep(app, ago(minutes=minute), username=f"another.{minute}", name="Анна Белова")
    count_clicks(auditor_page)
    auditor_page.goto("/results/")

    auditor_page.get_by_label("Search", exact=True).fill("сидоров петр")
    auditor_page.get_by_role("button", name="Show", exact=True).click()

    found = auditor_page.locator("#rows tbody tr")
    expect(found).to_have_count(2)
    expect(found.last.locator(".name")).to_have_text("Пётр Сидоров")
    assert top(auditor_page, "#rows") < top(auditor_page, ".kpis")
    found.last.locator(".name").click()
    expect(auditor_page.get_by_role("heading", name="Errors to fix")).to_be_visible()
    expect(auditor_page.get_by_text("This person was created later:")).to_be_visible()
    assert clicks(auditor_page) == 2


def test_last_month_by_day_takes_two_clicks(reader_page: Page, app: Flask) -> None:
    first = datetime.now(MOSCOW).replace(day=1, hour=12)
    last_month = [first - timedelta(days=day) for day in range(1, 29)]
    for moment in last_month:
        keep(app, moment)
    count_clicks(reader_page)
    reader_page.goto("/results/")

    reader_page.get_by_role("link", name="Last month").click()
    reader_page.get_by_text("Show as a table").click()

    days = reader_page.locator("figure tbody tr", has_text="1")
    expect(days.first).to_be_visible()
    assert query(reader_page) == {"period": "last-month"}
    expect(reader_page.locator(".kpis b").first).to_have_text("28")
    assert len(reader_page.locator("figure tbody tr").all()) == (first - timedelta(days=1)).day
    assert clicks(reader_page) == 2


def test_the_refusals_of_last_week_as_a_workbook_take_three_clicks(reader_page: Page, app: Flask) -> None:
    now = datetime.now(MOSCOW)
    last_week = now - timedelta(days=now.weekday() + 3)
    for number in range(3):
        keep(app, last_week + timedelta(seconds=number), status=422, code="invalid_phone", errors=(INVALID_PHONE,))
    keep(app, last_week)
    count_clicks(reader_page)
    reader_page.goto("/results/")

    reader_page.get_by_role("link", name="Last week").click()
    reader_page.locator(".kpis .card", has_text="Rejected").get_by_role("link").click()
    file = downloaded(reader_page, "Excel, .xlsx")

    assert query(reader_page) == {"period": "last-week", "result": "rejected"}
    assert int(load_workbook(file).worksheets[-1].max_row) - 1 == 3
    assert clicks(reader_page) == 3


def test_a_click_anywhere_in_a_row_opens_it_but_not_the_selection_of_text(reader_page: Page, app: Flask) -> None:
    attempt_id = keep(app, ago(minutes=-1), username="somebody")
    reader_page.goto("/results/")
    login = reader_page.locator("#rows .who").first
    login.dblclick(position={"x": 5, "y": 8}, no_wait_after=True)
    reader_page.goto("/results/")
    reader_page.evaluate("getSelection().selectAllChildren(document.querySelector('#rows .who'))")
    reader_page.evaluate("document.querySelector('#rows .who').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    expect(reader_page).to_have_url(re.compile("/results/$"))

    reader_page.evaluate("getSelection().removeAllRanges()")
    login.click()

    expect(reader_page).to_have_url(re.compile(f"/results/{attempt_id}/$"))


def test_dates_open_with_the_selected_period_and_change_nothing_by_themselves(reader_page: Page) -> None:
    today = f"{datetime.now(MOSCOW):%Y-%m-%d}"
    reader_page.goto("/results/?period=30d")

    reader_page.get_by_text("Dates…").click()

    expect(reader_page.get_by_label("To", exact=True)).to_have_value(today)
    expect(reader_page.get_by_label("From")).to_have_value(f"{datetime.now(MOSCOW) - timedelta(days=29):%Y-%m-%d}")
    reader_page.get_by_label("Result").select_option("rejected")
    reader_page.get_by_role("button", name="Show", exact=True).click()
    assert query(reader_page) == {"period": "30d", "result": "rejected"}


def test_new_requests_are_offered_at_the_top_and_counted_in_the_title(reader_page: Page, app: Flask) -> None:
    reader_page.clock.install()
    reader_page.goto("/results/")
    expect(reader_page.locator(".as-of")).to_contain_text(re.compile(r"as of \d\d:\d\d"))
    before = top(reader_page, ".filters-card")
    keep(app, ago(minutes=-1))

    with reader_page.expect_response(re.compile("newer=")):
        reader_page.clock.run_for(EVERY_MS)

    expect(reader_page).to_have_title(re.compile(r"^\(1\) Requests"))
    button = reader_page.get_by_role("button", name="Show 1 new")
    expect(button).to_be_in_viewport()
    assert top(reader_page, ".filters-card") == before
    button.click()
    expect(reader_page.locator(".kpis b").first).to_have_text("2")
    expect(reader_page).to_have_title(re.compile("^Requests"))


def test_the_running_column_is_hatched_and_labels_stand_below_columns(reader_page: Page) -> None:
    reader_page.goto("/results/?period=today")
    expect(reader_page.locator(".columns .running")).to_have_count(1)
    expect(reader_page.locator(".legend")).to_contain_text("so far")
    assert max(reader_page.evaluate(OFF_CENTRE)) < 2

    reader_page.goto("/results/?period=30d")
    assert max(reader_page.evaluate(OFF_CENTRE)) < 2


def test_a_phone_shows_a_folded_filter_and_requests_as_cards(auditor_page: Page, app: Flask) -> None:
    for number in range(5):
        keep(app, ago(minutes=number), status=422, code="invalid_phone", errors=(INVALID_PHONE,), username="a" * 60)
    auditor_page.set_viewport_size({"width": 390, "height": 844})
    auditor_page.goto("/results/?result=rejected")

    assert top(auditor_page, ".requests") < 1200
    fold = auditor_page.get_by_text("Filters: 7 days · Rejected")
    expect(fold).to_be_visible()
    expect(auditor_page.get_by_label("Search", exact=True)).to_be_hidden()
    auditor_page.locator("#fold").focus()
    auditor_page.keyboard.press("Space")
    expect(auditor_page.get_by_label("Search", exact=True)).to_be_visible()
    assert auditor_page.evaluate(BROKEN_WORDS) == []
    card = auditor_page.locator("#rows tbody tr").first.bounding_box()
    assert card is not None
    assert 0 < card["width"] <= 390


def test_a_user_of_whom_the_client_does_not_know_is_marked_and_explained(
    auditor_page: Page, app: Flask, rows: Rows
) -> None:
    attempt_id = keep(app, ago(minutes=-1), username="lost", key_hash=b"0" * 32)
    rows.query("update attempts set answered = 503 where id = :id", id=attempt_id)
    auditor_page.goto("/results/")
    expect(auditor_page.locator("#rows tbody tr").first).to_contain_text("Created, the client does not know")

    auditor_page.locator("#rows .badge").first.click()

    alert = auditor_page.locator(".alert.warning")
    expect(alert).to_contain_text("The user was created, but the client does not know.")
    expect(alert).to_contain_text("repeat the request with the same idempotency key until")
