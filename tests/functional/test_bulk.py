"""POST /useradd/bulk: each line is an attempt, and the same request is safe to repeat."""

import json
import re
from collections.abc import Callable
from threading import BoundedSemaphore
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from project.api import bulk
from project.contract.error_codes import EXAMPLE_USER
from project.domain.errors import OutcomeUnknownError
from project.http.request_state import MAX_BODY_BYTES
from project.runtime import Runtime, get_runtime
from project.services.registration import MAX_GROUP_SIZE
from tests.builders import ANNA, IVAN, KEY, log_in, useradd
from tests.conftest import MakeApp, Rows

Body = dict[str, Any]
Answers = list[dict[str, Any]]
ADDRESS = "/api/v1/useradd/bulk/"
NDJSON, JSON = "application/x-ndjson", "application/json"


def person(number: int) -> Body:
    """Return a request body that differs from others."""
    return {"name": "Анна Соколова", "username": f"user{number}", "email": f"user{number}@example.org"}


def post(client: FlaskClient, *lines: Body | str, query: str = "", **headers: str) -> TestResponse:
    """Post lines, of which texts are sent as they are."""
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(ADDRESS + query, data=body.encode(), content_type=NDJSON, headers=names, buffered=True)


def answers(response: TestResponse) -> Answers:
    """Return the answers of all lines."""
    assert response.status_code == 200
    return [json.loads(line) for line in response.text.splitlines()]


def statuses(response: TestResponse) -> list[tuple[int, int]]:
    """Return number and status of each line."""
    return [(answer["line"], answer["status"]) for answer in answers(response)]


def test_every_line_creates_a_user_that_can_log_in(client: FlaskClient, rows: Rows) -> None:
    response = post(client, person(1), person(2))

    found = answers(response)
    assert response.mimetype == NDJSON
    assert [set(answer) - {"idempotency_key"} for answer in found] == [
        {"line", "status", "login", "password", "attempt_id"}
    ] * 2
    assert rows.outcomes() == [(201, "created")] * 2
    assert {str(row["id"]) for row in rows.of("users")} == {answer["attempt_id"] for answer in found}
    assert log_in(client, found[1]["login"], found[1]["password"]).status_code == 302


@pytest.mark.parametrize("address", bulk.PATHS)
def test_an_array_is_answered_by_an_array_at_every_address(client: FlaskClient, address: str) -> None:
    response = client.post(address, json=[person(1), person(2), {}], buffered=True)

    assert (response.status_code, response.mimetype) == (200, JSON)
    assert [(answer["line"], answer["status"]) for answer in response.json or []] == [(1, 201), (2, 201), (3, 422)]


@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("length", "status"), [(MAX_BODY_BYTES, 201), (MAX_BODY_BYTES + 1, 413)])
def test_a_line_may_be_as_long_as_a_request_body(client: FlaskClient, length: int, status: int, ending: str) -> None:
    [answer] = answers(post(client, json.dumps(ANNA).ljust(length) + ending))

    assert answer["status"] == status


def test_a_wrong_line_affects_no_other_and_is_explained(client: FlaskClient, rows: Rows) -> None:
    useradd(client, ANNA)
    wrong = ["{broken", "[1]", "x" * 20_000, json.dumps(IVAN | {"phone": "1"}), json.dumps(ANNA)]

    response = post(client, person(1), "", *wrong, person(2), Accept_Language="en")

    found = answers(response)
    assert [(answer["line"], answer["status"], answer.get("code")) for answer in found] == [
        (1, 201, None),
        (3, 400, "malformed_json"),
        (4, 400, "body_not_object"),
        (5, 413, "body_too_large"),
        (6, 422, "validation_failed"),
        (7, 409, "conflict"),
        (8, 201, None),
    ]
    assert [error["code"] for error in found[5]["errors"]] == ["username_taken", "phone_taken", "email_taken"]
    assert found[3]["detail"] == "At most 16 KB are accepted in one line: write each user on a line of its own."
    assert sorted(rows.outcomes()) == sorted(
        [(201, "created")] * 3
        + [(400, "malformed_json"), (400, "body_not_object"), (413, "body_too_large")]
        + [(422, "invalid_phone"), (409, "username_taken")]
    )


