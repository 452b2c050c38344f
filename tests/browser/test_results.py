"""The way of a reader: log in, look, narrow, open, download, leave; at a desk, on a phone, and without JavaScript."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openpyxl import load_workbook
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Complaints
from tests.builders import ANNA, IVAN, useradd
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

EVERY_END = {"all": "43", "created": "31", "rejected": "11", "failed": "1"}
"""What `every_end` keeps, with the reader's own user."""


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The password that the service gave to `petrov.ivan`."""
    answer = useradd(client, IVAN).json
    assert answer is not None
    return str(answer["password"])


@pytest.fixture
def every_end(reader_page: Page, app: Flask) -> Page:
    """A reader's results page with more rows than it shows at once, some of every end, and old ones."""
    for number in range(30):
        keep(app, ago(hours=1, minutes=number), username=f"somebody.{number}", phone="+7 9•• •••-••-67")
    for number in range(8):
        keep(app, ago(minutes=number), status=422, code="invalid_phone", errors=(INVALID_PHONE,), phone=f"12{number}")
    for number in range(3):
        keep(app, ago(minutes=number), status=409, code="username_taken", username="anna.long.taken")
    keep(app, ago(minutes=30), status=503, code="database_unavailable", username="unlucky")
    keep(app, ago(days=20), username="long.ago")
    reader_page.goto("/results/")
    return reader_page


@pytest.fixture
def plain_page(browser: Browser, address: str, client: FlaskClient) -> Iterator[Page]:
    """A tab of a stranger whose browser runs no JavaScript."""
    context = browser.new_context(base_url=address, locale="en", java_script_enabled=False)
    yield context.new_page()
    context.close()


def log_in(page: Page, password: str) -> None:
    """Fill in and send the login form."""
    page.get_by_label("Login").fill("petrov.ivan")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def figures(page: Page) -> dict[str, str]:
    """Return the big numbers."""
    return dict(zip(EVERY_END, page.locator(".kpis dd b").all_inner_texts(), strict=False))


def listed(page: Page) -> Locator:
    """Return the rows of the log."""
    return page.locator("#rows tbody tr")


def open_first(page: Page) -> None:
    """Open the attempt of the first row."""
    listed(page).first.locator("a.id").click()


def show(page: Page) -> None:
    """Send the filters."""
    page.get_by_role("button", name="Show", exact=True).click()


def query(page: Page) -> dict[str, str]:
    """Return what the address says."""
    return dict(parse_qsl(urlsplit(page.url).query))


def download(page: Page, link: str) -> Path:
    """Return the file that a link of the page leads to, under the name that the service gave it."""
    with page.expect_download() as coming:
        page.get_by_role("link", name=link).click()
    file = coming.value.path()
    return file.rename(file.with_name(coming.value.suggested_filename))


def count_in_text(file: Path) -> int:
    """Return how many requests a .txt file lists; its last line must say the same."""
    lines = file.read_bytes().decode("utf-8-sig").split("\r\n")
    listed = [line for line in lines if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\t", line)]
    assert lines[-2:] == [f"End: {len(listed)} rows", ""]
    return len(listed)


def count_in_workbook(file: Path) -> int:
    """Return how many requests a workbook lists."""
    return int(load_workbook(file)["Requests"].max_row) - 1


def count_in_csv(file: Path) -> int:
    """Return how many requests a .csv file lists."""
    with file.open(encoding="utf-8", newline="") as lines:
        return len(list(csv.reader(lines))) - 1


def sideways(page: Page, addresses: list[str], language: str) -> list[tuple[str, int]]:
    """Return the pages that are wider than a phone, with all that can be unfolded, and how wide they are."""
    page.set_viewport_size({"width": 390, "height": 844})
    wide = []
    for address in addresses:
        page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
        for summary in page.locator("summary").all():
            summary.click()
        width, room = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]",
        )
        assert room == 390
        if width > room:
            wide.append((address, width))
    return wide


def forgive_refusals(complaints: Complaints) -> None:
    """Take what the console says about pages that are refusals on purpose, and nothing else."""
    complaints.errors[:] = [error for error in complaints.errors if not re.search(r"status of 4\d\d", error)]


COUNTS = {"Excel, .xlsx": count_in_workbook, "Text, .txt": count_in_text, ".csv": count_in_csv}


# Logging in and out


