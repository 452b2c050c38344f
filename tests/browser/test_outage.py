"""PostgreSQL stops while somebody reads: the pages say so, keep the session, and show what came meanwhile."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints
from tests.chaos.load import Client
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST, eventually
from tests.chaos.service import Service, migrate

pytestmark = pytest.mark.browser

BACK_S = 10.0


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this module's own, with the tables of the service."""
    postgres = Postgres().start()
    migrate(postgres.url())
    yield postgres
    postgres.close()


@pytest.fixture(scope="module")
def service(postgres: Postgres) -> Iterator[Service]:
    """A service that uses it."""
    service = Service(postgres.url()).start()
    yield service
    service.close()


@pytest.fixture(scope="module")
def address(service: Service) -> str:
    """Where this service listens, in place of the one of the other tests."""
    return f"http://{HOST}:{service.port}"


@pytest.fixture
def created(service: Service) -> Iterator[Client]:
    """A program that creates users."""
    client = Client(service)
    yield client
    client.close()


def tried_again(page: Page) -> bool:
    """Click on the way out of the outage; tell whether it led there."""
    page.get_by_role("link", name="Try again").click()
    page.wait_for_load_state()
    return page.locator("#rows").count() == 1


def test_an_outage_is_told_and_forgotten_with_the_session_kept(
    page: Page, created: Client, postgres: Postgres, complaints: Complaints
) -> None:
    reader = created.create("reader")
    page.goto("/results/?period=30d")
    page.get_by_label("Login").fill(reader.json["login"])
    page.get_by_label("Password", exact=True).fill(reader.json["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#rows tbody tr")).to_have_count(1)

    postgres.stop()
    assert created.create("unlucky").status == 503
    answer = page.reload()

    assert answer is not None
    assert answer.status == 503
    expect(page.get_by_role("heading", level=1)).to_have_text("The database does not answer")
    expect(page.get_by_role("main")).to_contain_text("You stay logged in")
    expect(page.get_by_role("link", name="Log in")).to_have_count(0)

    postgres.start()
    eventually(lambda: tried_again(page), BACK_S, "the statistics do not come back")

    expect(page).to_have_url(re.compile(r"/results/\?period=30d$"))
    expect(page.locator(".me")).to_contain_text("reader")
    expect(page.locator("#rows tbody tr", has_text="unlucky")).to_contain_text("503")
    complaints.errors[:] = [error for error in complaints.errors if "status of 503" not in error]