def test_the_same_request_with_the_same_key_gives_the_same_answers(client: FlaskClient, rows: Rows) -> None:
    first = answers(post(client, person(1), person(2), Idempotency_Key=KEY))

    again = answers(post(client, person(1), person(2), Idempotency_Key=KEY))

    assert [answer["password"] for answer in again] == [answer["password"] for answer in first]
    assert [answer.get("replayed") for answer in [*first, *again]] == [None, None, True, True]
    assert len(rows.of("users")) == 2


def test_the_key_that_the_service_made_is_in_the_first_line_and_can_be_used(client: FlaskClient) -> None:
    first = answers(post(client, person(1), person(2)))
    key = first[0]["idempotency_key"]

    again = answers(post(client, person(2), Idempotency_Key=key))

    assert "idempotency_key" not in first[1]
    assert (again[0]["password"], again[0]["replayed"]) == (first[1]["password"], True)


def test_lines_that_were_added_removed_or_moved_create_only_what_is_new(client: FlaskClient, rows: Rows) -> None:
    first = answers(post(client, person(1), person(2), person(3), Idempotency_Key=KEY))

    again = answers(post(client, person(4), person(3), person(1), Idempotency_Key=KEY))

    assert [answer.get("replayed") for answer in again] == [None, True, True]
    assert [again[1]["password"], again[2]["password"]] == [first[2]["password"], first[0]["password"]]
    assert len(rows.of("users")) == 4


def test_lines_with_the_same_content_are_one_user(client: FlaskClient, rows: Rows) -> None:
    first, again = answers(post(client, person(1), json.dumps(person(1) | {"name": " Анна Соколова "})))

    assert (again["password"], again["replayed"]) == (first["password"], True)
    assert len(rows.of("users")) == 1


def test_of_lines_that_claim_the_same_the_first_wins(client: FlaskClient) -> None:
    response = post(client, person(1), person(1) | {"name": "Other"}, person(2) | {"email": "user1@example.org"})

    assert statuses(response) == [(1, 201), (2, 409), (3, 409)]


def test_a_dry_run_checks_all_lines_and_creates_nobody(client: FlaskClient, rows: Rows) -> None:
    found = answers(post(client, person(1) | {"phone": "8 (912) 555-01-41"}, {}, query="?dry_run=true"))

    assert found[0] | {"status": 200, "valid": True} == found[0]
    assert found[0]["normalized"]["phone"] == "+79125550141"
    assert found[1]["status"] == 422
    assert rows.of("users") == []
    assert rows.outcomes() == [(200, "dry_run"), (422, "required")]


def test_every_line_keeps_client_and_request_id_of_its_request(client: FlaskClient, rows: Rows) -> None:
    response = post(client, person(1), {}, X_Request_Id="import-7", User_Agent="crm/1")

    assert response.status_code == 200
    assert {(row["client_request_id"], row["user_agent"]) for row in rows.attempts()} == {("import-7", "crm/1")}


def test_large_requests_are_answered_group_by_group_in_order(client: FlaskClient, rows: Rows) -> None:
    number = 2 * MAX_GROUP_SIZE + 1

    response = post(client, *map(person, range(number)))

    assert statuses(response) == [(line, 201) for line in range(1, number + 1)]
    assert len(rows.of("users")) == number


