"""The filters for client address and client program, which only administrators have."""

import csv
import html
import io
import re
from collections.abc import Sequence

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import literal_column

from project.domain.attempts import AttemptFilter
from project.domain.errors import QueryTimeoutError, SearchTooBroadError
from project.presentation.selection import EXAMPLE_VALUES, PARAMETERS
from project.queries import filters
from project.reports import page_data
from project.runtime import get_runtime
from project.services import api_keys
from project.services import reports as service
from tests.builders import log_in, useradd
from tests.functional.attempts import ago, keep

FIELDS = ("address", "client")
HEADINGS = {"ru": ("Адрес клиента", "Клиент"), "en": ("Client address", "Client")}
QUERY = {"address": "203.0.113.7", "client": "CURL/8", "period": "all"}


@pytest.fixture
def attempts(app: Flask, administrator: FlaskClient) -> FlaskClient:
    """The browser of an administrator, and attempts of several clients."""
    clients: Sequence[tuple[str, str, str]] = (
        ("curl", "203.0.113.7", "curl/8.14.1"),
        ("firefox", "203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"),
        ("ipv6", "2001:db8::7", "curl/8.14.1"),
        ("longer", "203.0.113.70", "100%_sure 'or' 1=1 --"),
        ("silent", "", ""),
    )
    for number, (username, address, program) in enumerate(clients):
        keep(app, ago(minutes=number), username=username, client_address=address, user_agent=program)
    return administrator


@pytest.fixture
def user(attempts: FlaskClient, app: Flask) -> FlaskClient:
    """The browser of an ordinary user, who is shown the same attempts."""
    credentials = useradd(attempts, {"name": "x", "username": "ordinary", "email": "o@example.org"}).json
    assert credentials is not None
    browser = app.test_client()
    assert log_in(browser, "ordinary", credentials["password"]).status_code == 302
    return browser


def logins(page: str) -> set[str]:
    """Return the logins in the list of a page."""
    table = page.partition('<table id="rows"')[2].partition("</table>")[0]
    return set(re.findall(r'<td class="who">(.*?)(?:<span class="name|</td>)', table))


def download(browser: FlaskClient, path: str, query: dict[str, str]) -> tuple[int, str]:
    """Return status and text of a response, and close it.

    An open one occupies one of the few exports.
    """
    with browser.get(path, query_string=query) as response:
        return response.status_code, response.data.decode("utf-8-sig")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"address": "203.0.113.7"}, {"curl", "firefox"}),
        ({"address": " 2001:db8::7\t"}, {"ipv6"}),
        ({"address": "203.0.113"}, set()),
        ({"client": "CURL"}, {"curl", "ipv6"}),
        ({"client": "linux"}, {"firefox"}),
        ({"address": "203.0.113.7", "client": "curl"}, {"curl"}),
        ({"address": "203.0.113.7", "q": "fire"}, {"firefox"}),
        ({"address": "203.0.113.7", "result": "rejected"}, set()),
        ({"client": "%"}, {"longer"}),
        ({"client": "0%_s"}, {"longer"}),
        ({"client": "_"}, {"longer", "firefox"}),
        ({"client": "' or 1=1 --"}, set()),
        ({"client": "'or' 1=1 --"}, {"longer"}),
        ({"address": "' or 1=1 --"}, set()),
        ({"address": "%", "client": "\0"}, set()),
        ({"client": "x" * 5000}, set()),
        ({"client": "\\"}, set()),
        ({"address": " ", "client": ""}, {"curl", "firefox", "ipv6", "longer", "silent", "petrov.ivan"}),
    ],
)
def test_an_administrator_finds_attempts_by_client(
    attempts: FlaskClient, query: dict[str, str], expected: set[str]
) -> None:
    page = attempts.get("/results/", query_string=query)

    assert (page.status_code, logins(page.text)) == (200, expected)


def test_numbers_and_json_follow_the_filter(attempts: FlaskClient) -> None:
    stats = attempts.get("/api/v1/stats/", query_string=QUERY).json
    first = attempts.get("/api/v1/attempts/", query_string={"client": "curl", "limit": 1}).json
    assert stats
    assert first
    second = attempts.get(first["next"]).json
    assert second

    assert (stats["total"], stats["created"]) == (1, 1)
    assert [page["attempts"][0]["username"] for page in (first, second)] == ["curl", "ipv6"]
    assert second["next"] is None


