"""Accessibility of every page in each appearance (axe-core, WCAG 2.2 AA).

Page weight and layout shift are checked, too.
"""

import re
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, Page, ViewportSize, expect

from project.domain.errors import DatabaseUnavailableError
from project.http import reauthentication
from project.services import reports as service
from tests.browser.conftest import PageErrors, expand
from tests.conftest import Rows
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
Scheme = Literal["light", "dark"]
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
APPEARANCES: dict[str, tuple[ViewportSize, Scheme, str]] = {
    "light": (DESKTOP, "light", "ru"),
    "dark": (DESKTOP, "dark", "en"),
    "phone": (PHONE, "dark", "ru"),
}
ENLARGED: ViewportSize = {"width": 320, "height": 256}
"""1280 pixels at 400 %, see WCAG 2.2, 1.4.10."""
STRAY_TEXT = """() => [...document.body.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)
    .map((node) => node.data.trim()).filter(Boolean)"""
"""Text directly in <body>, where a browser moves invalid content of <head>."""
COUNT_CONTROLS = """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary")]
    .filter((each) => each.tabIndex >= 0 && !each.disabled && each.checkVisibility()).length"""
FOCUSED = """() => {
    const element = document.activeElement;
    if (element === document.body) return null;
    const outlined = [element, ...(element.labels ?? [])];
    const visible = outlined.some((each) => getComputedStyle(each).outlineStyle === "solid");
    return { name: `${element.id} ${element.innerText}`, visible };
}"""
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
    "/results/?period=century&code=none",
    "/results/?period=dates&from=2024-01-02&to=2024-01-01",
    "/results/?period=today&q=long.ago",
    "/problems/",
    "/problems/validation_failed",
    "/problems/username_taken",
    "/swagger/",
    "/nowhere/",
    "/useradd",
    "/account/",
    "/state/",
    "/admin/",
    "/admin/users/",
    "/admin/users/?search=nobody",
    "/admin/users/?active=no&administrator=yes",
    "/results/?address=127.0.0.1&client=Werkzeug",
    "/admin/api-keys/",
    "/admin/audit/",
    "/admin/api-keys/new/",
    "/admin/imports/",
    "/admin/imports/new/",
    "/admin/nowhere/",
)
USER_PAGES = ("", "block/", "grant/", "reset/")


@pytest.fixture
def pages(reader_page: Page, app: Flask, rows: Rows) -> list[str]:
    """Addresses of all pages that an administrator can reach, with data of every kind."""
    rows.query("update users set is_admin = true")
    rows.query("insert into api_keys (id, name, key_hash) values (gen_random_uuid(), 'shop front', 'x')")
    rows.query("insert into api_keys (id, name, key_hash, revoked_at) values (gen_random_uuid(), 'old', 'y', now())")
    for kind in ("user", "command"):
        rows.query(
            "insert into audit_log (id, actor_kind, actor, action, target, details)"
            """ values (gen_random_uuid(), :kind, 'boss', 'role_granted', 'anna', '{"role": "auditor"}')""",
            kind=kind,
        )
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
    invalid = keep(
        app, ago(minutes=1), status=422, code="invalid_phone", errors=(INVALID_PHONE,), phone="12", username="anna"
    )
    interrupted = keep(app, ago(minutes=1), status=0, code="interrupted")
    users = [f"/admin/users/{user}/{page}" for page in USER_PAGES]
    return [*PAGES, *users, f"/admin/api-keys/{key}/revoke/", f"/results/{invalid}/", f"/results/{interrupted}/"]


def findings(page: Page, address: str) -> list[str]:
    """Return axe-core's violations on a page with all details expanded, and stray text."""
    page.wait_for_load_state()  # the style sheet of a page after a form may not be loaded yet
    expand(page)
    best_practice = [] if address == "/swagger/" else ["best-practice"]
    violations: list[dict[str, Any]] = (
        Axe().run(page, options={"runOnly": WCAG + best_practice, "resultTypes": ["violations"]}).response["violations"]
    )
    stray = [f"{address}: stray: {text}" for text in page.evaluate(STRAY_TEXT)]
    return stray + [
        f"{address}: {violation['id']}: {node['html'][:200]}" for violation in violations for node in violation["nodes"]
    ]