def test_a_client_that_leaves_keeps_what_is_done_and_the_rest_is_not_begun(client: FlaskClient, rows: Rows) -> None:
    body = "\n".join(json.dumps(person(one)) for one in range(2 * MAX_GROUP_SIZE)).encode()

    response = client.post(ADDRESS, data=body, content_type=NDJSON, headers={"Idempotency-Key": KEY}, buffered=False)
    next(iter(response.response))
    response.close()

    assert len(rows.of("users")) == len(rows.attempts()) == MAX_GROUP_SIZE
    again = post(client, body.decode(), Idempotency_Key=KEY)
    assert [answer.get("replayed", False) for answer in answers(again)] == [True] * MAX_GROUP_SIZE + [
        False
    ] * MAX_GROUP_SIZE


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{}\n" * 10_001, NDJSON, 413, "too_many"),
        (b"[" + b"{}," * 10_000 + b"{}]", JSON, 413, "too_many"),
        (b" " * (8 * 2**20 + 1), NDJSON, 413, "body_too_large"),
        (b"\n\n", NDJSON, 400, "malformed_json"),
        (b"", JSON, 400, "malformed_json"),
        (b"[]", JSON, 400, "malformed_json"),
        (b'[{"name": "A"}, {"name"', JSON, 400, "malformed_json"),
        (b"[{}] {}", JSON, 400, "malformed_json"),
        (b"[" * 100_000, JSON, 400, "malformed_json"),
        (b"\xff[", JSON, 400, "malformed_json"),
        (b"name,username", "text/csv", 415, "unsupported_media_type"),
    ],
)
def test_a_request_that_cannot_be_split_into_lines_is_refused_as_a_whole(
    client: FlaskClient, rows: Rows, body: bytes, content_type: str, status: int, code: str
) -> None:
    response = client.post(ADDRESS, data=body, content_type=content_type, buffered=True)

    document = json.loads(response.text)
    assert (document["status"], document["code"]) == (status, code)
    assert rows.of("users") == []
    assert rows.outcomes() == [(status, code)]


LIST = "[" + ",\n".join(json.dumps(person(number)) for number in (1, 2)) + "]"
EXAMPLE = (
    r'(?:such as|for example|Example of a line:) (\[?{"name": "Ivan Petrov", "username": "petrov.ivan", '
    r'"phone": "\+79991234567"}\]?)'
)


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (LIST.replace("\n", ""), NDJSON, "An array begins at line 1, but the header Content-Type promises lines."),
        ("\n" + LIST, NDJSON, "An array begins at line 2, but the header Content-Type promises lines."),
        ("[\n" + LIST[1:-1] + "\n]", NDJSON, "An array begins at line 1, but the header Content-Type promises lines."),
        (json.dumps(person(1), indent=2), NDJSON, "The first object stretches from line 1 to line 5."),
        ("\ufeff\n" + json.dumps(person(1), indent=2), JSON, "The first object stretches from line 2 to line 6."),
        (json.dumps(person(1)) + json.dumps(person(2)), NDJSON, "All users are on one line; curl -d removes line ends"),
        (", ".join(json.dumps(person(one)) for one in range(300)) + "\n", NDJSON, "All users are on one line; curl -d"),
        (f'{{"users": {LIST}}}', JSON, "The list of users is inside the field “users”."),
        (f'{{"users": {LIST}}}', NDJSON, "The list of users is inside the field “users”."),
        (json.dumps({"ok": 1, "data": [person(1)]}), JSON, "The list of users is inside the field “data”."),
    ],
)
def test_a_body_that_is_one_json_text_instead_of_lines_creates_nobody_and_is_explained(
    client: FlaskClient, rows: Rows, body: str, content_type: str, message: str
) -> None:
    headers = {"Accept-Language": "en"}

    response = client.post(ADDRESS, data=body.encode(), content_type=content_type, headers=headers, buffered=True)

    document = json.loads(response.text)
    assert (document["status"], document["code"]) == (400, "malformed_json")
    assert document["detail"].startswith(message)
    assert "useradd/bulk" not in document["detail"]
    assert rows.of("users") == []
    [example] = re.findall(EXAMPLE, document["detail"])
    kind = JSON if example.startswith("[") else NDJSON
    assert client.post(ADDRESS, data=example, content_type=kind, buffered=True).status_code == 200
    assert len(rows.of("users")) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (json.dumps(person(1)) + ",", "A comma follows the object: line 2, column 137."),
        (json.dumps(person(1)) + json.dumps(person(2)), "The line continues after the end of the object: line 2, col"),
        (json.dumps(person(1)) + ", " + json.dumps(person(2)), "The line continues after the end of the object: line"),
        (json.dumps(person(1))[:-1], "The line ends before the JSON object does: line 2."),
        ("name,username", "Line 2 does not begin with a brace."),
        ("[{}]", "There is an array instead of one object: line 2."),
        ("{'name': 'A'}", 'Names of fields and values need double quotes ("): line 2, column 2.'),
    ],
)
def test_what_is_wrong_with_a_line_is_explained_by_its_number_and_an_example(
    client: FlaskClient, rows: Rows, line: str, message: str
) -> None:
    found = answers(post(client, person(7), line, person(8), Accept_Language="en"))

    assert [answer["status"] for answer in found] == [201, 400, 201]
    assert found[1]["detail"].startswith(message)
    assert "useradd/bulk" not in found[1]["detail"]
    assert str(EXAMPLE_USER) in found[1]["detail"]