def test_issued_credentials_open_the_results_with_what_happened(page: Page, client: FlaskClient, password: str) -> None:
    useradd(client, ANNA)
    useradd(client, ANNA)
    page.goto("/")

    log_in(page, password)

    expect(page).to_have_url(re.compile(r"/results/$"))
    assert figures(page) == {"all": "3", "created": "2", "rejected": "1", "failed": "0"}
    expect(listed(page)).to_have_count(3)
    expect(listed(page).first).to_contain_text("409")
    expect(page.locator(".me")).to_contain_text("petrov.ivan")


def test_a_wrong_password_says_so_and_keeps_the_login(page: Page, complaints: Complaints, password: str) -> None:
    page.goto("/login/")

    log_in(page, "not-" + password)

    expect(page.get_by_role("alert")).to_contain_text("Wrong login or password")
    expect(page.get_by_label("Login")).to_have_value("petrov.ivan")
    expect(page.get_by_label("Password", exact=True)).to_have_value("")
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    forgive_refusals(complaints)


def test_the_password_can_be_looked_at_before_it_is_sent(page: Page) -> None:
    page.goto("/login/")
    page.get_by_label("Password", exact=True).fill("secret")

    page.get_by_role("button", name="Show password").click()

    expect(page.locator("#password")).to_have_attribute("type", "text")
    page.get_by_role("button", name="Hide password").click()
    expect(page.locator("#password")).to_have_attribute("type", "password")


def test_logging_out_ends_it(reader_page: Page) -> None:
    reader_page.get_by_role("button", name="Log out").click()

    expect(reader_page).to_have_url(re.compile(r"/login/$"))
    reader_page.goto("/results/")
    expect(reader_page).to_have_url(re.compile(r"/login/\?next="))
    assert query(reader_page) == {"next": "/results/"}


# Narrowing


def test_a_result_is_chosen_in_the_form_and_stands_in_the_address(every_end: Page) -> None:
    assert figures(every_end) == EVERY_END
    every_end.get_by_label("Result").select_option(label="Rejected")

    show(every_end)

    expect(every_end).to_have_url(re.compile(r"[?&]result=rejected$"))
    assert figures(every_end) == {"all": "11", "created": "0", "rejected": "11", "failed": "0"}
    expect(listed(every_end)).to_have_count(11)
    expect(every_end.get_by_label("Result")).to_have_value("rejected")


def test_a_reason_is_chosen_in_the_form_and_taken_away_by_its_chip(every_end: Page) -> None:
    every_end.get_by_label("Reason").select_option("username_taken")
    show(every_end)
    expect(every_end).to_have_url(re.compile(r"[?&]code=username_taken$"))
    expect(listed(every_end)).to_have_count(3)
    assert set(listed(every_end).locator(".who").all_inner_texts()) == {"anna.long.taken"}

    every_end.get_by_role("link", name="Remove the filter").click()

    expect(every_end).to_have_url(re.compile(r"/results/$"))
    assert figures(every_end) == EVERY_END


def test_a_line_of_the_reasons_narrows_to_it(every_end: Page) -> None:
    every_end.get_by_role("region", name="Why no user was created").get_by_text("invalid_phone").click()

    expect(every_end).to_have_url(re.compile(r"/results/\?code=invalid_phone$"))
    expect(listed(every_end)).to_have_count(8)


def test_a_search_stands_in_the_address_and_finds(every_end: Page) -> None:
    every_end.get_by_label("Search", exact=True).fill("somebody.2")

    every_end.get_by_label("Search", exact=True).press("Enter")

    expect(every_end).to_have_url(re.compile(r"[?&]q=somebody\.2$"))
    expect(listed(every_end)).to_have_count(11)  # .2 and .20 to .29
    expect(every_end.get_by_label("Search", exact=True)).to_have_value("somebody.2")


def test_a_period_stands_in_the_address_and_reaches_back(every_end: Page) -> None:
    every_end.get_by_label("30 days").check()

    show(every_end)

    expect(every_end).to_have_url(re.compile(r"/results/\?period=30d$"))
    assert figures(every_end)["all"] == "44"


def test_days_can_be_named(every_end: Page) -> None:
    expect(every_end.get_by_label("From")).to_be_hidden()
    every_end.get_by_label("Dates…").check()
    every_end.get_by_label("From").fill(f"{ago(days=22):%Y-%m-%d}")
    every_end.get_by_label("To", exact=True).fill(f"{ago(days=18):%Y-%m-%d}")

    show(every_end)

    expect(listed(every_end)).to_have_count(1)
    assert query(every_end) == {
        "period": "dates",
        "from": f"{ago(days=22):%Y-%m-%d}",
        "to": f"{ago(days=18):%Y-%m-%d}",
    }


