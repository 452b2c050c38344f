"""Search for people, the history of a person, calendar periods."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import MultiDict

from project.domain.attempts import AttemptFilter
from project.domain.errors import QueryTimeoutError, SearchTooBroadError
from project.presentation.selection import Selection, parse_selection
from project.queries import attempts as rows_of_attempts
from project.queries.registration import insert_attempts
from project.runtime import get_runtime
from project.services import reports as service
from tests.builders import ANNA, useradd
from tests.conftest import Rows
from tests.functional.attempts import ago, keep, record
from tests.functional.test_reports import logins, show, text_of

MOSCOW = ZoneInfo("Europe/Moscow")
ALYONA = {"username": "elkina.alyona", "name": "Алёна Йодовна Ёлкина"}


def nfd(text: str) -> str:
    """Return a text as macOS writes it: letters and marks apart."""
    return unicodedata.normalize("NFD", text)


@pytest.fixture
def people(administrator: FlaskClient, app: Flask) -> FlaskClient:
    """The browser of an administrator, and attempts of two people."""
    keep(app, ago(minutes=5), **ALYONA, phone="+7 912 •••-••-41", email="e•••@example.org")
    keep(app, ago(minutes=4), username="anna.belova", name=nfd("Анна Зайцева"))
    return administrator


@pytest.mark.parametrize(
    "sought",
    [
        *("Ёлкина", "елкина", "ЕЛКИНА", "лкин", "елкина алена", "алёна elkina", nfd("Йодовна")),
        *("elkina alyona", "ELKINA.A", "elkina 9125550141", "елкина elkin@example.org", "+7 912 •••-••-41"),
        *("e•••@example.org", "elkina@example.org", "+79125550141"),
    ],
)
def test_a_person_is_found_by_words_in_any_order_and_spelling(people: FlaskClient, sought: str) -> None:
    assert logins(show(people, f"?q={quote(sought)}")) == ["elkina.alyona"]


def test_a_name_that_was_sent_decomposed_is_found_composed(people: FlaskClient) -> None:
    assert logins(show(people, f"?q={quote('зайцева')}")) == ["anna.belova"]


@pytest.mark.parametrize("sought", ["Ёлкина Анна", "elkina.*", "e.kina", "(", "[a-z]", "\\w+", "%", "_lkina"])
def test_all_words_must_match_and_none_is_a_pattern(people: FlaskClient, sought: str) -> None:
    assert logins(show(people, f"?q={quote(sought)}")) == []


def test_ordinary_users_see_a_short_name_below_the_login_and_cannot_search_for_it(
    reader: FlaskClient, app: Flask
) -> None:
    keep(app, ago(minutes=5), **ALYONA)

    assert "elkina.alyona Алёна Й. Ё." in text_of(show(reader))
    assert logins(show(reader, f"?q={quote('Ёлкина')}")) == []


def test_hits_stand_above_the_figures(people: FlaskClient) -> None:
    searched, unsearched = show(people, "?q=elkina"), show(people)

    assert searched.index('id="rows"') < searched.index('class="kpis"')
    assert unsearched.index('id="rows"') > unsearched.index('class="kpis"')


def test_a_search_without_hits_offers_no_first_request(people: FlaskClient) -> None:
    assert "Ещё не отправляли запросов" not in text_of(show(people, "?q=nobody.at.all"))


def test_a_search_that_is_stopped_shows_what_it_found_and_how_far_it_came(
    people: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(app, ago(days=5), username="elkina.old")
    find, now = rows_of_attempts.find_attempts, datetime.now(UTC)

    def find_recent(connection: object, attempt_filter: object, *args: object, **kwargs: object) -> object:
        if attempt_filter.text and attempt_filter.since < now - timedelta(days=2):  # type: ignore[attr-defined]
            raise SearchTooBroadError
        return find(connection, attempt_filter, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(rows_of_attempts, "find_attempts", find_recent)
    monkeypatch.delattr(service, "build_report")

    page = show(people, "?q=elkina")

    assert logins(page) == ["elkina.alyona"]
    assert "Поиск остановлен через секунду. Запросы до" in text_of(page)
    monkeypatch.undo()
    (rest,) = re.findall(r'<a href="([^"]*)">Искать в них', page)
    assert logins(people.get(rest.replace("&amp;", "&")).text) == ["elkina.old"]


def test_figures_of_a_short_search_are_those_that_a_query_counts(people: FlaskClient, app: Flask) -> None:
    keep(app, ago(days=2), username="elkina.2", status=422, code="blank", duration_ms=0)
    keep(app, ago(hours=9), username="elkina.3", status=200, code="dry_run", duration_ms=20_000)
    now = datetime.now(MOSCOW)
    with app.app_context():
        database = get_runtime().read_database
        for since in (None, now - timedelta(days=7)):
            sought = AttemptFilter(text="elkina", since=since, max_seq=service.find_last_seq(database), unmasked=True)
            page = service.search_page(database, sought, 25, now)

            built = service.build_report_from(page.attempts, sought, MOSCOW, now)

            assert built == service.build_report(database, sought, MOSCOW, now)
            assert len(page.attempts) == built.total == 3


def test_a_search_whose_hits_fit_on_a_page_reads_the_attempts_once(
    people: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(service, "build_report")

    page = show(people, "?q=elkina")

    assert logins(page) == ["elkina.alyona"]
    assert 'class="kpis"' in page


@pytest.mark.parametrize(
    "sought",
    ["соколова анна", "СОКОЛОВА", "sokolova", "a.sok", "0141", "5550141", "+7 912 •••-••-41", "A•••@example.org", "id"],
)
def test_administrators_find_a_user_by_any_part(administrator: FlaskClient, sought: str) -> None:
    answer = useradd(administrator, ANNA).json
    assert answer is not None
    sought = str(answer["attempt_id"]) if sought == "id" else sought

    page = administrator.get(f"/admin/users/?search={quote(sought)}").text

    assert "a.sokolova</a>" in page
    assert "petrov.ivan</a>" not in page


# The same person


def detail(browser: FlaskClient, attempt_id: UUID) -> str:
    """Return the text of the page of an attempt."""
    return text_of(browser.get(f"/results/{attempt_id}/").text)


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({}, True),
        ({"username": "ELKINA.Alyona"}, True),
        ({"username": "alyona"}, True),
        ({"username": "alyona", "name": "Алена Йодовна Елкина"}, True),
        ({"phone": "+7 900 •••-••-00"}, True),
        ({"username": "alyona", "name": "Другая Тёзка"}, False),
        ({"username": "alyona", "phone": "+7 900 •••-••-00"}, False),
    ],
)
def test_a_refused_person_who_was_created_later_is_shown(
    reader: FlaskClient, app: Flask, changes: dict[str, str], *, is_same: bool
) -> None:
    person = ALYONA | {"phone": "+7 912 •••-••-41"}
    refused = keep(app, ago(minutes=9), status=422, code="blank", **person)
    keep(app, ago(minutes=7), status=422, code="blank", **person | changes)
    keep(app, ago(minutes=5), **person | changes)

    page = detail(reader, refused)

    assert ("Этот человек создан позже:" in page) is is_same


def test_an_earlier_attempt_with_another_login_is_shown(reader: FlaskClient, app: Flask) -> None:
    person = ALYONA | {"email": "e•••@example.org"}
    keep(app, ago(minutes=9), status=409, code="username_taken", **person | {"username": "alyona"})

    page = detail(reader, keep(app, ago(minutes=5), **person))

    assert re.search(r"Этот человек раньше [^А-Я]*\d Отказ 409 alyona", page), page


def test_a_search_for_a_person_that_takes_too_long_claims_nothing(
    reader: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = keep(app, ago(minutes=9), status=422, code="blank", **ALYONA, phone="+7 912 •••-••-41")
    keep(app, ago(minutes=5), **ALYONA, phone="+7 912 •••-••-41")

    def fail(*_: object, **__: object) -> None:
        raise QueryTimeoutError

    monkeypatch.setattr(rows_of_attempts, "find_same_contact", fail)

    page = detail(reader, refused)

    assert "Этот человек создан позже:" in page, "the login is indexed"
    assert "Этот человек раньше за отведённое время не найдено" in page


def test_the_duration_is_what_the_client_waited(client: FlaskClient, app: Flask, rows: Rows) -> None:
    created = record(ago(minutes=1), duration_ms=3)
    unconfirmed = record(ago(minutes=1), status=503, code="outcome_unknown", duration_ms=2800)
    unconfirmed.attempt.id = created.attempt.id
    with app.app_context():
        for one in (created, unconfirmed):
            get_runtime().database.write_transaction(insert_attempts, [one])

    (row,) = rows.query("select status, answered, duration_ms from attempts")

    assert tuple(row.values()) == (201, 503, 2800)


# Periods


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        ("yesterday", "2026-02-28", "2026-03-01"),
        ("last-week", "2026-02-16", "2026-02-23"),
        ("last-month", "2026-02-01", "2026-03-01"),
        ("this-month", "2026-03-01", ""),
    ],
)
def test_calendar_periods_end_at_midnight(app: Flask, period: str, since: str, until: str) -> None:
    found = select(app, f"period={period}").filter

    assert f"{found.since:%Y-%m-%d %H:%M}" == f"{since} 00:00"
    assert (f"{found.until:%Y-%m-%d %H:%M}" if found.until else "") == (f"{until} 00:00" if until else "")


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        ("today", "02-28 00:00", "02-28 14:05"),
        ("yesterday", "02-27 00:00", "02-28 00:00"),
        ("7d", "02-16 00:00", "02-22 14:05"),
        ("last-week", "02-09 00:00", "02-16 00:00"),
        ("last-month", "01-01 00:00", "02-01 00:00"),
        ("this-month", "02-01 00:00", "02-01 14:05"),
    ],
)
def test_a_period_is_compared_with_the_same_hours_before(app: Flask, period: str, since: str, until: str) -> None:
    previous = select(app, f"period={period}").previous_period

    assert previous is not None
    assert [f"{edge:%m-%d %H:%M}" for edge in previous] == [since, until]


def test_emptied_dates_mean_all_time_not_seven_days(app: Flask) -> None:
    assert select(app, "period=dates&from=&to=").period == "all"


def select(app: Flask, query: str) -> Selection:
    """Return the selection of a query string on Sunday, 1 March 2026, 14:05."""
    with app.test_request_context(f"/results/?{query}"):
        args = MultiDict(parse_qsl(query, keep_blank_values=True))
        return parse_selection(args, MOSCOW, datetime(2026, 3, 1, 14, 5, tzinfo=MOSCOW))


def test_today_is_compared_with_the_weekday_before(reader: FlaskClient, app: Flask) -> None:
    for day in (1, 2):
        keep(app, ago(days=day, seconds=5))

    page = text_of(show(reader, "?period=today"))

    names = "понедельник|вторник|среда|четверг|пятница|суббота|воскресенье"
    assert re.search(rf"столько же, сколько вчера \(({names})\) к \d\d:\d\d", page), page


def test_the_shares_of_all_outcomes_add_up(reader: FlaskClient, app: Flask) -> None:
    keep(app, ago(minutes=1), status=422, code="blank")
    keep(app, ago(minutes=1), status=503, code="database_unavailable")

    page = text_of(show(reader))

    assert "33,4 % запросов" in page
    assert "33,3 % — ошибка в запросе" in page
