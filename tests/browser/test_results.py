"""Log in, filter, open an attempt, download, log out.

The tests run on desktop, on a phone, and without JavaScript.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openpyxl import load_workbook
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import PageErrors, expand
from tests.builders import ANNA, IVAN, useradd
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

COUNTS_BY_OUTCOME = {"all": "43", "created": "31", "rejected": "11", "failed": "1"}
"""Counts of `every_outcome`, including the user that is logged in."""


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The password that the service issued to `petrov.ivan`."""
    user = useradd(client, IVAN).json
    assert user is not None
    return str(user["password"])


@pytest.fixture
def every_outcome(reader_page: Page, app: Flask) -> Page:
    """A results page with more rows than it shows at once, some of each outcome, and old ones."""
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
    """A tab without a session and without JavaScript."""
    context = browser.new_context(base_url=address, locale="en", java_script_enabled=False)
    yield context.new_page()
    context.close()


def log_in(page: Page, password: str) -> None:
    """Fill in and send the login form."""
    page.get_by_label("Login").fill("petrov.ivan")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def totals(page: Page) -> dict[str, str]:
    """Return the totals by outcome."""
    return dict(zip(COUNTS_BY_OUTCOME, page.locator(".kpis dd b").all_inner_texts(), strict=False))


def rows(page: Page) -> Locator:
    """Return the rows of the attempt list."""
    return page.locator("#rows tbody tr")


def logins(page: Page) -> list[str]:
    """Return the logins of the rows, without the names below them."""
    return [text.split("\n")[0] for text in rows(page).locator(".who").all_inner_texts()]


def open_first(page: Page) -> None:
    """Open the attempt of the first row."""
    rows(page).first.locator("a.id").click()


def apply_filters(page: Page) -> None:
    """Send the filter form."""
    page.get_by_role("button", name="Show", exact=True).click()


def query(page: Page) -> dict[str, str]:
    """Return the query parameters of the address."""
    return dict(parse_qsl(urlsplit(page.url).query))


def download(page: Page, link: str) -> Path:
    """Download the file of a link and return its path, with the name from the response."""
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    file = download.value.path()
    return file.rename(file.with_name(download.value.suggested_filename))


def count_in_text(file: Path) -> int:
    """Return the number of attempts in a .txt file; its last line must state the same."""
    lines = file.read_bytes().decode("utf-8-sig").split("\r\n")
    entries = [line for line in lines if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\t", line)]
    assert lines[-2:] == [f"End: {len(entries)} rows", ""]
    return len(entries)


def count_in_workbook(file: Path) -> int:
    """Return the number of attempts in a workbook."""
    [sheet] = [sheet for sheet in load_workbook(file) if sheet.title.startswith("Requests")]
    return int(sheet.max_row) - 1


def count_in_csv(file: Path) -> int:
    """Return the number of attempts in a .csv file."""
    with file.open(encoding="utf-8", newline="") as lines:
        return len(list(csv.reader(lines))) - 1


def too_wide(page: Page, addresses: list[str], language: str) -> list[tuple[str, int]]:
    """Return address and width of the pages that are wider than a phone.

    All details of a page are expanded.
    """
    page.set_viewport_size({"width": 390, "height": 844})
    wide = []
    for address in addresses:
        page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
        expand(page)
        width, available = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]",
        )
        assert available == 390
        if width > available:
            wide.append((address, width))
    return wide


def ignore_status_4xx(page_errors: PageErrors) -> None:
    """Remove the console errors about expected responses with status 4xx."""
    page_errors.console[:] = [error for error in page_errors.console if not re.search(r"status of 4\d\d", error)]


COUNTS = {"Excel, .xlsx": count_in_workbook, "Text, .txt": count_in_text, ".csv": count_in_csv}


# Logging in and out


def test_issued_credentials_open_the_results_page_with_all_attempts(
    page: Page, client: FlaskClient, password: str
) -> None:
    useradd(client, ANNA)
    useradd(client, ANNA)
    page.goto("/")

    log_in(page, password)

    expect(page).to_have_url(re.compile(r"/results/$"))
    assert totals(page) == {"all": "3", "created": "2", "rejected": "1", "failed": "0"}
    expect(rows(page)).to_have_count(3)
    expect(rows(page).first).to_contain_text("409")
    expect(page.locator(".me")).to_contain_text("petrov.ivan")


