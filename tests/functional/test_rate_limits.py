"""Rate limits: responses, records, and that no client can lock out another one."""

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from project.database.breaker import Breaker
from project.domain.passwords import Passwords
from project.http import rate_limits as rules
from tests.builders import ANNA, HTML, IVAN, csrf_token, log_in, useradd
from tests.conftest import MakeApp, Rows

HERE, THERE = "203.0.113.9", "198.51.100.1"
WRONG = "wrong"
Service = Callable[..., FlaskClient]


@pytest.fixture
def limited(make_app: MakeApp, client: FlaskClient) -> Service:
    """Creates clients of a service with rate limits, on empty tables."""

    def make_client(**settings: Any) -> FlaskClient:
        return make_app(ratelimit_enabled=True, **settings).test_client()

    return make_client


def from_address(address: str) -> dict[str, Any]:
    """Return the arguments of a request from this address."""
    return {"environ_base": {"REMOTE_ADDR": address}}


def statuses(client: FlaskClient, times: int, body: dict[str, Any] = ANNA, **kwargs: Any) -> list[int]:
    """Call /useradd `times` times; return the statuses."""
    return [useradd(client, body, **kwargs).status_code for _ in range(times)]


def guess(client: FlaskClient, login: str = "petrov.ivan", password: str = WRONG, address: str = HERE) -> TestResponse:
    """Try to log in from an address."""
    page = client.get("/login/", **from_address(address)).text
    form = {"login": login, "password": password, "csrf_token": csrf_token(page)}
    return client.post("/login/", data=form, **from_address(address))


def test_requests_over_the_limit_of_a_client_are_refused_and_recorded(limited: Service, rows: Rows) -> None:
    client = limited(ratelimit_per_client=2)

    answers = statuses(client, 2, {})
    refusal = useradd(client, ANNA, headers={"Accept-Language": "en"})

    assert [*answers, refusal.status_code] == [422, 422, 429]
    assert refusal.json is not None
    assert (refusal.mimetype, refusal.json["code"]) == ("application/problem+json", "rate_limited")
    seconds = int(refusal.headers["Retry-After"])
    assert 1 <= seconds <= 60
    assert refusal.json["detail"] == f"Try again in {seconds} s."
    assert rows.outcomes() == [(422, "required"), (422, "required"), (429, "rate_limited")]
    assert refusal.json["attempt_id"] == str(rows.attempts()[-1]["id"])


def test_successful_responses_have_no_retry_after(limited: Service) -> None:
    assert "Retry-After" not in useradd(limited(), ANNA).headers


def test_other_clients_are_not_limited(limited: Service) -> None:
    client = limited(ratelimit_per_client=1)
    statuses(client, 2, **from_address(HERE))

    assert statuses(client, 1, {}, **from_address(THERE)) == [422]


def test_requests_of_every_method_and_outcome_count(limited: Service) -> None:
    client = limited(ratelimit_per_client=3)
    client.get("/useradd")
    client.post("/useradd/", data=b"x" * 20_000, content_type="application/json")
    client.post("/api/v1/useradd", data=b"", content_type="text/plain")

    assert client.delete("/useradd").status_code == 429


def test_there_is_a_limit_for_all_clients_together(limited: Service) -> None:
    client = limited(ratelimit_global=2)

    found = [*statuses(client, 1, {}, **from_address(HERE)), *statuses(client, 2, {}, **from_address(THERE))]

    assert found == [422, 422, 429]


def test_refused_requests_do_not_count_towards_the_global_limit(limited: Service) -> None:
    client = limited(ratelimit_per_client=1, ratelimit_global=2)
    statuses(client, 10, {}, **from_address(HERE))

    assert statuses(client, 1, {}, **from_address(THERE)) == [422]


def test_conflicts_of_a_client_are_limited_separately(limited: Service) -> None:
    """S39: a conflict reveals which identifiers exist, so it has a limit."""
    client = limited(ratelimit_conflicts=2)
    useradd(client, ANNA)

    assert statuses(client, 3) == [409, 409, 429]
    assert statuses(client, 1, IVAN, **from_address(THERE)) == [201]


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.9", HERE, True),
        ("::ffff:203.0.113.9", "::ffff:203.0.113.8", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unix:", "unix:", True),
    ],
)
def test_an_ipv6_network_is_one_client(limited: Service, first: str, second: str, is_same: bool) -> None:
    client = limited(ratelimit_per_client=1)
    statuses(client, 1, {}, **from_address(first))

    assert statuses(client, 1, {}, **from_address(second)) == [429 if is_same else 422]


def test_a_spoofed_address_does_not_evade_the_limit(limited: Service) -> None:
    """S65."""
    client = limited(ratelimit_per_client=3)

    found = [useradd(client, {}, headers={"X-Forwarded-For": f"203.0.113.{n}"}).status_code for n in range(5)]

    assert found == [422, 422, 422, 429, 429]


