"""The own account in a browser: choosing another password, and what is said when it is a bad one."""

import re

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Complaints
from tests.builders import IVAN, useradd

pytestmark = pytest.mark.browser

GOOD = "лиловый утюг считает облака"


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The password that the service gave to `petrov.ivan`."""
    answer = useradd(client, IVAN).json
    assert answer is not None
    return str(answer["password"])


def log_in(page: Page, password: str) -> None:
    """Open the login page, fill in and send the form."""
    page.goto("/login/?next=/account/")
    page.get_by_label("Login").fill("petrov.ivan")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def change(page: Page, current: str, chosen: str) -> None:
    """Fill in and send the form."""
    page.get_by_label("Current password", exact=True).fill(current)
    page.get_by_label("New password", exact=True).fill(chosen)
    page.get_by_label("Confirm the new password", exact=True).fill(chosen)
    page.get_by_role("button", name="Change password").click()


def test_the_own_password_is_changed_and_only_this_browser_stays_in(
    page: Page, browser: Browser, address: str, password: str
) -> None:
    elsewhere = browser.new_context(base_url=address, locale="en").new_page()
    log_in(elsewhere, password)
    log_in(page, password)
    expect(page.get_by_text("+79991234567")).to_be_visible()

    change(page, password, GOOD)

    expect(page.get_by_role("status")).to_contain_text("The password was changed.")
    page.reload()
    expect(page.get_by_role("status")).to_have_count(0)
    elsewhere.reload()
    expect(elsewhere).to_have_url(re.compile(r"/login/"))
    log_in(elsewhere, GOOD)
    expect(elsewhere).to_have_url(re.compile(r"/account/$"))
    elsewhere.context.close()


def test_what_is_wrong_stands_beside_its_field_and_nothing_is_filled_in(
    page: Page, complaints: Complaints, password: str
) -> None:
    log_in(page, password)

    change(page, password, "passwordpassword")

    field = page.get_by_label("New password", exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("too easy to guess"))
    expect(field).to_have_value("")
    complaints.errors[:] = [error for error in complaints.errors if "status of 422" not in error]


def test_the_name_in_the_head_leads_to_the_account_on_a_phone_too(page: Page, password: str) -> None:
    log_in(page, password)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/results/")

    page.get_by_role("link", name="Your account: petrov.ivan").click()

    expect(page.get_by_role("heading", name="Account", level=1)).to_be_visible()
