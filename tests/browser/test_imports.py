"""Import pages in a browser: upload, check, create, download, on a screen and on a phone."""

import csv
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from project.contract.import_runner import ImportRunner
from tests.browser.test_accessibility import findings
from tests.conftest import Rows

pytestmark = pytest.mark.browser

PEOPLE = "Name,Login,Phone,E-mail\nOlga,olga,+79991234501,\nPavel,pavel,12,\nNina,nina nina,,nina@example\n"
PHONE = {"width": 390, "height": 844}
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(autouse=True)
def threads(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Process imports in threads that end with the test."""
    started: list[threading.Thread] = []

    def wake(runner: ImportRunner) -> None:
        def work() -> None:
            with app.app_context():
                while runner.process_next():
                    pass

        started.append(threading.Thread(target=work))
        started[-1].start()

    monkeypatch.setattr(ImportRunner, "wake", wake)
    yield
    for thread in started:
        thread.join()


@pytest.fixture
def admin_page(reader_page: Page, rows: Rows) -> Page:
    """A tab of an administrator."""
    rows.query("update users set is_admin = true where username = 'petrov.ivan'")
    reader_page.goto("/admin/")
    return reader_page


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A file with one correct row and two others."""
    file = tmp_path / "people.csv"
    file.write_text(PEOPLE)
    return file


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 900}, PHONE])
def test_users_are_created_from_a_file_and_their_passwords_downloaded_once(
    admin_page: Page, people: Path, size: dict[str, int], theme: str, rows: Rows
) -> None:
    page, found = admin_page, []
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.get_by_role("navigation", name="Administration").get_by_role("link", name="Import").click()
    page.get_by_role("link", name="Upload a file").click()
    found += findings(page, "upload")
    page.get_by_label("File").set_input_files(people)
    page.get_by_role("button", name="Check the file").click()

    expect(page.get_by_text("1 user will be created.")).to_be_visible(timeout=20_000)
    assert rows.query("select count(*) from users")[0]["count"] == 1
    expect(page.get_by_role("row", name="12")).to_contain_text("Phone:")
    found += findings(page, "checked")
    assert page.evaluate(SIDEWAYS) == 0
    page.get_by_role("button", name="Create users").click()
    page.get_by_role("link", name="Download passwords").click(timeout=20_000)
    found += findings(page, "confirmation")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    page.goto(page.url.removesuffix("credentials/"))
    expect(page.get_by_text("The passwords were downloaded.")).to_be_visible()
    found += findings(page, "done")

    with Path(download.value.path()).open(newline="", encoding="utf-8-sig") as file:
        assert [line[1] for line in csv.reader(file)] == ["login", "olga"]
    assert page.evaluate(SIDEWAYS) == 0
    assert found == []


def test_every_step_works_without_javascript_and_by_keyboard(
    browser: Browser, address: str, admin_page: Page, people: Path
) -> None:
    state = admin_page.context.storage_state()
    context = browser.new_context(base_url=address, locale="en", java_script_enabled=False, storage_state=state)
    page = context.new_page()
    page.goto("/admin/imports/new/")
    page.get_by_label("File").set_input_files(people)
    page.get_by_role("button", name="Check the file").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="people.csv")).to_be_visible()

    for _ in range(100):
        if page.get_by_role("button", name="Create users").count():
            break
        page.reload()
    page.get_by_role("button", name="Create users").press("Enter")
    expect(page.get_by_role("button", name="Create users")).to_have_count(0)
    for _ in range(50):
        if page.get_by_role("link", name="Download passwords").count():
            break
        page.reload()

    expect(page.get_by_role("link", name="Download passwords")).to_be_visible()
    context.close()