def raise_unavailable(*_: object, **__: object) -> None:
    """Replace a query while PostgreSQL is unavailable."""
    raise DatabaseUnavailableError


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_no_page_violates_wcag(
    page: Page, pages: list[str], page_errors: PageErrors, appearance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, scheme, language = APPEARANCES[appearance]
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
    for field in ("current", "new", "confirmation"):
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
    found += findings(page, "a confirmation with a password")
    monkeypatch.setattr(service, "build_report", raise_unavailable)
    page.goto("/results/")
    found += findings(page, "an outage")

    page_errors.console[:] = [error for error in page_errors.console if not re.search(r"status of (4|503)", error)]
    assert found == []


def test_no_page_scrolls_horizontally_at_400_percent_zoom(
    page: Page, pages: list[str], page_errors: PageErrors
) -> None:
    page.set_viewport_size(ENLARGED)
    wide = []

    for address in pages:
        page.goto(address)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > ENLARGED["width"] and address != "/swagger/":
            wide.append((address, width))

    page_errors.console[:] = [error for error in page_errors.console if "status of 4" not in error]
    assert wide == []


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_the_first_view_is_small_and_has_no_layout_shift(
    browser: Browser, address: str, page: Page, pages: list[str], appearance: str
) -> None:
    size, scheme, language = APPEARANCES[appearance]
    context = browser.new_context(
        base_url=address,
        viewport=size,
        color_scheme=scheme,
        locale=language,
        storage_state=page.context.storage_state(),  # the same session with an empty cache
    )
    context.add_init_script(WATCH_SHIFTS)
    uncached = context.new_page()

    uncached.goto("/results/", wait_until="networkidle")

    assert uncached.locator("#rows tbody tr").count() == 25
    assert uncached.evaluate("window.shifted") == 0
    assert 0 < uncached.evaluate(TRANSFERRED) < MAX_BYTES
    context.close()


def test_the_skip_link_leads_to_the_content_and_focus_is_visible(page: Page, pages: list[str]) -> None:
    page.goto("/results/")

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_every_control_is_reached_by_tab_with_a_visible_focus(page: Page, pages: list[str], size: ViewportSize) -> None:
    page.set_viewport_size(size)
    user = next(address for address in pages if address.startswith("/admin/users/") and address[-2:] != "s/")

    for address in ("/results/", "/results/?q=somebody", pages[-2], user, "/admin/users/", "/account/", "/state/"):
        page.goto(address)
        page.keyboard.press("Tab")
        stops = [page.evaluate(FOCUSED)]
        while stops[-1]:
            page.keyboard.press("Tab")
            stops.append(page.evaluate(FOCUSED))
        assert len(stops) - 1 >= page.evaluate(COUNT_CONTROLS), address
        assert [stop["name"] for stop in stops[:-1] if not stop["visible"]] == [], address


@pytest.mark.parametrize("media", [{"reduced_motion": "reduce"}, {"forced_colors": "active"}])
def test_reduced_motion_and_forced_colors_are_respected(page: Page, pages: list[str], media: dict[str, Any]) -> None:
    page.emulate_media(**media)
    page.goto("/results/")

    if "reduced_motion" in media:
        durations = page.locator("*").evaluate_all(
            "(all) => all.map((each) => getComputedStyle(each).transitionDuration)"
        )
        assert set(durations) == {"0s"}
    else:
        assert page.locator(".badge").first.evaluate("(badge) => getComputedStyle(badge).borderTopStyle") == "solid"
        selected, other = page.locator(".periods a").evaluate_all(
            "(all) => [all[1], all[2]].map((each) => getComputedStyle(each).backgroundColor)"
        )
        assert selected != other
