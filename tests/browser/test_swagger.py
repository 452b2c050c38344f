"""Swagger UI with our OpenAPI document under the strict content security policy."""

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Rows

pytestmark = pytest.mark.browser


def test_try_it_out_creates_a_user_without_violating_the_content_security_policy(page: Page, rows: Rows) -> None:
    page.goto("/swagger/")
    operation = page.locator("#operations-users-useradd")
    operation.locator(".opblock-summary-control").click()

    operation.get_by_role("button", name="Execute").click()

    response = operation.locator(".live-responses-table")
    expect(response).to_contain_text("201")
    expect(response).to_contain_text("petrov.ivan")
    assert [row["username"] for row in rows.of("users")] == ["petrov.ivan"]


@pytest.mark.parametrize("query", ["url=https://evil.example/x.json", "configUrl=https://evil.example/x.json"])
def test_query_parameters_cannot_make_the_page_load_another_document(page: Page, query: str) -> None:
    page.goto(f"/swagger/?{query}")

    expect(page.locator(".info .title")).to_contain_text("useradd")
