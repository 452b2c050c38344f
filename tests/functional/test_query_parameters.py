"""Query parameters: strict for /useradd, JSON and files; pages name what they ignore."""

import re

import pytest
from flask.testing import FlaskClient

from project.api.routes import PATHS
from tests.builders import ANNA
from tests.conftest import Rows

JSON_ADDRESSES = ("/api/v1/stats/", "/api/v1/attempts/")
FILES = ("/results/export.csv", "/results/export.txt", "/results/export.xlsx", "/api/v1/download-txt/")
ENGLISH = {"Accept-Language": "en"}


@pytest.mark.parametrize(
    "query",
    ["dry_run", "dry_run=", *(f"dry_run={value}" for value in ("true", "True", "TRUE", "1", "yes", "Yes", "on", "ON"))],
)
@pytest.mark.parametrize("address", PATHS)
def test_every_spelling_of_a_dry_run_creates_nobody(client: FlaskClient, rows: Rows, address: str, query: str) -> None:
    response = client.post(f"{address}?{query}", json=ANNA)

    assert (response.status_code, rows.of("users")) == (200, [])
    assert rows.outcomes() == [(200, "dry_run")]


@pytest.mark.parametrize("value", ["false", "False", "0", "no", "NO", "off", "Off"])
def test_a_dry_run_that_is_switched_off_creates_the_user(client: FlaskClient, rows: Rows, value: str) -> None:
    response = client.post(f"/useradd?dry_run={value}", json=ANNA)

    assert response.status_code == 201
    assert rows.outcomes() == [(201, "created")]


@pytest.mark.parametrize(
    ("query", "code", "hint"),
    [
        *(
            (f"dry_run={value}", "unknown_parameter", "dry_run=true")
            for value in ("2", "t", "y", "None", "true%20", "да")
        ),
        *(
            (f"{name}=true", "unknown_parameter", "Did you mean dry_run?")
            for name in ("dryRun", "dry-run", "DRY_RUN", "dryrun", "dr_run", "validate_only", "test")
        ),
        ("dry_run=true;x", "unknown_parameter", "dry_run=true"),
        ("foo", "unknown_parameter", "Supported here: dry_run."),
        ("=1", "unknown_parameter", "Supported here: dry_run."),
        ("lang=en", "unknown_parameter", "Supported here: dry_run."),
        ("username=anna", "unknown_parameter", "Supported here: dry_run."),
        ("dry_run=true&utm_source=x", "unknown_parameter", "“utm_source”"),
        ("dry_run=true&dry_run=true", "bad_request", "was sent twice"),
        ("dry_run=0&dry_run=1", "bad_request", "was sent twice"),
        ("%00%ED%A0%80=1", "unknown_parameter", "Supported here: dry_run."),
    ],
)
@pytest.mark.parametrize("address", PATHS)
def test_a_parameter_that_useradd_does_not_know_creates_nobody_and_is_recorded(
    client: FlaskClient, rows: Rows, address: str, query: str, code: str, hint: str
) -> None:
    response = client.post(f"{address}?{query}", json=ANNA, headers=ENGLISH)

    assert response.json is not None
    assert (response.status_code, response.json["code"]) == (400, code)
    assert hint in response.json["detail"]
    assert (rows.of("users"), rows.outcomes()) == ([], [(400, code)])


@pytest.mark.parametrize("query", ["", "?", "?&"])
def test_an_empty_query_is_none(client: FlaskClient, query: str) -> None:
    assert client.post(f"/useradd{query}", json=ANNA).status_code == 201