def test_a_client_with_an_api_key_is_counted_by_its_key(limited: Service, rows: Rows) -> None:
    client = limited(ratelimit_per_client=2, api_keys_required=True)
    runner = client.application.test_cli_runner()
    key = runner.invoke(args=["api-keys", "create", "crm"]).output.split()[-1]
    with_key = {"headers": {"Authorization": f"Bearer {key}"}}
    statuses(client, 1, {}, **with_key)  # counted by address until the key is verified

    by_key = [statuses(client, 1, {}, **with_key, **from_address(address)) for address in (HERE, THERE, HERE)]
    invalid_keys = [
        useradd(client, {}, headers={"Authorization": f"Bearer made-up-{n}"}, **from_address(HERE)).status_code
        for n in range(3)
    ]

    assert by_key == [[422], [422], [429]]
    assert invalid_keys == [401, 401, 429], "an invalid key must not be a separate client"


def test_recorded_refusals_are_limited(
    limited: Service, rows: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = limited(ratelimit_per_client=1)
    monkeypatch.setattr(rules, "CLIENT_RECORD_LIMIT", replace(rules.CLIENT_RECORD_LIMIT, requests=3))
    monkeypatch.setattr(rules, "TOTAL_RECORD_LIMIT", replace(rules.TOTAL_RECORD_LIMIT, requests=5))

    flood = [useradd(client, {}, **from_address(HERE)) for _ in range(8)]
    others = [useradd(client, {}, **from_address(THERE)) for _ in range(6)]

    recorded = [answer.json.get("recorded", True) for answer in flood + others]  # type: ignore[union-attr]
    assert recorded == [True] * 4 + [False] * 4 + [True] * 3 + [False] * 3
    assert [status for status, _ in rows.outcomes()].count(429) == 5
    assert [line.message for line in caplog.records].count(
        "rate limit refusals are no longer recorded individually"
    ) == 1


def test_the_eleventh_wrong_password_is_refused_without_a_check(limited: Service) -> None:
    """S36: per address, for all accounts together."""
    client = limited()

    found = [guess(client, f"user{n % 3}") for n in range(11)]

    assert [answer.status_code for answer in found] == [401] * 10 + [429]
    assert 1 <= int(found[-1].headers["Retry-After"]) <= 60
    assert "Слишком много запросов" in found[-1].text


def test_wrong_passwords_at_reauthentication_are_limited(limited: Service, rows: Rows) -> None:
    client = limited()
    issued = useradd(client, IVAN).json
    assert issued is not None
    guess(client, password=issued["password"])
    rows.query("update users set is_admin = true")
    with client.session_transaction(**from_address(HERE)) as session:
        session["proved"] = 0
    token = csrf_token(client.get("/admin/api-keys/new/", **from_address(HERE)).text)
    form = {"csrf_token": token, "name": "shop front"}

    found = [
        client.post("/admin/api-keys/new/", data={**form, "password": password}, **from_address(HERE)).status_code
        for password in [WRONG] * 10 + [issued["password"]]
    ]

    assert found == [422] * 10 + [429]
    assert rows.of("api_keys") == []


def test_after_too_many_guesses_the_right_password_works_only_from_another_address(limited: Service) -> None:
    """S36: an attacker learns nothing more, and the owner can log in from elsewhere."""
    client = limited()
    issued = useradd(client, IVAN).json
    assert issued is not None
    for _ in range(10):
        guess(client)

    assert guess(client, password=issued["password"]).status_code == 429
    assert guess(client, password=issued["password"], address=THERE).status_code == 302


def test_simultaneous_guesses_do_not_exceed_the_limit(limited: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """F76: a try is counted before its password is verified."""
    client = limited()
    useradd(client, IVAN)
    verified: list[str] = []
    together = threading.Barrier(10)
    find_matching_hash = Passwords.find_matching_hash

    def spy(self: Passwords, password: str, hashes: Sequence[str]) -> int | None:
        verified.append(password)
        with suppress(threading.BrokenBarrierError):
            together.wait(5)  # nobody is finished before ten have begun
        return find_matching_hash(self, password, hashes)

    monkeypatch.setattr(Passwords, "find_matching_hash", spy)
    with ThreadPoolExecutor(15) as pool:
        browsers = [client.application.test_client() for _ in range(40)]
        found = Counter(answer.status_code for answer in pool.map(guess, browsers))

    assert (len(verified), found[401], found[429] + found[503]) == (10, 10, 30)


def test_a_login_has_one_counter_whatever_its_spelling(limited: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """F76."""
    client = limited()
    useradd(client, IVAN)
    monkeypatch.setattr(rules, "WRONG_PASSWORD_LIMIT", replace(rules.WRONG_PASSWORD_LIMIT, requests=1_000))
    monkeypatch.setattr(rules, "ACCOUNT_WRONG_PASSWORD_LIMIT", replace(rules.ACCOUNT_WRONG_PASSWORD_LIMIT, requests=3))
    phones = ["+7 999 123-45-67", "8 (999) 123-45-67", "8-999-123-45-67", "89991234567"]
    unknown = [phone.replace("999", "912") for phone in phones]

    assert [guess(client, login).status_code for login in phones] == [401] * 3 + [429]
    assert [guess(client, login).status_code for login in unknown] == [401] * 3 + [429], "nobody learns who exists"
    assert guess(client, "petrov.ivan").status_code == 401, "nobody learns whose number it is"


def test_an_outage_or_a_refusal_for_the_account_does_not_count_for_the_address(
    limited: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited()
    monkeypatch.setattr(rules, "ACCOUNT_WRONG_PASSWORD_LIMIT", replace(rules.ACCOUNT_WRONG_PASSWORD_LIMIT, requests=1))
    with monkeypatch.context() as outage:
        outage.setattr(Breaker, "is_open", True)
        assert [guess(client).status_code for _ in range(11)] == [503] * 11

    assert [guess(client).status_code for _ in range(11)] == [401] + [429] * 10
    assert guess(client, "somebody.else").status_code == 401


def test_slow_guesses_at_one_account_from_one_address_are_limited_per_hour(
    limited: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited()
    useradd(client, IVAN)
    monkeypatch.setattr(rules, "WRONG_PASSWORD_LIMIT", replace(rules.WRONG_PASSWORD_LIMIT, requests=1_000))
    monkeypatch.setattr(rules, "ACCOUNT_WRONG_PASSWORD_LIMIT", replace(rules.ACCOUNT_WRONG_PASSWORD_LIMIT, requests=3))
    spellings = ["petrov.ivan", "PETROV.IVAN", "  petrov.ivan"]

    found = [guess(client, login).status_code for login in spellings]

    assert found == [401] * 3
    assert guess(client).status_code == 429
    assert guess(client, "somebody.else").status_code == 401
    assert guess(client, address=THERE).status_code == 401


def test_frequent_successful_logins_are_not_limited(limited: Service) -> None:
    client = limited()
    issued = useradd(client, IVAN).json
    assert issued is not None

    found = {guess(client, password=issued["password"]).status_code for _ in range(12)}

    assert found == {302}


def test_a_stolen_session_cannot_guess_the_password(limited: Service) -> None:
    client = limited()
    issued = useradd(client, IVAN).json
    assert issued is not None
    log_in(client, issued["login"], issued["password"])
    new = "lorem-ipsum-korova-77"

    def change(current: str) -> int:
        token = csrf_token(client.get("/account/").text)
        form = {"current": current, "new": new, "confirmation": new, "csrf_token": token}
        return client.post("/account/", data=form).status_code

    assert [change("wrong") for _ in range(11)] == [422] * 10 + [429]
    assert change(issued["password"]) == 429


def test_exports_are_limited_per_user(limited: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    client = limited()
    issued = useradd(client, IVAN).json
    assert issued is not None
    log_in(client, issued["login"], issued["password"])
    monkeypatch.setattr(rules, "EXPORT_LIMIT", replace(rules.EXPORT_LIMIT, requests=2))

    found = []
    for ending in ("txt", "csv", "xlsx"):
        with client.get(f"/results/export.{ending}") as response:  # an open response would keep its permit
            found.append(response.status_code)
    page = client.get("/results/export.txt", headers=HTML)

    assert found == [200, 200, 429]
    assert (page.status_code, page.mimetype) == (429, "text/html")
    assert client.get("/results/").status_code == 200


def test_changes_by_an_administrator_are_limited_per_minute(
    limited: Service, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited()
    issued, other = useradd(client, IVAN).json, useradd(client, ANNA).json
    assert issued is not None
    assert other is not None
    rows.query("update users set is_admin = true where username = 'petrov.ivan'")
    log_in(client, issued["login"], issued["password"])
    monkeypatch.setattr(rules, "ADMIN_CHANGE_LIMIT", replace(rules.ADMIN_CHANGE_LIMIT, requests=2))
    address = f"/admin/users/{other['user']['id']}"

    def post(action: str) -> int:
        token = csrf_token(client.get(f"{address}/{action}/").text)
        return client.post(f"{address}/{action}/", data={"csrf_token": token}).status_code

    assert [post("block"), post("unblock"), post("block")] == [302, 302, 429]


def test_the_problem_document_of_a_limit_is_valid_json(limited: Service) -> None:
    client = limited(ratelimit_per_client=1)
    useradd(client, {})

    document = json.loads(useradd(client, {}, headers={"Accept-Language": "ru"}).data)

    assert document["status"] == 429
    assert document["detail"].startswith("Повторите запрос через ")


def test_logins_and_passwords_of_failed_logins_are_not_logged(
    limited: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = limited()

    for _ in range(11):
        guess(client, "secret.login", "secret-password")

    assert "secret" not in caplog.text
