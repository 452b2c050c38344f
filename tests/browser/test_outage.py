"""PostgreSQL stops while a user reads statistics: pages report it and recover.

Pages say so, keep the session, and recover by themselves.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PageErrors
from tests.chaos.load import Client
from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service, migrate

pytestmark = pytest.mark.browser

BACK_MS = 15_000
NO_CONNECTION = re.compile(r"^No connection to the database since \d\d:\d\d\.$")
OUTAGES: dict[str, tuple[Callable[[Postgres, Proxy], object], Callable[[Postgres, Proxy], object]]] = {
    "frozen": (lambda postgres, _: postgres.freeze(), lambda postgres, _: postgres.thaw()),
    "stopped": (lambda postgres, _: postgres.stop(), lambda postgres, _: postgres.start()),
    "unreachable": (lambda _, proxy: proxy.blackhole(), lambda _, proxy: proxy.pass_through()),
}
"""Name -> how an outage begins and ends."""
RELOAD_IS_PREVENTED = """() => new Promise((resolve) => document.addEventListener(
    "htmx:before:request", (event) => queueMicrotask(() => resolve(event.defaultPrevented)), { once: true }))"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A separate PostgreSQL for this module, with the migrated tables."""
    postgres = Postgres().start()
    migrate(postgres.url())
    yield postgres
    postgres.close()


@pytest.fixture(scope="module")
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    """The network between the service and this PostgreSQL."""
    proxy = Proxy(postgres.port)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def service(postgres: Postgres, proxy: Proxy) -> Iterator[Service]:
    """A service that uses this PostgreSQL."""
    service = Service(postgres.url(port=proxy.port)).start()
    yield service
    service.close()


@pytest.fixture(scope="module")
def address(service: Service) -> str:
    """Base URL of this service, instead of that of the other tests."""
    return f"http://{HOST}:{service.port}"


@pytest.fixture
def api_client(service: Service) -> Iterator[Client]:
    """A client that creates users."""
    client = Client(service)
    yield client
    client.close()


@pytest.fixture
def results_page(page: Page, api_client: Client, page_errors: PageErrors) -> Iterator[Page]:
    """A logged-in tab on the results page; console messages about status 503 are allowed."""
    user = api_client.create()
    page.goto("/results/?period=30d")
    page.get_by_label("Login").fill(user.json["login"])
    page.get_by_label("Password", exact=True).fill(user.json["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#rows tbody tr").first).to_be_visible()
    yield page
    page_errors.console[:] = [error for error in page_errors.console if "status of 503" not in error]


def test_the_results_page_explains_an_outage_and_reloads_when_it_ends(
    results_page: Page, api_client: Client, postgres: Postgres
) -> None:
    postgres.stop()
    assert api_client.create("unlucky").status == 503
    response = results_page.reload()

    assert response is not None
    assert response.status == 503
    expect(results_page.get_by_role("heading", level=1)).to_have_text("Requests to create users")
    expect(results_page.get_by_role("main")).to_contain_text("The database does not answer")
    expect(results_page.get_by_role("main")).to_contain_text("You stay logged in")
    expect(results_page.locator(".me .name")).to_have_text(re.compile("."))
    expect(results_page.get_by_role("link", name="30 days")).to_have_attribute("aria-current", "true")
    expect(results_page.get_by_role("link", name="Log in")).to_have_count(0)
    expect(results_page.locator("#kpi, #rows, .exports")).to_have_count(0)

    postgres.start()

    expect(results_page.locator("#rows tbody tr", has_text="unlucky")).to_contain_text("503", timeout=BACK_MS)
    expect(results_page).to_have_url(re.compile(r"/results/\?period=30d$"))
    expect(results_page.get_by_role("button", name="Log out")).to_be_visible()
    expect(results_page.locator("#unavailable")).to_have_count(0)


def test_the_outage_page_does_not_reload_while_a_filter_is_edited(results_page: Page, postgres: Postgres) -> None:
    postgres.freeze()
    results_page.reload()
    results_page.get_by_role("searchbox", name="Search").fill("half a wo")
    postgres.thaw()

    assert results_page.evaluate(RELOAD_IS_PREVENTED) is True
    results_page.get_by_role("heading", level=1).click()

    expect(results_page.locator("#rows tbody tr").first).to_be_visible(timeout=BACK_MS)
    expect(results_page.get_by_role("button", name="Log out")).to_be_visible()


def test_an_open_page_tells_that_the_database_is_lost_and_when_it_is_back(
    results_page: Page, postgres: Postgres
) -> None:
    state = results_page.locator("#state")
    expect(state).to_have_text(re.compile(r"^All is well, last request \d\d:\d\d\.$"), use_inner_text=True)
    expect(state).to_be_in_viewport()  # without a click
    figures = results_page.locator("#kpi").inner_text()
    postgres.freeze()

    expect(state).to_have_text(
        re.compile(r"^No connection to the database since \d\d:\d\d\. Data as of \d\d:\d\d\.$"), timeout=BACK_MS
    )
    assert results_page.locator("#kpi").inner_text() == figures
    postgres.thaw()

    expect(state).to_have_text(re.compile(r"^All is well again\. Data as of \d\d:\d\d\.$"), timeout=BACK_MS)


def test_an_open_page_tells_that_the_network_is_lost_and_when_it_is_back(
    results_page: Page, page_errors: PageErrors
) -> None:
    state = results_page.locator("#state")
    results_page.context.set_offline(True)

    expect(state).to_contain_text("No connection to the service. Data as of", timeout=BACK_MS)
    results_page.context.set_offline(False)

    expect(state).to_contain_text("All is well again.", timeout=BACK_MS)
    page_errors.console[:] = [error for error in page_errors.console if "ERR_INTERNET_DISCONNECTED" not in error]


@pytest.mark.parametrize("outage", OUTAGES)
def test_the_state_and_the_explanation_of_an_outage_never_contradict_each_other(
    results_page: Page, postgres: Postgres, proxy: Proxy, outage: str
) -> None:
    begin, end = OUTAGES[outage]
    state, unavailable = (
        results_page.locator("#state"),
        results_page.get_by_role("region", name="The database does not"),
    )
    state_page = results_page.context.new_page()
    state_page.goto("/state/")
    lines = state_page.locator("[data-line]")
    expect(state_page.locator("#state")).to_have_text("All is well.")
    begin(postgres, proxy)
    results_page.reload()

    expect(unavailable).to_be_visible()
    expect(state).to_have_text(NO_CONNECTION)
    expect(state_page.locator("#state")).to_have_text(NO_CONNECTION, timeout=BACK_MS)
    expect(lines.first).to_have_text(re.compile(r"^no, since \d\d:\d\d$"))
    expect(lines.nth(1)).to_have_text("yes, on disk until the database answers")
    expect(lines.nth(2)).to_have_text(re.compile(r"^no, since \d\d:\d\d$"))
    results_page.get_by_role("searchbox", name="Search").focus()  # the page does not reload itself
    end(postgres, proxy)

    expect(state_page.locator("#state")).to_have_text("All is well again.", timeout=BACK_MS)
    expect(lines.first).to_have_text("yes")
    expect(unavailable).to_be_visible()
    expect(state).to_have_text(NO_CONNECTION)
    results_page.get_by_role("heading", level=1).click()
    expect(state).to_have_text(re.compile(r"^All is well, last request"), timeout=BACK_MS)
    expect(unavailable).to_have_count(0)