def test_a_wrong_password_shows_an_error_and_keeps_the_login(
    page: Page, page_errors: PageErrors, password: str
) -> None:
    page.goto("/login/")

    log_in(page, "not-" + password)

    expect(page.get_by_role("alert")).to_contain_text("Wrong login or password")
    expect(page.get_by_label("Login")).to_have_value("petrov.ivan")
    expect(page.get_by_label("Password", exact=True)).to_have_value("")
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    ignore_status_4xx(page_errors)


def test_the_password_can_be_shown_and_hidden(page: Page) -> None:
    page.goto("/login/")
    page.get_by_label("Password", exact=True).fill("secret")

    page.get_by_role("button", name="Show password").click()

    expect(page.locator("#password")).to_have_attribute("type", "text")
    page.get_by_role("button", name="Hide password").click()
    expect(page.locator("#password")).to_have_attribute("type", "password")


def test_logging_out_ends_the_session(reader_page: Page) -> None:
    reader_page.get_by_role("button", name="Log out").click()

    expect(reader_page).to_have_url(re.compile(r"/login/$"))
    reader_page.goto("/results/")
    expect(reader_page).to_have_url(re.compile(r"/login/\?next="))
    assert query(reader_page) == {"next": "/results/"}


# Filters


def test_the_filter_by_result_is_in_the_address(every_outcome: Page) -> None:
    assert totals(every_outcome) == COUNTS_BY_OUTCOME
    every_outcome.get_by_label("Result").select_option(label="Rejected")

    apply_filters(every_outcome)

    expect(every_outcome).to_have_url(re.compile(r"[?&]result=rejected$"))
    assert totals(every_outcome) == {"all": "11", "created": "0", "rejected": "11", "failed": "0"}
    expect(rows(every_outcome)).to_have_count(11)
    expect(every_outcome.get_by_label("Result")).to_have_value("rejected")


def test_the_filter_by_reason_is_in_the_address_and_removed_by_its_chip(every_outcome: Page) -> None:
    every_outcome.get_by_label("Reason").select_option("username_taken")
    apply_filters(every_outcome)
    expect(every_outcome).to_have_url(re.compile(r"[?&]code=username_taken$"))
    expect(rows(every_outcome)).to_have_count(3)
    assert set(logins(every_outcome)) == {"anna.long.taken"}

    every_outcome.get_by_role("link", name="Remove the filter").click()

    expect(every_outcome).to_have_url(re.compile(r"/results/$"))
    assert totals(every_outcome) == COUNTS_BY_OUTCOME


def test_a_reason_in_the_list_of_reasons_links_to_its_attempts(every_outcome: Page) -> None:
    every_outcome.get_by_role("region", name="Why no user was created").get_by_text("invalid_phone").click()

    expect(every_outcome).to_have_url(re.compile(r"/results/\?code=invalid_phone$"))
    expect(rows(every_outcome)).to_have_count(8)


def test_a_search_is_in_the_address_and_finds_attempts(every_outcome: Page) -> None:
    every_outcome.get_by_label("Search", exact=True).fill("somebody.2")

    every_outcome.get_by_label("Search", exact=True).press("Enter")

    expect(every_outcome).to_have_url(re.compile(r"[?&]q=somebody\.2$"))
    expect(rows(every_outcome)).to_have_count(11)  # .2 and .20 to .29
    expect(every_outcome.get_by_label("Search", exact=True)).to_have_value("somebody.2")


def test_a_period_is_in_the_address_and_includes_old_attempts(every_outcome: Page) -> None:
    every_outcome.get_by_role("link", name="30 days").click()

    expect(every_outcome).to_have_url(re.compile(r"/results/\?period=30d$"))
    assert totals(every_outcome)["all"] == "44"


def test_a_period_can_be_given_by_dates(every_outcome: Page) -> None:
    expect(every_outcome.get_by_label("From")).to_be_hidden()
    every_outcome.get_by_text("Dates…").click()
    every_outcome.get_by_label("From").fill(f"{ago(days=22):%Y-%m-%d}")
    every_outcome.get_by_label("To", exact=True).fill(f"{ago(days=18):%Y-%m-%d}")

    every_outcome.get_by_role("button", name="Show these dates").click()

    expect(rows(every_outcome)).to_have_count(1)
    assert query(every_outcome) == {
        "period": "dates",
        "from": f"{ago(days=22):%Y-%m-%d}",
        "to": f"{ago(days=18):%Y-%m-%d}",
    }