def test_the_refusal_names_the_bound(client: FlaskClient) -> None:
    headers = {"Accept-Language": "en"}
    many = client.post(ADDRESS, data=b"{}\n" * 10_001, content_type=NDJSON, headers=headers)
    large = client.post(ADDRESS, data=b" " * (8 * 2**20 + 1), content_type=NDJSON, headers=headers)

    assert "10000 users" in json.loads(many.text)["detail"]
    assert json.loads(large.text)["detail"] == "At most 8192 KB are accepted: split the list."


def test_an_array_sent_to_useradd_is_refused_with_a_pointer_here(client: FlaskClient) -> None:
    response = client.post("/useradd", json=[ANNA], headers={"Accept-Language": "en"})

    assert (response.status_code, response.get_json(force=True)["code"]) == (400, "body_not_object")
    assert "/api/v1/useradd/bulk/" in response.get_json(force=True)["detail"]


@pytest.mark.parametrize(
    ("language", "message"),
    [
        (
            "en",
            "There is no such field, and it contains a list. To send many users, send only the list to "
            "/api/v1/useradd/bulk/.",
        ),
        (
            "ru",
            "Такого поля нет, а в нём список. Чтобы создать многих пользователей, отправьте только список на "
            "/api/v1/useradd/bulk/.",
        ),
    ],
)
@pytest.mark.parametrize("key", ["users", "user", "data"])
def test_a_list_of_users_in_a_field_sent_to_useradd_is_refused_with_a_pointer_here(
    client: FlaskClient, rows: Rows, key: str, language: str, message: str
) -> None:
    response = useradd(client, {key: [ANNA]}, headers={"Accept-Language": language})

    first, *others = response.get_json()["errors"]
    assert (response.status_code, response.get_json()["code"]) == (422, "validation_failed")
    assert first == {"field": key, "code": "unknown_field", "message": message}
    assert [error["code"] for error in others] == ["required", "required", "contact_required"]
    assert rows.of("users") == []


def test_a_list_beside_the_fields_of_a_user_is_an_unknown_field(client: FlaskClient) -> None:
    response = useradd(client, ANNA | {"tags": ["x"]}, headers={"Accept-Language": "en"})

    [error] = response.get_json()["errors"]
    assert error["message"].startswith("There is no such field. Delete it;")


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl", "application/x-jsonlines"])
@pytest.mark.parametrize(("language", "beginning"), [("en", "is not accepted here"), ("ru", "здесь не принимается")])
def test_lines_sent_to_useradd_are_refused_with_a_pointer_here(
    client: FlaskClient, media_type: str, language: str, beginning: str
) -> None:
    response = client.post(
        "/useradd", data=json.dumps(ANNA), content_type=media_type, headers={"Accept-Language": language}
    )

    document = response.get_json(force=True)
    assert (response.status_code, document["code"]) == (415, "unsupported_media_type")
    assert document["detail"].startswith(f"Content-Type: {media_type} {beginning}")
    assert "/api/v1/useradd/bulk/" in document["detail"]


