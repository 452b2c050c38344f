"""The account page in a browser: changing the password, and the errors of a weak one."""

import re

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PageErrors
from tests.builders import IVAN, useradd

pytestmark = pytest.mark.browser

GOOD = "лиловый утюг считает облака"


@pytest.fixture
def password(client: FlaskClient) -> str:
    """The password that the service issued to `petrov.ivan`."""
    user = useradd(client, IVAN).json
    assert user is not None
    return str(user["password"])


def log_in(page: Page, password: str) -> None:
    """Log in and open the account page."""
    page.goto("/login/?next=/account/")
    page.get_by_label("Login").fill("petrov.ivan")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Log in").click()


def change_password(page: Page, current: str, new: str) -> None:
    """Fill in and send the form."""
    page.get_by_label("Current password", exact=True).fill(current)
    page.get_by_label("New password", exact=True).fill(new)
    page.get_by_label("Confirm the new password", exact=True).fill(new)
    page.get_by_role("button", name="Change password").click()


def test_changing_the_password_ends_all_other_sessions(
    page: Page, browser: Browser, address: str, password: str
) -> None:
    other = browser.new_context(base_url=address, locale="en").new_page()
    log_in(other, password)
    log_in(page, password)
    expect(page.get_by_text("+7 999 123-45-67")).to_be_visible()

    change_password(page, password, GOOD)

    expect(page.get_by_role("status")).to_contain_text("The password was changed.")
    page.reload()
    expect(page.get_by_role("status")).to_have_count(0)
    other.reload()
    expect(other).to_have_url(re.compile(r"/login/"))
    log_in(other, GOOD)
    expect(other).to_have_url(re.compile(r"/account/$"))
    other.context.close()


def test_an_error_is_shown_at_its_field_and_passwords_are_not_filled_in_again(
    page: Page, page_errors: PageErrors, password: str
) -> None:
    log_in(page, password)

    change_password(page, password, "passwordpassword")

    field = page.get_by_label("New password", exact=True)
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("too easy to guess"))
    expect(field).to_have_value("")
    page_errors.console[:] = [error for error in page_errors.console if "status of 422" not in error]


def test_the_name_in_the_header_links_to_the_account_on_a_phone(page: Page, password: str) -> None:
    log_in(page, password)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/results/")

    page.get_by_role("link", name="Your account: petrov.ivan").click()

    expect(page.get_by_role("heading", name="Account", level=1)).to_be_visible()