@pytest.mark.parametrize("language", ["ru", "en"])
def test_the_form_keeps_the_values_and_each_has_a_chip_that_removes_it(attempts: FlaskClient, language: str) -> None:
    query = {"address": "203.0.113.7", "client": '"><b>', "lang": language}
    page = attempts.get("/results/", query_string=query).text
    chips = dict(re.findall(r'<a class="chip" href="/results/([^"]*)"><span.*?</span>([^<]*)', page))

    address, program = HEADINGS[language]
    assert 'id="address" name="address" maxlength="200" value="203.0.113.7"' in page
    assert {html.unescape(text) for text in chips.values()} == {f"{address}: 203.0.113.7", f'{program}: "><b>'}
    assert [*chips] == ["?client=%22%3E%3Cb%3E", "?address=203.0.113.7"]
    assert '"><b>' not in page


@pytest.mark.parametrize(("language", "names"), HEADINGS.items())
def test_files_follow_the_filter_and_name_it(attempts: FlaskClient, language: str, names: tuple[str, str]) -> None:
    _, table = download(attempts, "/results/export.csv", QUERY)
    _, text = download(attempts, "/results/export.txt", QUERY | {"lang": language})
    _, unfiltered = download(attempts, "/results/export.txt", {"lang": language})

    assert [row["username"] for row in csv.DictReader(io.StringIO(table, newline=""))] == ["curl"]
    for name, value in zip(names, ("203.0.113.7", "CURL/8"), strict=True):
        assert re.search(rf"^{name}:\s+{value}\r$", text, re.MULTILINE), text
        assert not re.search(rf"^{name}:", unfiltered, re.MULTILINE)


def test_ordinary_users_have_no_such_filters(user: FlaskClient) -> None:
    everything = user.get("/results/")
    filtered = user.get("/results/", query_string=QUERY)

    assert logins(filtered.text) == logins(everything.text) > {"curl", "silent"}
    text = re.sub(r"<[^>]*>", " ", filtered.text)
    assert "203.0.113.7" not in text
    assert "CURL/8" not in text
    assert text.count("Этот фильтр доступен только аудиторам и администраторам") == 2
    for name in FIELDS:
        assert f'name="{name}"' not in filtered.text
    assert 'href="/results/export.txt?period=all"' in filtered.text


@pytest.mark.parametrize("path", ["/results/export.csv", "/results/export.txt", "/api/v1/stats/", "/api/v1/attempts/"])
@pytest.mark.parametrize("name", FIELDS)
def test_files_and_json_refuse_the_filters_to_ordinary_users(user: FlaskClient, path: str, name: str) -> None:
    refused, explanation = download(user, path, {name: "203.0.113.7"})

    assert refused == 400
    assert name in explanation


@pytest.mark.parametrize("path", ["/api/v1/stats/", "/api/v1/attempts/"])
def test_api_keys_cannot_use_the_filters(attempts: FlaskClient, app: Flask, path: str) -> None:
    with app.app_context():
        key = api_keys.issue_key(get_runtime().database, "shop front", None).key

    response = attempts.get(path, query_string=QUERY, headers={"Authorization": f"Bearer {key}"})

    assert response.status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize("attempt_filter", [AttemptFilter(client_address="x"), AttemptFilter(client_program="x")])
def test_a_search_by_client_is_bounded_in_time(
    attempts: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch, attempt_filter: AttemptFilter
) -> None:
    database = get_runtime(app).read_database
    monkeypatch.setattr(filters, "search_conditions", lambda _: [literal_column("(select 1 from pg_sleep(9)) = 1")])

    with app.app_context():
        for query in (service.count_statuses, service.count_reasons):
            with pytest.raises(SearchTooBroadError):
                query(database, attempt_filter)
        with pytest.raises(SearchTooBroadError):
            service.get_page(database, attempt_filter, 25)

    assert not database.breaker.is_open


def test_a_search_by_client_that_is_too_broad_is_reported(
    attempts: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def time_out(*_: object) -> None:
        raise QueryTimeoutError

    monkeypatch.setattr(page_data, "PAGE_SIZE", 1)
    monkeypatch.setattr(service, "build_report", time_out)

    page = attempts.get("/results/?client=curl&lang=en")

    assert "The search is too broad" in page.text
    assert len(logins(page.text)) == 1


def test_each_form_keeps_the_parameters_of_the_other_one(administrator: FlaskClient) -> None:
    query = {name: EXAMPLE_VALUES.get(name, "203.0.113.7") for name in PARAMETERS} | {"period": "dates"}

    page = administrator.get("/results/", query_string=query).text

    forms = re.findall(r'<form[^>]* action="/results/".*?</form>', page, re.DOTALL)
    assert len(forms) == 2
    assert [set(PARAMETERS) - set(re.findall(r' name="([a-z]+)"', form)) for form in forms] == [set(), set()]
