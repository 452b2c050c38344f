"""Administration pages in a browser, under the CSP: every change is confirmed first."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.conftest import PageErrors, clicks, count_clicks
from tests.builders import ANNA, useradd
from tests.conftest import Rows
from tests.functional.attempts import ago, keep

pytestmark = pytest.mark.browser

OVERFLOWING = """() => [...document.querySelectorAll("#rows th, #rows td")]
    .filter((cell) => cell.offsetWidth && cell.scrollWidth > cell.clientWidth).map((cell) => cell.innerText)"""


TOO_WIDE = """() => [...document.querySelectorAll("main, .scroll")]
    .filter((box) => box.scrollWidth > box.clientWidth).map((box) => box.getAttribute("aria-label") ?? "the page")"""
ROWS_OF_LINKS = """() => [".tabs", ".top .wrap > nav"].map((bar) => {
    const links = [...document.querySelectorAll(`${bar} a`)];
    return new Set(links.map((link) => Math.round(link.getBoundingClientRect().top))).size;
})"""
COLUMNS = """() => [...document.querySelectorAll("#rows tr")].map((row) =>
    [...row.cells].filter((cell) => cell.offsetWidth).map((cell) => Math.round(cell.getBoundingClientRect().left)))"""
"""Returns the left edges of the visible cells of each row of a table, the head first."""
DESKTOP, PHONE = ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)
PAPER = ViewportSize(width=718, height=1000)
"""A4 with margins of a centimetre."""


@pytest.fixture
def anna(client: FlaskClient) -> str:
    """The password of another user, Anna."""
    answer = useradd(client, ANNA).json
    assert answer is not None
    return str(answer["password"])


@pytest.fixture
def admin_page(anna: str, reader_page: Page, rows: Rows) -> Page:
    """A tab of an administrator; there is another user, Anna."""
    rows.query("update users set is_admin = true where username = 'petrov.ivan'")
    reader_page.goto("/admin/")
    return reader_page


@pytest.fixture
def other(browser: Browser, address: str) -> Iterator[Page]:
    """A tab of another browser."""
    context = browser.new_context(base_url=address, locale="en")
    yield context.new_page()
    context.close()


def log_in(page: Page, login: str, password: str) -> None:
    """Open the login page, fill in and send the form."""
    page.goto("/login/")
    page.get_by_label("Login").fill(login)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def find_anna(page: Page) -> None:
    """Search for Anna by phone and open her page."""
    page.get_by_role("navigation", name="Administration").get_by_role("link", name="Users").click()
    page.get_by_label("Search").fill("8 912 555-01-41")
    page.get_by_label("Search").press("Enter")
    page.get_by_role("link", name="a.sokolova", exact=True).click()


def test_the_results_page_links_to_the_administration(admin_page: Page) -> None:
    admin_page.goto("/results/")

    admin_page.get_by_role("link", name="Administration").click()

    expect(admin_page.get_by_role("heading", name="Users")).to_be_visible()


def test_a_blocked_user_is_logged_out_at_once(admin_page: Page, other: Page, anna: str) -> None:
    log_in(other, "a.sokolova", anna)
    expect(other).to_have_url(re.compile("/results/$"))
    find_anna(admin_page)

    admin_page.get_by_role("link", name="Block").click()
    expect(admin_page.get_by_role("heading", name="Block a.sokolova?")).to_be_visible()
    other.reload()
    expect(other).to_have_url(re.compile("/results/$"))
    admin_page.get_by_role("button", name="Block").click()

    expect(admin_page.get_by_role("status")).to_contain_text("a.sokolova is blocked.")
    expect(admin_page.get_by_role("heading", level=1)).to_contain_text("Blocked")
    other.reload()
    expect(other).to_have_url(re.compile("/login/"))
    log_in(other, "a.sokolova", anna)
    expect(other.get_by_role("alert")).to_contain_text("Wrong login or password")


def test_cancelling_a_confirmation_changes_nothing(admin_page: Page, rows: Rows) -> None:
    find_anna(admin_page)
    before = rows.of("users")

    admin_page.get_by_role("link", name="Issue new password").click()
    admin_page.get_by_role("link", name="Cancel").click()

    expect(admin_page.get_by_role("heading", level=1)).to_contain_text("a.sokolova")
    assert rows.of("users") == before


def test_a_new_password_for_a_person_takes_four_clicks(admin_page: Page) -> None:
    count_clicks(admin_page)
    admin_page.goto("/results/")

    admin_page.get_by_role("link", name="Administration").click()
    admin_page.get_by_label("Search").fill("соколова анна")
    admin_page.get_by_label("Search").press("Enter")
    admin_page.get_by_role("link", name="a.sokolova", exact=True).click()
    admin_page.get_by_role("link", name="Issue new password").click()
    admin_page.get_by_role("button", name="Issue new password").click()

    expect(admin_page.locator("#secret")).to_be_visible()
    assert clicks(admin_page) == 4


def test_a_new_password_is_shown_once_and_logs_in(admin_page: Page, other: Page) -> None:
    find_anna(admin_page)
    admin_page.get_by_role("link", name="Issue new password").click()

    admin_page.get_by_role("button", name="Issue new password").click()

    password = admin_page.locator("#secret").inner_text()
    log_in(other, "a.sokolova", password)
    expect(other).to_have_url(re.compile("/results/$"))
    admin_page.get_by_role("link", name="Done").click()
    expect(admin_page.get_by_role("heading", level=1)).to_contain_text("a.sokolova")
    expect(admin_page.get_by_text(password)).to_have_count(0)


def test_a_key_is_created_used_and_revoked(admin_page: Page, app: Flask) -> None:
    def read_with(key: str) -> int:
        return app.test_client().get("/api/v1/stats/", headers={"Authorization": f"Bearer {key}"}).status_code

    admin_page.get_by_role("link", name="API keys").click()
    admin_page.get_by_role("link", name="New key").click()
    admin_page.get_by_label("Purpose").fill("shop front")
    admin_page.get_by_role("button", name="Create key").click()
    key = admin_page.locator("#secret").inner_text()
    status = read_with(key)
    admin_page.get_by_role("link", name="Done").click()
    row = admin_page.get_by_role("row", name="shop front")
    expect(row).to_contain_text("Valid")

    row.get_by_role("link", name="Revoke shop front").click()
    admin_page.get_by_role("button", name="Revoke").click()

    assert status == 200
    expect(admin_page.get_by_role("status")).to_contain_text("“shop front” is revoked")
    expect(row).to_contain_text("Revoked")
    expect(row.get_by_role("link", name="Revoke")).to_have_count(0)
    expect(admin_page.get_by_text(key)).to_have_count(0)


def test_filters_stay_in_the_address_from_page_to_page(admin_page: Page, rows: Rows) -> None:
    rows.query(
        "insert into users (id, attempt_status, name, username, phone, password_hash, created_at)"
        " select gen_random_uuid(), null, 'x', 'somebody.' || number, '+1', 'x', now()"
        " from generate_series(1, 30) number"
    )
    admin_page.get_by_role("navigation", name="Administration").get_by_role("link", name="Users").click()
    admin_page.get_by_label("Role").select_option("None")
    admin_page.get_by_label("Search").fill("somebody")
    admin_page.get_by_role("button", name="Show", exact=True).click()
    expect(admin_page).to_have_url(re.compile(r"/admin/users/\?search=somebody&role=user$"))
    expect(admin_page.locator("#rows tbody tr")).to_have_count(25)

    admin_page.get_by_role("link", name="Older").click()

    expect(admin_page.locator("#rows tbody tr")).to_have_count(5)
    admin_page.get_by_role("link", name="Newest").click()
    expect(admin_page.locator("#rows tbody tr")).to_have_count(25)
    expect(admin_page.get_by_label("Role")).to_have_value("user")
    admin_page.get_by_role("link", name="Reset all").click()
    expect(admin_page).to_have_url(re.compile(r"/admin/users/$"))


def test_attempts_are_found_by_client(admin_page: Page, app: Flask) -> None:
    keep(app, ago(minutes=1), username="by.curl", client_address="203.0.113.7", user_agent="curl/8.14.1")
    keep(app, ago(minutes=2), username="elsewhere", client_address="203.0.113.8", user_agent="curl/8.14.1")
    admin_page.goto("/results/")
    admin_page.get_by_label("Client address").fill("203.0.113.7")
    admin_page.get_by_label("Client", exact=True).fill("CURL")
    admin_page.get_by_label("Client", exact=True).press("Enter")

    expect(admin_page).to_have_url(re.compile(r"\?address=203\.0\.113\.7&client=CURL$"))
    expect(admin_page.locator("#rows tbody tr")).to_have_count(1)
    expect(admin_page.locator("#rows tbody tr")).to_contain_text("by.curl")

    admin_page.get_by_role("link", name="Remove the filter Client address").click()

    expect(admin_page.locator("#rows tbody tr")).to_have_count(2)
    expect(admin_page.get_by_label("Client", exact=True)).to_have_value("CURL")


def test_an_ordinary_user_is_refused(reader_page: Page, page_errors: PageErrors) -> None:
    reader_page.goto("/admin/users/")

    expect(reader_page.get_by_role("heading", name="Not allowed")).to_be_visible()
    page_errors.console[:] = [error for error in page_errors.console if "status of 403" not in error]


@pytest.mark.parametrize("language", ["en", "ru"])
def test_no_page_scrolls_sideways_on_a_phone(admin_page: Page, rows: Rows, app: Flask, language: str) -> None:
    rows.query("update users set name = repeat('Щ', 300), username = repeat('w', 150) where username = 'a.sokolova'")
    rows.query("insert into api_keys (id, name, key_hash) values (gen_random_uuid(), repeat('W', 100), 'x')")
    keep(app, ago(minutes=1), username="w" * 150, user_agent="W" * 300, client_address="f" * 39)
    user = rows.query("select id from users where length(username) = 150")[0]["id"]
    key = rows.of("api_keys")[0]["id"]
    admin_page.set_viewport_size({"width": 390, "height": 844})
    pages = ("/admin/", "/admin/users/", f"/admin/users/{user}/", f"/admin/users/{user}/block/", "/results/?client=W")
    keys = ("/admin/api-keys/", "/admin/api-keys/new/", f"/admin/api-keys/{key}/revoke/")

    for address in (*pages, *keys, "/account/"):
        admin_page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
        width = admin_page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, address
        assert admin_page.evaluate(OVERFLOWING) == [], address


@pytest.mark.parametrize(("media", "size"), [("screen", DESKTOP), ("print", PAPER)])
def test_long_values_push_no_column_off_the_screen_or_the_paper(
    admin_page: Page, rows: Rows, app: Flask, media: Any, size: ViewportSize
) -> None:
    email = f"{'a' * 60}@{'b' * 50}.example.org"
    rows.query("update users set username = repeat('w', 99), name = repeat('Щ', 99), email = :email", email=email)
    rows.query("insert into api_keys (id, name, key_hash) values (gen_random_uuid(), repeat('W', 99), 'x')")
    rows.query(
        "insert into imports (id, created_by, file_name, ignore_unknown, state)"
        " select gen_random_uuid(), id, repeat('W', 99), false, 'done' from users limit 1"
    )
    rows.query(
        "insert into audit_log (id, actor_kind, actor, action, target)"
        " values (gen_random_uuid(), 'user', repeat('w', 99), 'user_blocked', repeat('W', 99))"
    )
    keep(app, ago(minutes=1), username="w" * 99, name="Щ" * 99, phone="+7 912 •••-••-41", email=f"a•••{email[60:]}")
    admin_page.set_viewport_size(size)
    admin_page.emulate_media(media=media)
    found = {}

    for address in ("/results/", "/admin/users/", "/admin/imports/", "/admin/api-keys/", "/admin/audit/"):
        admin_page.goto(address)
        found[address] = admin_page.evaluate(TOO_WIDE)

    assert not any(found.values()), found


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_cells_of_lists_stand_below_the_head_of_their_column(admin_page: Page, rows: Rows, size: ViewportSize) -> None:
    rows.query("insert into api_keys (id, name, key_hash) values (gen_random_uuid(), 'shop front', 'x')")
    rows.query("update users set is_active = false, username = 'konstantinova.alexandra' where username = 'a.sokolova'")
    rows.query(
        "insert into audit_log (id, actor_kind, actor, action, target)"
        " values (gen_random_uuid(), 'user', 'petrov.ivan', 'user_blocked', 'anna')"
    )
    admin_page.set_viewport_size(size)

    for address in ("/admin/users/", "/admin/api-keys/", "/admin/audit/"):
        admin_page.goto(address)
        head, *body = admin_page.evaluate(COLUMNS)
        assert body, address
        assert all(row == head for row in body), address


@pytest.mark.parametrize("language", ["en", "ru"])
def test_links_and_filters_of_administrators_take_one_line(admin_page: Page, language: str) -> None:
    admin_page.goto(f"/results/?lang={language}")
    fields = admin_page.locator(".filters input:visible, .filters select, .filters button").all()
    bottoms = {round(box["y"] + box["height"]) for field in fields if (box := field.bounding_box())}
    admin_page.set_viewport_size(PHONE)
    admin_page.goto("/admin/")

    assert len(fields) == 6
    assert len(bottoms) == 1
    assert admin_page.evaluate(ROWS_OF_LINKS) == [1, 1]


def test_without_javascript_a_user_is_found_and_blocked_after_confirmation(
    admin_page: Page, browser: Browser, address: str, rows: Rows
) -> None:
    cookies = [
        {"name": cookie["name"], "value": cookie["value"], "url": address} for cookie in admin_page.context.cookies()
    ]
    context = browser.new_context(base_url=address, locale="en", java_script_enabled=False)
    context.add_cookies(cookies)  # type: ignore[arg-type]  # a TypedDict of the same keys
    plain = context.new_page()
    plain.goto("/admin/")
    find_anna(plain)

    plain.get_by_role("link", name="Block").click()
    before = rows.query("select is_active from users where username = 'a.sokolova'")
    plain.get_by_role("button", name="Block").click()

    expect(plain.get_by_role("status")).to_contain_text("a.sokolova is blocked.")
    assert before == [{"is_active": True}]
    context.close()


def test_a_block_is_in_the_audit_log_and_the_list_comes_back_as_it_was_left(admin_page: Page) -> None:
    find_anna(admin_page)
    admin_page.get_by_role("link", name="Block", exact=True).click()
    admin_page.get_by_role("button", name="Block").click()
    expect(admin_page.get_by_role("region", name="Audit log")).to_contain_text("petrov.ivan · User blocked")
    admin_page.get_by_role("navigation", name="You are here").get_by_role("link").click()

    expect(admin_page.get_by_label("Search")).to_have_value("8 912 555-01-41")
    expect(admin_page.locator("#rows tbody tr")).to_contain_text("by petrov.ivan,")
    admin_page.get_by_role("link", name="Audit log").click()
    with admin_page.expect_download() as download:
        admin_page.get_by_role("link", name="Download").click()

    assert download.value.suggested_filename == "useradd_audit_log.csv"
    expect(admin_page.locator("#rows tbody tr")).to_contain_text("User blocked")
    admin_page.get_by_role("link", name="a.sokolova", exact=True).click()
    admin_page.get_by_role("link", name="all requests with this login").click()
    expect(admin_page.locator("#rows tbody tr")).to_have_count(1)
