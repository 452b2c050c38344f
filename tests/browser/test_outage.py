"""PostgreSQL stops while somebody reads: the pages say so, keep the session, and show what came meanwhile."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Complaints
from tests.chaos.load import Client
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST
from tests.chaos.service import Service, migrate

pytestmark = pytest.mark.browser

BACK_MS = 15_000
ASKS_NOTHING = """() => new Promise((tell) => document.addEventListener(
    "htmx:before:request", (event) => queueMicrotask(() => tell(event.defaultPrevented)), { once: true }))"""


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


@pytest.fixture
def reading(page: Page, created: Client, complaints: Complaints) -> Iterator[Page]:
    """A tab in which a user looks at the results; that an outage is one may stand in the console."""
    reader = created.create()
    page.goto("/results/?period=30d")
    page.get_by_label("Login").fill(reader.json["login"])
    page.get_by_label("Password", exact=True).fill(reader.json["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#rows tbody tr").first).to_be_visible()
    yield page
    complaints.errors[:] = [error for error in complaints.errors if "status of 503" not in error]


def test_an_outage_is_told_in_place_of_the_figures_and_the_page_comes_back_by_itself(
    reading: Page, created: Client, postgres: Postgres
) -> None:
    postgres.stop()
    assert created.create("unlucky").status == 503
    answer = reading.reload()

    assert answer is not None
    assert answer.status == 503
    expect(reading.get_by_role("heading", level=1)).to_have_text("Requests to create users")
    expect(reading.get_by_role("main")).to_contain_text("The database does not answer")
    expect(reading.get_by_role("main")).to_contain_text("You stay logged in")
    expect(reading.locator(".me .name")).to_have_text(re.compile("."))
    expect(reading.get_by_role("radio", name="30 days")).to_be_checked()
    expect(reading.get_by_role("link", name="Log in")).to_have_count(0)
    expect(reading.locator("#kpi, #rows, .exports")).to_have_count(0)

    postgres.start()

    expect(reading.locator("#rows tbody tr", has_text="unlucky")).to_contain_text("503", timeout=BACK_MS)
    expect(reading).to_have_url(re.compile(r"/results/\?period=30d$"))
    expect(reading.get_by_role("button", name="Log out")).to_be_visible()
    expect(reading.locator("#unavailable")).to_have_count(0)


def test_an_outage_takes_no_page_away_from_who_fills_in_its_filter(reading: Page, postgres: Postgres) -> None:
    postgres.freeze()
    reading.reload()
    reading.get_by_label("Search").fill("half a wo")
    postgres.thaw()

    assert reading.evaluate(ASKS_NOTHING) is True
    reading.get_by_role("heading", level=1).click()

    expect(reading.locator("#rows tbody tr").first).to_be_visible(timeout=BACK_MS)
    expect(reading.get_by_role("button", name="Log out")).to_be_visible()