@pytest.mark.parametrize(
    ("query", "code", "hint"),
    [
        ("outcome=rejected", "unknown_parameter", "Did you mean result?"),
        ("stauts=422", "unknown_parameter", "Did you mean status?"),
        ("Status=422", "unknown_parameter", "Did you mean status?"),
        ("since=2026-11-17", "unknown_parameter", "Did you mean from?"),
        ("search=anna", "unknown_parameter", "Did you mean q?"),
        ("xyz", "unknown_parameter", "Supported here: period, from"),
        ("period=week", "unknown_parameter", "Example: ?period=7d"),
        ("status=abc", "unknown_parameter", "Example: ?status=422"),
        ("tz=Mars", "unknown_parameter", "Example: ?tz=UTC"),
        ("period=7d&from=2026-11-17", "bad_request", "“period” and “from” contradict"),
        ("period=all&to=2026-11-17", "bad_request", "“period” and “to” contradict"),
        ("period=dates", "bad_request", "needs a date"),
        ("from=2026-11-17&to=2026-11-10", "bad_request", "ends before it starts"),
        ("period=7d&period=30d", "bad_request", "“period” was sent twice"),
        ("period=7d,30d", "unknown_parameter", "Example: ?period=7d"),
        ("q=a&q=b", "bad_request", "“q” was sent twice"),
        ("newer=01936b4e-2f6a-7c3e-9b1d-5a8f0c2e4d61", "unknown_parameter", "“newer”"),
    ],
)
@pytest.mark.parametrize("address", [*JSON_ADDRESSES, *FILES])
def test_json_and_files_refuse_what_they_do_not_know_and_contradictions(
    reader: FlaskClient, address: str, query: str, code: str, hint: str
) -> None:
    with reader.get(f"{address}?{query}", headers=ENGLISH) as response:
        problem = response.get_json(force=True)

    assert (response.status_code, problem["code"]) == (400, code)
    assert hint in problem["detail"]


@pytest.mark.parametrize(
    ("address", "name"),
    [("/api/v1/stats/", "limit"), ("/api/v1/stats/", "before"), ("/api/v1/attempts/", "lang"), (FILES[0], "limit")],
)
def test_each_address_knows_its_own_parameters_only(reader: FlaskClient, address: str, name: str) -> None:
    with reader.get(f"{address}?{name}=1") as response:
        assert (response.status_code, response.get_json(force=True)["code"]) == (400, "unknown_parameter")


def test_an_attempt_as_json_knows_its_time_zone_only(reader: FlaskClient) -> None:
    attempt_id = reader.get("/api/v1/attempts/").get_json()["attempts"][0]["id"]

    answers = [reader.get(f"/api/v1/attempts/{attempt_id}/?{query}") for query in ("tz=UTC", "tz=x", "period=7d")]

    assert [answer.status_code for answer in answers] == [200, 400, 400]
    assert answers[0].get_json()["received_at"].endswith("+00:00")


@pytest.mark.parametrize(
    "query", ["result=created&result=rejected", "status=201,422", "code=blank,too_long&code=blank"]
)
@pytest.mark.parametrize("address", JSON_ADDRESSES)
def test_filters_with_several_values_may_be_repeated_or_have_commas(
    reader: FlaskClient, address: str, query: str
) -> None:
    assert reader.get(f"{address}?{query}").status_code == 200


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("en", "This page does not know the parameter “stauts” of its address."),
        ("ru", "Параметр «stauts» в адресе не учтён: на этой странице его нет."),
    ],
)
@pytest.mark.parametrize("address", ["/results/", "/account/", "/problems/", "/problems/blank", "/login/"])
def test_a_page_ignores_an_unknown_parameter_and_says_so(
    reader: FlaskClient, address: str, language: str, sentence: str
) -> None:
    page = reader.get(f"{address}?stauts=422&lang={language}&tz=UTC")

    assert page.status_code == 200
    assert sentence in page.text
    assert page.text.count("note-bar") == 1


def test_a_page_is_silent_about_the_parameters_that_it_knows(reader: FlaskClient) -> None:
    known = "period=dates&from=2026-11-17&to=2026-11-18&result=&code=&status=&q=&tz=UTC&lang=en"

    for page in (reader.get(f"/results/?{known}"), reader.get("/login/?next=/results/"), reader.get("/results/")):
        assert "note-bar" not in page.text


def test_pages_of_administrators_know_their_filters(administrator: FlaskClient) -> None:
    known = administrator.get("/admin/users/?search=x&active=yes&role=user&before=")
    unknown = administrator.get("/admin/users/?serach=x&lang=en")

    assert "note-bar" not in known.text
    assert "“serach”" in unknown.text


def test_names_of_ignored_parameters_are_shown_harmlessly_and_few(reader: FlaskClient) -> None:
    query = "&".join(f"%3Cscript%3E{number}" for number in range(50))

    page = reader.get(f"/results/?{query}&lang=en").text

    assert "<script>0" not in page
    assert len(re.findall("does not know the parameter", page)) == 5
