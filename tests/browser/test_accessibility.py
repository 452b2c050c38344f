"""Every page, in every look, before axe-core: WCAG 2.2 AA without a finding, without JavaScript errors, without a shift."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Page

from tests.browser.conftest import Complaints
from tests.functional.attempts import INVALID_PHONE, ago, keep

pytestmark = pytest.mark.browser

WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LOOKS = {
    "light": ({"width": 1280, "height": 900}, "light", "ru"),
    "dark": ({"width": 1280, "height": 900}, "dark", "en"),
    "phone": ({"width": 390, "height": 844}, "light", "ru"),
    "phone in the dark": ({"width": 390, "height": 844}, "dark", "en"),
    # 1280 pixels at 400 %, as WCAG 2.2 has it in 1.4.10
    "enlarged": ({"width": 320, "height": 256}, "light", "ru"),
}
PAGES = (
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
)


@pytest.fixture
def pages(reader_page: Page, app: Flask) -> list[str]:
    """Addresses of all pages a reader can come to, with something of everything on them."""
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
    return [*PAGES, f"/results/{wrong}/", f"/results/{lost}/"]


def findings(page: Page, address: str) -> list[str]:
    """Return what axe-core has against a page, all of it unfolded."""
    for summary in page.locator("summary").all():
        summary.click()
    ours = [] if address == "/swagger/" else ["best-practice"]
    found: list[dict[str, Any]] = Axe().run(page, options={"runOnly": WCAG + ours}).response["violations"]
    return [f"{address}: {one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("look", LOOKS)
def test_no_page_has_a_barrier(page: Page, pages: list[str], complaints: Complaints, look: str) -> None:
    size, scheme, language = LOOKS[look]
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")

    found = []
    for address in pages:
        page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}", wait_until="networkidle")
        found += findings(page, address)

    complaints.errors[:] = [error for error in complaints.errors if "status of 4" not in error]
    assert found == []
