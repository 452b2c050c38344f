"""Every page in every look before axe-core (WCAG 2.2 AA: no finding); what a page weighs, and that nothing moves."""

import re
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, Page, ViewportSize, expect

from project.domain.errors import DatabaseUnavailableError
from project.http import reauthentication
from project.services import reports as service
from tests.browser.conftest import Complaints
from tests.conftest import Rows
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
Scheme = Literal["light", "dark"]
DESK: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
LOOKS: dict[str, tuple[ViewportSize, Scheme, str]] = {
    "light": (DESK, "light", "ru"),
    "dark": (DESK, "dark", "en"),
    "phone": (PHONE, "dark", "ru"),
}
ENLARGED: ViewportSize = {"width": 320, "height": 256}
"""1280 pixels at 400 %, as WCAG 2.2 has it in 1.4.10."""
STRAY = """() => [...document.body.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)
    .map((node) => node.data.trim()).filter(Boolean)"""
"""Words that stand in no part of the page: a browser puts what is wrong in <head> there."""
MAX_BYTES = 120_000
TRANSFERRED = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""
WATCH_SHIFTS = """window.shifted = 0;
new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.shifted += entry.value; })
    .observe({type: "layout-shift", buffered: true});"""
PAGES = (
    "/login/",
    "/results/",
    "/results/?period=all&result=rejected&code=invalid_phone&status=422&q=anna&tz=UTC",
    "/results/?period=yesterday&code=none",
    "/results/?period=dates&from=2024-01-02&to=2024-01-01",
    "/results/?period=today&q=long.ago",
    "/problems/",
    "/problems/validation_failed",
    "/problems/username_taken",
    "/swagger/",
    "/nowhere/",
    "/useradd",
    "/account/",
    "/admin/",
    "/admin/users/",
    "/admin/users/?search=nobody",
    "/admin/users/?active=no&administrator=yes",
    "/results/?address=127.0.0.1&client=Werkzeug",
    "/admin/api-keys/",
    "/admin/api-keys/new/",
    "/admin/nowhere/",
)
USER_PAGES = ("", "block/", "grant/", "reset/")


@pytest.fixture
def pages(reader_page: Page, app: Flask, rows: Rows) -> list[str]:
    """Addresses of all pages an administrator can come to, with something of everything on them."""
    rows.query("update users set is_admin = true")
    rows.query("insert into api_keys (id, name, key_hash) values (gen_random_uuid(), 'shop front', 'x')")
    rows.query("insert into api_keys (id, name, key_hash, revoked_at) values (gen_random_uuid(), 'old', 'y', now())")
    user, key = rows.of("users")[0]["id"], rows.of("api_keys")[0]["id"]
    for minute in range(30):
        keep(
            app, ago(minutes=minute), username=f"somebody.{minute}", phone="+7 9•• •••-••-67", email="a•••@example.org"
        )
    keep(app, ago(days=20), username="long.ago")
    keep(app, ago(minutes=2), status=503, code="database_unavailable")
    keep(app, ago(minutes=2), status=200, code="dry_run")
    for minute in range(25):
        keep(app, ago(hours=3, minutes=minute), status=409, code="username_taken", username="anna")
    wrong = keep(
        app, ago(minutes=1), status=422, code="invalid_phone", errors=(INVALID_PHONE,), phone="12", username="anna"
    )
    lost = keep(app, ago(minutes=1), status=0, code="interrupted")
    users = [f"/admin/users/{user}/{page}" for page in USER_PAGES]
    return [*PAGES, *users, f"/admin/api-keys/{key}/revoke/", f"/results/{wrong}/", f"/results/{lost}/"]