def test_a_column_of_the_chart_shows_its_requests(every_end: Page) -> None:
    every_end.goto("/results/?q=long.ago&period=30d")

    every_end.locator(".columns a", has=every_end.locator("rect.ok")).locator(".hit").click()

    expect(every_end).to_have_url(re.compile(r"from=\d{4}-\d\d-\d\d&to=\d{4}-\d\d-\d\d&q=long\.ago$"))
    expect(listed(every_end)).to_have_count(1)


def test_a_filter_without_hits_offers_all_time(every_end: Page) -> None:
    every_end.goto("/results/?q=long.ago")
    expect(every_end.get_by_role("heading", name="No requests match this filter")).to_be_visible()

    every_end.get_by_role("link", name="Search all time").click()

    expect(listed(every_end)).to_have_count(1)


# Paging, and one attempt


def test_older_rows_are_a_page_away_and_the_newest_a_page_back(every_end: Page) -> None:
    pager = every_end.get_by_role("navigation", name="Pages")
    newest = listed(every_end).locator(".who").all_inner_texts()
    expect(pager).to_contain_text("The latest 25 of 43 are shown")

    pager.get_by_role("link", name="Older").click()

    expect(pager).to_contain_text("Shown: 18 of 43")
    older = listed(every_end).locator(".who").all_inner_texts()
    # 30 created, 8 with a wrong phone, 3 taken, 1 failed, and the reader's own: each on one of the two pages
    assert sorted(newest + older) == sorted(
        [f"somebody.{number}" for number in range(30)]
        + ["somebody"] * 8
        + ["anna.long.taken"] * 3
        + ["unlucky", "petrov.ivan"]
    )
    expect(pager.get_by_role("link", name="Older")).to_have_count(0)

    pager.get_by_role("link", name="Newer").click()

    expect(pager).to_contain_text("The latest 25 of 43 are shown")
    assert listed(every_end).locator(".who").all_inner_texts() == newest


def test_an_attempt_opens_in_full_and_leads_back_to_the_same_filter(every_end: Page) -> None:
    every_end.goto("/results/?code=invalid_phone")
    where = every_end.url

    open_first(every_end)

    expect(every_end.get_by_role("heading", level=1)).to_contain_text("422")
    errors = every_end.get_by_role("region", name="Errors in fields, table")
    expect(errors).to_contain_text("phone")
    expect(errors).to_contain_text("invalid_phone")
    expect(every_end.locator("#rq-body")).to_contain_text('"username": "somebody"')
    expect(every_end.locator("#rs-body")).to_contain_text('"status": 422')

    every_end.get_by_role("navigation", name="You are here").get_by_role("link").click()

    expect(every_end).to_have_url(where)
    expect(listed(every_end)).to_have_count(8)


def test_neighbours_of_an_attempt_stay_inside_the_filter(every_end: Page) -> None:
    every_end.goto("/results/?code=username_taken")
    open_first(every_end)
    neighbours = every_end.get_by_role("navigation", name="Previous and next request")

    for _ in range(2):
        before = every_end.url
        neighbours.get_by_role("link", name="Older").click()
        expect(every_end).not_to_have_url(before)
        expect(every_end.get_by_role("heading", level=1)).to_contain_text("409")

    expect(neighbours.get_by_role("link", name="Older")).to_have_count(0)


# Downloads


@pytest.mark.parametrize("chosen", ["", "?result=rejected", "?period=all"])
@pytest.mark.parametrize("link", COUNTS)
def test_a_file_holds_as_many_rows_as_the_page_says(every_end: Page, link: str, chosen: str) -> None:
    every_end.goto(f"/results/{chosen}")
    told = re.search(r"(\d+) rows", every_end.locator(".exports").inner_text())

    file = download(every_end, link)

    assert re.fullmatch(
        r"useradd_(all|\d{4}-\d\d-\d\d)_\d{4}-\d\d-\d\d" + re.escape(link[link.index(".") :]), file.name
    )
    assert told is not None
    assert COUNTS[link](file) == int(told[1]) == int(figures(every_end)["all"])


# Languages and themes


def test_a_click_makes_every_page_russian(every_end: Page) -> None:
    every_end.goto("/results/?result=rejected")

    every_end.get_by_role("link", name="Рус").click()

    expect(every_end.locator("html")).to_have_attribute("lang", "ru")
    expect(every_end.get_by_role("heading", level=1)).to_have_text("Запросы на создание пользователей")
    assert query(every_end)["result"] == "rejected"
    expect(listed(every_end)).to_have_count(11)
    every_end.goto("/results/")
    expect(every_end.get_by_role("heading", name="Почему не создан")).to_be_visible()
    open_first(every_end)
    expect(every_end.get_by_role("heading", name="Подробности")).to_be_visible()