def test_a_column_of_the_chart_links_to_its_attempts(every_outcome: Page) -> None:
    every_outcome.goto("/results/?q=long.ago&period=30d")

    every_outcome.locator(".columns a", has=every_outcome.locator("rect.ok")).locator(".hit").click()

    expect(every_outcome).to_have_url(re.compile(r"from=\d{4}-\d\d-\d\d&to=\d{4}-\d\d-\d\d&q=long\.ago$"))
    expect(rows(every_outcome)).to_have_count(1)


def test_a_filter_without_results_offers_to_search_all_time(every_outcome: Page) -> None:
    every_outcome.goto("/results/?q=long.ago")
    expect(every_outcome.get_by_role("heading", name="No requests match this filter")).to_be_visible()

    every_outcome.get_by_role("link", name="Search all time").click()

    expect(rows(every_outcome)).to_have_count(1)


# Paging, and one attempt


def test_older_and_newer_pages_contain_every_row_once(every_outcome: Page) -> None:
    pager = every_outcome.get_by_role("navigation", name="Pages")
    newest = logins(every_outcome)
    expect(pager).to_contain_text("1–25 of 43")

    pager.get_by_role("link", name="Older").click()

    expect(pager).to_contain_text("26–43 of 43")
    older = logins(every_outcome)
    # 30 created, 8 with an invalid phone, 3 taken, 1 failed, and the user's own: each on one of the two pages
    assert sorted(newest + older) == sorted(
        [f"somebody.{number}" for number in range(30)]
        + ["somebody"] * 8
        + ["anna.long.taken"] * 3
        + ["unlucky", "petrov.ivan"]
    )
    expect(pager.get_by_role("link", name="Older")).to_have_count(0)

    pager.get_by_role("link", name="Newer").click()

    expect(pager).to_contain_text("1–25 of 43")
    assert logins(every_outcome) == newest


def test_an_attempt_page_shows_all_details_and_links_back_to_the_same_filter(every_outcome: Page) -> None:
    every_outcome.goto("/results/?code=invalid_phone")
    url = every_outcome.url

    open_first(every_outcome)

    expect(every_outcome.get_by_role("heading", level=1)).to_contain_text("422")
    errors = every_outcome.get_by_role("region", name="Errors in fields, table")
    expect(errors).to_contain_text("phone")
    expect(errors).to_contain_text("invalid_phone")
    expect(every_outcome.locator("#rq-body")).to_contain_text('"username": "somebody"')
    expect(every_outcome.locator("#rs-body")).to_contain_text('"status": 422')

    every_outcome.get_by_role("navigation", name="You are here").get_by_role("link").click()

    expect(every_outcome).to_have_url(url)
    expect(rows(every_outcome)).to_have_count(8)


def test_links_to_neighbouring_attempts_keep_the_filter(every_outcome: Page) -> None:
    every_outcome.goto("/results/?code=username_taken")
    open_first(every_outcome)
    neighbours = every_outcome.get_by_role("navigation", name="Previous and next request")

    for _ in range(2):
        before = every_outcome.url
        neighbours.get_by_role("link", name="Older").click()
        expect(every_outcome).not_to_have_url(before)
        expect(every_outcome.get_by_role("heading", level=1)).to_contain_text("409")

    expect(neighbours.get_by_role("link", name="Older")).to_have_count(0)


# Downloads


@pytest.mark.parametrize("query", ["", "?result=rejected", "?period=all"])
@pytest.mark.parametrize("link", COUNTS)
def test_an_exported_file_contains_as_many_rows_as_the_page_states(every_outcome: Page, link: str, query: str) -> None:
    every_outcome.goto(f"/results/{query}")
    stated = re.search(r"(\d+) rows", every_outcome.locator(".exports").inner_text())

    file = download(every_outcome, link)

    assert re.fullmatch(
        r"useradd_(all|\d{4}-\d\d-\d\d)_\d{4}-\d\d-\d\d(_rejected)?" + re.escape(link[link.index(".") :]), file.name
    )
    assert stated is not None
    assert COUNTS[link](file) == int(stated[1]) == int(totals(every_outcome)["all"])


# Languages and themes


def test_the_language_link_switches_all_pages_to_russian(every_outcome: Page) -> None:
    every_outcome.goto("/results/?result=rejected")

    every_outcome.get_by_role("link", name="Рус").click()

    expect(every_outcome.locator("html")).to_have_attribute("lang", "ru")
    expect(every_outcome.get_by_role("heading", level=1)).to_have_text("Запросы на создание пользователей")
    assert query(every_outcome)["result"] == "rejected"
    expect(rows(every_outcome)).to_have_count(11)
    every_outcome.goto("/results/")
    expect(every_outcome.get_by_role("heading", name="Причины отказов")).to_be_visible()
    open_first(every_outcome)
    expect(every_outcome.get_by_role("heading", name="Подробности")).to_be_visible()