def findings(page: Page, address: str) -> list[str]:
    """Return what axe-core has against a page, all of it unfolded, and words outside of its parts."""
    page.wait_for_load_state()  # a form leads to a page that may still be without its style
    for summary in page.locator("summary").all():
        summary.click()
    ours = [] if address == "/swagger/" else ["best-practice"]
    found: list[dict[str, Any]] = (
        Axe().run(page, options={"runOnly": WCAG + ours, "resultTypes": ["violations"]}).response["violations"]
    )
    stray = [f"{address}: stray: {words}" for words in page.evaluate(STRAY)]
    return stray + [f"{address}: {one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def away(*_: object, **__: object) -> None:
    """Stand in for a question when PostgreSQL is away."""
    raise DatabaseUnavailableError


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_has_a_barrier(
    page: Page, pages: list[str], complaints: Complaints, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, scheme, language = LOOKS[look]
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    found = []

    for address in pages:
        page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
        if address == "/swagger/":
            page.locator(".opblock").first.wait_for()
        found += findings(page, address)
    page.goto("/admin/api-keys/new/")
    page.locator("[name=name]").fill("new")
    page.keyboard.press("Enter")
    page.locator("#secret").wait_for()
    found += findings(page, "a secret")
    page.goto("/account/")
    for field in ("current", "chosen", "repeated"):
        page.locator(f"[name={field}]").fill("wrong")
    page.keyboard.press("Enter")
    page.locator("[aria-invalid=true]").first.wait_for()
    found += findings(page, "a password that was not changed")
    page.goto("/login/")
    page.locator("#login").fill("petrov.ivan")
    page.locator("#password").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    found += findings(page, "a refused login")
    monkeypatch.setattr(reauthentication, "is_required", lambda: True)
    page.goto(next(address for address in pages if address.endswith("/block/")))
    expect(page.locator("[name=password]")).to_be_focused()
    found += findings(page, "a question that takes the password")
    monkeypatch.setattr(service, "build_report", away)
    page.goto("/results/")
    found += findings(page, "an outage")

    complaints.errors[:] = [error for error in complaints.errors if not re.search(r"status of (4|503)", error)]
    assert found == []


def test_no_page_is_scrolled_sideways_when_enlarged_four_times(
    page: Page, pages: list[str], complaints: Complaints
) -> None:
    page.set_viewport_size(ENLARGED)
    wide = []

    for address in pages:
        page.goto(address)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > ENLARGED["width"] and address != "/swagger/":
            wide.append((address, width))

    complaints.errors[:] = [error for error in complaints.errors if "status of 4" not in error]
    assert wide == []


@pytest.mark.parametrize("look", LOOKS)
def test_the_first_view_is_small_and_nothing_in_it_moves(
    browser: Browser, address: str, page: Page, pages: list[str], look: str
) -> None:
    size, scheme, language = LOOKS[look]
    context = browser.new_context(
        base_url=address,
        viewport=size,
        color_scheme=scheme,
        locale=language,
        storage_state=page.context.storage_state(),  # the same reader, whose new browser has nothing of the service yet
    )
    context.add_init_script(WATCH_SHIFTS)
    newcomer = context.new_page()

    newcomer.goto("/results/", wait_until="networkidle")

    assert newcomer.locator("#rows tbody tr").count() == 25
    assert newcomer.evaluate("window.shifted") == 0
    assert 0 < newcomer.evaluate(TRANSFERRED) < MAX_BYTES
    context.close()


def test_a_keyboard_reaches_the_content_at_once_and_sees_where_it_is(page: Page, pages: list[str]) -> None:
    page.goto("/results/")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("media", [{"reduced_motion": "reduce"}, {"forced_colors": "active"}])
def test_wishes_of_the_system_are_heeded(page: Page, pages: list[str], media: dict[str, Any]) -> None:
    page.emulate_media(**media)
    page.goto("/results/")

    if "reduced_motion" in media:
        durations = page.locator("*").evaluate_all(
            "(all) => all.map((one) => getComputedStyle(one).transitionDuration)"
        )
        assert set(durations) == {"0s"}
    else:
        assert page.locator(".badge").first.evaluate("(one) => getComputedStyle(one).borderTopStyle") == "solid"
        chosen, other = page.locator(".segmented span").evaluate_all(
            "(all) => [all[1], all[2]].map((one) => getComputedStyle(one).backgroundColor)"
        )
        assert chosen != other
