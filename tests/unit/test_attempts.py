"""Attempts: time-ordered ids, the stored part of a body, and outcomes."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from project.domain.attempts import MAX_STORED_FIELDS, NewAttempt, Outcome, lowest_id, new_id
from project.domain.text import check_characters

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOMENTS = st.builds(
    lambda age, zone: (EPOCH + age).astimezone(zone),
    st.timedeltas(timedelta(days=1), timedelta(days=365 * 8000)),
    st.timezones() | st.just(UTC),
)
no_deadline = settings(deadline=None)


@given(MOMENTS)
@no_deadline
def test_an_id_is_a_version_7_uuid_that_starts_with_its_millisecond(moment: datetime) -> None:
    attempt_id = new_id(moment)

    assert (attempt_id.version, attempt_id.variant) == (7, uuid.RFC_4122)
    assert attempt_id.int >> 80 == (moment - EPOCH) // timedelta(milliseconds=1)


@given(MOMENTS)
@no_deadline
def test_ids_are_ordered_by_time_to_the_microsecond(moment: datetime) -> None:
    moment = moment.astimezone(UTC)

    assert new_id(moment - MICROSECOND) < new_id(moment) < new_id(moment + MICROSECOND)


@given(MOMENTS)
@no_deadline
def test_the_first_id_of_a_period_is_exactly_at_its_start(moment: datetime) -> None:
    moment = moment.astimezone(UTC)
    first = lowest_id(moment)

    assert new_id(moment - MICROSECOND) < first <= new_id(moment)
    assert (first.version, first.variant) == (7, uuid.RFC_4122)


def test_the_first_id_of_a_moment_is_the_same_in_every_time_zone() -> None:
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)

    ids = {lowest_id(moment.astimezone(ZoneInfo(zone))) for zone in ("UTC", "Europe/Moscow", "America/New_York")}

    assert len(ids) == 1


def test_a_period_may_start_before_the_unix_epoch() -> None:
    first = lowest_id(datetime(1900, 1, 1, tzinfo=UTC))

    assert first == lowest_id(datetime(1970, 1, 1, tzinfo=UTC)) < new_id(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))


def test_ids_created_at_the_same_moment_differ() -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC)

    assert len({new_id(moment) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(201, "created"), (200, "unchanged"), (204, "unchanged"), (400, "rejected"), (499, "rejected")],
        *[(500, "failed"), (503, "failed"), (0, "failed")],
    ],
)
def test_a_status_maps_to_an_outcome(status: int, outcome: str) -> None:
    assert Outcome.of(status) == outcome


@pytest.fixture
def attempt() -> NewAttempt:
    """An attempt whose body has not been read yet."""
    now = datetime.now(UTC)
    return NewAttempt(
        id=new_id(now),
        received_at=now,
        started=0,
        method="POST",
        language="ru",
        client_address="127.0.0.1",
        user_agent="",
        client_request_id=None,
    )


def test_the_fields_of_a_body_are_stored_with_masked_contacts(attempt: NewAttempt) -> None:
    attempt.store_body(
        {"name": "Анна\n", "phone": "8 912 555-01-41", "email": "anna@example.org", "birth_date": None}, "RU"
    )

    assert attempt.sent == {
        "name": "Анна\ufffd",
        "phone": "8 912 •••-••-41",
        "email": "a•••@example.org",
        "birth_date": "(null)",
    }


@pytest.mark.parametrize(
    ("value", "shown"), [(1, "number"), (1.5, "number"), (True, "boolean"), ([], "array"), ({}, "object")]
)
def test_a_value_that_is_not_text_is_stored_as_its_type(attempt: NewAttempt, value: Any, shown: str) -> None:
    attempt.store_body({"phone": value}, "RU")

    assert attempt.sent == {"phone": f"({shown})"}


def test_the_value_of_an_unknown_field_is_not_stored_because_it_may_be_a_password(attempt: NewAttempt) -> None:
    attempt.store_body({"password": "hunter2", "x" * 100: 1, "\ud800\0": 1}, "RU")

    assert attempt.sent == {"password": "•••", "x" * 39 + "…": "•••", "\ufffd\ufffd": "•••"}


def test_the_number_of_stored_fields_is_limited(attempt: NewAttempt) -> None:
    attempt.store_body({str(number): number for number in range(5000)}, "RU")

    assert len(attempt.sent) == MAX_STORED_FIELDS


@given(
    body=st.dictionaries(
        st.text(st.characters(exclude_categories=()), max_size=60) | st.sampled_from(["name", "username", "phone"]),
        st.none() | st.integers() | st.text(st.characters(exclude_categories=()), max_size=400),
    )
)
@no_deadline
def test_any_body_is_reduced_to_fields_that_postgresql_can_store(body: dict[str, Any]) -> None:
    attempt = NewAttempt(
        id=uuid.UUID(int=0),
        received_at=datetime.now(UTC),
        started=0,
        method="POST",
        language="ru",
        client_address="",
        user_agent="",
        client_request_id=None,
    )

    attempt.store_body(body, "RU")

    stored = "".join([*attempt.sent, *attempt.sent.values()])
    check_characters(stored)
    assert all(len(value) <= 300 for value in attempt.sent.values())