def test_the_chosen_theme_stays(reader_page: Page) -> None:
    reader_page.emulate_media(color_scheme="light")
    light = reader_page.evaluate("getComputedStyle(document.body).backgroundColor")

    reader_page.get_by_role("button", name="Change the theme").click()
    reader_page.reload()

    expect(reader_page.locator("html")).to_have_attribute("data-theme", "dark")
    assert reader_page.evaluate("getComputedStyle(document.body).backgroundColor") != light


# Phones, and browsers without JavaScript


@pytest.mark.parametrize("language", ["en", "ru"])
def test_no_page_is_scrolled_sideways_on_a_phone(every_end: Page, complaints: Complaints, language: str) -> None:
    every_end.goto("/results/?code=invalid_phone")
    open_first(every_end)
    expect(every_end.locator("#rid")).to_be_visible()
    addresses = [
        "/login/",
        "/results/",
        "/results/?result=rejected&code=invalid_phone&status=422&period=30d",
        "/results/?period=dates&from=2024-01-01&to=2024-01-02",
        "/results/?from=2024-01-02&to=2024-01-01",
        every_end.url,
        "/problems/database_unavailable",
        "/problems/username_taken",
        "/nowhere",
        "/useradd",
    ]

    wide = sideways(every_end, addresses, language)

    forgive_refusals(complaints)
    assert wide == []


@pytest.mark.parametrize("language", ["en", "ru"])
def test_no_length_of_a_value_scrolls_a_phone_sideways(
    reader_page: Page, app: Flask, complaints: Complaints, language: str
) -> None:
    number = keep(
        app,
        ago(minutes=1),
        status=422,
        code="invalid_phone",
        errors=(INVALID_PHONE,),
        username="w" * 150,
        name="Щ" * 200,
        phone="1" * 60,
        email="w" * 60 + "@" + "w" * 60 + ".example",
        user_agent="W" * 200,
        client_request_id="W" * 100,
    )
    addresses = [
        "/results/",
        f"/results/{number}/",
        f"/results/?q={'w' * 150}",
        f"/results/?q={'W' * 200}",
        f"/results/?period={'W' * 60}",
    ]

    wide = sideways(reader_page, addresses, language)

    forgive_refusals(complaints)
    assert wide == []


def test_without_javascript_nothing_is_shown_that_needs_it(plain_page: Page, password: str) -> None:
    plain_page.goto("/login/")
    expect(plain_page.locator("[data-reveal]")).to_be_hidden()
    log_in(plain_page, password)

    for needing in ("[data-theme-toggle]", "#follow", "#newer"):
        expect(plain_page.locator(needing)).to_be_hidden()
    open_first(plain_page)
    for button in plain_page.locator("[data-copy]").all():
        expect(button).to_be_hidden()


def test_dates_the_wrong_way_round_are_an_error_on_the_field_and_can_be_swapped(
    reader_page: Page, complaints: Complaints
) -> None:
    today = f"{ago():%Y-%m-%d}"
    reader_page.goto(f"/results/?period=dates&from={today}&to=2024-01-01")
    expect(reader_page.get_by_label("To", exact=True)).to_have_accessible_description(re.compile("is before the start"))

    reader_page.get_by_role("link", name="Swap them").click()

    assert query(reader_page) == {"period": "dates", "from": "2024-01-01", "to": today}
    expect(listed(reader_page)).to_have_count(1)
    forgive_refusals(complaints)


def test_without_javascript_one_can_log_in_narrow_and_download(plain_page: Page, app: Flask, password: str) -> None:
    keep(app, ago(minutes=1), status=422, code="invalid_phone", errors=(INVALID_PHONE,))
    keep(app, ago(days=20))
    plain_page.goto("/results/")
    log_in(plain_page, password)
    expect(listed(plain_page)).to_have_count(2)

    plain_page.get_by_label("Result").select_option("created")
    plain_page.get_by_label("30 days").check()
    show(plain_page)

    expect(listed(plain_page)).to_have_count(2)
    assert query(plain_page) == {"period": "30d", "result": "created"}
    for link, count in COUNTS.items():
        assert count(download(plain_page, link)) == 2
    plain_page.get_by_role("button", name="Log out").click()
    expect(plain_page.get_by_role("heading", name="Log in")).to_be_visible()