def test_a_parameter_that_is_misspelled_creates_nobody(client: FlaskClient, rows: Rows) -> None:
    assert post(client, person(1), query="?dryrun=true").status_code == 400
    assert rows.of("users") == []


@pytest.fixture
def limited(make_app: MakeApp, client: FlaskClient) -> Callable[..., FlaskClient]:
    """Return clients of applications with rate limits, on empty tables."""

    def make(**limits: int) -> FlaskClient:
        app = make_app(ratelimit_enabled=True, **limits)
        get_runtime(app).upkeep.ensure_running = lambda: None  # type: ignore[method-assign]
        return app.test_client()

    return make


def test_rate_limits_count_users_and_a_repeat_gets_further(
    limited: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch, rows: Rows
) -> None:
    monkeypatch.setattr(bulk, "MAX_GROUP_SIZE", 2)
    client = limited(ratelimit_per_client=4)
    people = [person(number) for number in range(6)]

    first = answers(post(client, *people, Idempotency_Key=KEY))

    assert [answer["status"] for answer in first] == [201] * 4 + [429] * 2
    assert first[4]["retry_after"] > 0
    assert len(rows.of("users")) == 4
    assert useradd(client, IVAN).status_code == 429


def test_replays_do_not_count_for_the_rate_limit(
    limited: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch, rows: Rows
) -> None:
    monkeypatch.setattr(bulk, "MAX_GROUP_SIZE", 2)
    client = limited(ratelimit_per_client=7)
    for _ in range(3):
        response = post(client, *map(person, range(4)), Idempotency_Key=KEY)
        assert {answer["status"] for answer in answers(response)} == {201}

    assert useradd(client, IVAN).status_code == 201


def test_conflicts_count_for_the_limit_of_conflicts(
    limited: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_GROUP_SIZE", 2)
    client = limited(ratelimit_conflicts=2)
    useradd(client, person(1))

    taken = [person(1) | {"name": f"N{letter}"} for letter in "abcd"]
    response = post(client, *taken)

    assert [answer["status"] for answer in answers(response)] == [409, 409, 429, 429]


def test_only_some_requests_are_served_at_once(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    permits = BoundedSemaphore(1)
    monkeypatch.setattr(bulk, "_permits", permits)
    permits.acquire()

    refused = post(client, person(1))

    permits.release()
    assert (refused.status_code, json.loads(refused.text)["code"]) == (503, "overloaded")
    assert "Retry-After" in refused.headers
    assert statuses(post(client, person(1))) == statuses(post(client, person(2))) == [(1, 201)]


def test_a_permit_is_released_if_a_hook_drops_the_response(client: FlaskClient) -> None:
    hooks: list[Any] = client.application.after_request_funcs[None]
    hooks.append(lambda _: 1 / 0)
    try:
        assert {post(client, person(1)).status_code for _ in range(3)} == {500}
    finally:
        hooks.pop()

    assert statuses(post(client, person(1))) == [(1, 201)]


def test_lines_that_postgresql_could_not_take_say_so_and_can_be_sent_again(
    client: FlaskClient, app: Flask, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "project.services.registration.queries.useradd_group",
        lambda _, members: [OutcomeUnknownError() for _ in members],
    )
    failed = answers(post(client, person(1), {}, Idempotency_Key=KEY))
    monkeypatch.undo()

    again = answers(post(client, person(1), {}, Idempotency_Key=KEY))

    assert [(answer["status"], answer["code"]) for answer in failed] == [
        (503, "outcome_unknown"),
        (422, "validation_failed"),
    ]
    assert failed[0]["retry_after"] > 0
    assert [answer["status"] for answer in again] == [201, 422]
    assert runtime.spool.has_records()


def test_lines_are_counted_by_the_metrics_of_attempts(client: FlaskClient) -> None:
    def created() -> float:
        text = client.get("/metrics").text
        [line] = [line for line in text.splitlines() if line.startswith('useradd_attempts_total{outcome="created"')]
        return float(line.rpartition(" ")[2])

    before = created()
    post(client, person(1), person(2), {})

    assert created() == before + 2