def test_the_selected_theme_is_remembered(reader_page: Page) -> None:
    reader_page.emulate_media(color_scheme="light")
    light = reader_page.evaluate("getComputedStyle(document.body).backgroundColor")

    reader_page.get_by_role("button", name="Change the theme").click()
    reader_page.reload()

    expect(reader_page.locator("html")).to_have_attribute("data-theme", "dark")
    assert reader_page.evaluate("getComputedStyle(document.body).backgroundColor") != light


# Phones, and browsers without JavaScript


@pytest.mark.parametrize("language", ["en", "ru"])
def test_no_page_scrolls_horizontally_on_a_phone(every_outcome: Page, page_errors: PageErrors, language: str) -> None:
    every_outcome.goto("/results/?code=invalid_phone")
    open_first(every_outcome)
    expect(every_outcome.locator("#rid")).to_be_visible()
    addresses = [
        "/login/",
        "/results/",
        "/results/?result=rejected&code=invalid_phone&status=422&period=30d",
        "/results/?period=dates&from=2024-01-01&to=2024-01-02",
        "/results/?from=2024-01-02&to=2024-01-01",
        every_outcome.url,
        "/problems/database_unavailable",
        "/problems/username_taken",
        "/nowhere",
        "/useradd",
    ]

    wide = too_wide(every_outcome, addresses, language)

    ignore_status_4xx(page_errors)
    assert wide == []


@pytest.mark.parametrize("language", ["en", "ru"])
def test_long_values_do_not_make_a_page_scroll_horizontally_on_a_phone(
    reader_page: Page, app: Flask, page_errors: PageErrors, language: str
) -> None:
    attempt_id = keep(
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
        f"/results/{attempt_id}/",
        f"/results/?q={'w' * 150}",
        f"/results/?q={'W' * 200}",
        f"/results/?period={'W' * 60}",
    ]

    wide = too_wide(reader_page, addresses, language)

    ignore_status_4xx(page_errors)
    assert wide == []


def test_without_javascript_controls_that_need_it_are_hidden(plain_page: Page, password: str) -> None:
    plain_page.goto("/login/")
    expect(plain_page.locator("[data-reveal]")).to_be_hidden()
    log_in(plain_page, password)

    for selector in ("[data-theme-toggle]", "#follow", "#newer"):
        expect(plain_page.locator(selector)).to_be_hidden()
    open_first(plain_page)
    for button in plain_page.locator("[data-copy]").all():
        expect(button).to_be_hidden()


def test_dates_in_the_wrong_order_are_a_field_error_and_can_be_swapped(
    reader_page: Page, page_errors: PageErrors
) -> None:
    today = f"{ago().astimezone(ZoneInfo('Europe/Moscow')):%Y-%m-%d}"  # the display time zone
    reader_page.goto(f"/results/?period=dates&from={today}&to=2024-01-01")
    expect(reader_page.get_by_label("To", exact=True)).to_have_accessible_description(re.compile("is before the start"))

    reader_page.get_by_role("link", name="Swap them").click()

    assert query(reader_page) == {"period": "dates", "from": "2024-01-01", "to": today}
    expect(rows(reader_page)).to_have_count(1)
    ignore_status_4xx(page_errors)


def test_logging_in_filtering_and_downloading_work_without_javascript(
    plain_page: Page, app: Flask, password: str
) -> None:
    keep(app, ago(minutes=1), status=422, code="invalid_phone", errors=(INVALID_PHONE,))
    keep(app, ago(days=20))
    plain_page.goto("/results/")
    log_in(plain_page, password)
    expect(rows(plain_page)).to_have_count(2)

    plain_page.get_by_label("Result").select_option("created")
    apply_filters(plain_page)
    plain_page.get_by_role("link", name="30 days").click()

    expect(rows(plain_page)).to_have_count(2)
    assert query(plain_page) == {"period": "30d", "result": "created"}
    for link, count in COUNTS.items():
        assert count(download(plain_page, link)) == 2
    plain_page.get_by_role("button", name="Log out").click()
    expect(plain_page.get_by_role("heading", name="Log in")).to_be_visible()
