"""Contact data is not exposed to ordinary users, or in logs, metrics and the spool."""

import io
import json
import logging
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape, unescape
from itertools import product
from typing import Any
from urllib.parse import unquote_plus, urlencode
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pythonjsonlogger.json import JsonFormatter

from project.http.logs import _add_request_ids, _TextFormatter
from project.runtime import get_runtime
from project.services import api_keys, attempts
from tests.builders import HTML, IVAN, log_in, useradd
from tests.conftest import MakeApp, Rows, reset_service
from tests.conventions.test_routes import VALUES

PHONES = ("+79125550141", "8 (912) 555-01-41", "89125550141", "8-912-555-01-41", "tel:+7 912 555 01 41", "٨٩١٢٥٥٥٠١٤١")
ADDRESSES = ("anna.sokolova@example.org", "mailto:anna.sokolova@example.org", "<anna.sokolova@example.org>")
PLACES = ("name", "username", "phone", "email", "birth_date")
SECRETS = ("anna.sokolova", "nna.sokolova", "9125550141", "12555014", "5550141", "٩١٢٥٥٥٠١٤١")
"""None of these may be read, with or without the signs between the digits."""
PERSONAL = ("1977-07-17", "17.07.1977", "Фамильина", "198.51.100.77", "SecretProgram")
"""Neither may birth dates, other words of names, addresses and programs of other clients."""
PARTS = ("anna.sok", "sokolova@", "Фамиль", "198.51.100.77", "SecretProgram")
"""Searches that must find nothing, because they are parts of masked values."""


@dataclass
class Corpus:
    """Requests with contact data in every place, and the contact data."""

    sent: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sent.append(
            {**self._user(), "username": "anna.sokolova@example.org", "email": "anna.sokolova@example.org"}
        )
        self.sent.append({**self._user(), "username": "+79125550141", "phone": "+79125550141"})
        for contact in (*PHONES, *ADDRESSES):
            for place in PLACES:
                self.sent.append({**self._user(), place: contact})
                self.sent.append({**self._user(), place: f"Анна, {contact} (дом)"})
            self.sent.append({**self._user(), contact: "x"})
            self.sent.append({contact: contact})
        self.sent += [{**self._user(), "birth_date": "31/12/9125550141"}, {**self._user(), "name": "Анна Фамильина"}]
        self.headers = [
            {"User-Agent": "SecretProgram (anna.sokolova@example.org; +7 912 555-01-41)"},
            {"X-Request-Id": "anna.sokolova@example.org"},
            {"X-Request-Id": "+79125550141"},
            {"X-Request-Id": "89125550141"},
            {"Traceparent": "anna.sokolova@example.org"},
            {"Idempotency-Key": "anna.sokolova@example.org-9125550141"},
            {"Accept-Language": "anna.sokolova@example.org"},
            {"Content-Type": "anna.sokolova@example.org"},
            {"Content-Encoding": "anna.sokolova@example.org"},
            {"Referer": "http://example.org/?anna.sokolova@example.org"},
        ]

    def _user(self) -> dict[str, Any]:
        number = len(self.sent)
        user = {"name": "Кто Фамильина", "username": f"who.{chr(97 + number // 26)}{chr(97 + number % 26)}"}
        return user | {"email": f"w{number}@example.net", "birth_date": "1977-07-17"}

    def send(self, client: FlaskClient) -> list[int]:
        """Send all requests from another address; return the statuses."""
        remote: dict[str, Any] = {"environ_overrides": {"REMOTE_ADDR": "198.51.100.77"}}
        agent = {"User-Agent": "SecretProgram"}
        responses = [useradd(client, body, headers=agent, **remote) for body in self.sent]
        for number, headers in enumerate(self.headers):
            body = {**self._user(), "username": f"head.{chr(97 + number)}", "email": f"h{number}@example.net"}
            media = {"content_type": headers.get("Content-Type", "application/json")}
            responses.append(client.post("/useradd", data=json.dumps(body), headers=agent | headers, **media, **remote))
        raw = [b'{"anna.sokolova@example.org": 1, "anna.sokolova@example.org": 2}', b"anna.sokolova@example.org"]
        responses += [client.post("/useradd", data=body, content_type="application/json", **remote) for body in raw]
        responses += [
            client.open("/useradd", method="+79125550141", **remote),
            client.get("/useradd?phone=%2B79125550141&mail=anna.sokolova@example.org", **remote),
            client.post("/useradd?anna.sokolova@example.org=9125550141", json={}, **remote),
        ]
        return [response.status_code for response in responses]


def find(text: str, secrets: tuple[str, ...] = (*SECRETS, *PERSONAL)) -> set[str]:
    """Return the secrets in a text, however they are escaped or punctuated."""
    plain = unquote_plus(unescape(re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)))
    plain += re.sub(r"(?<=\d)[\s()-]+(?=\d)", "", plain)
    return {secret for secret in secrets if secret.lower() in plain.lower()}


@pytest.fixture
def service(make_app: MakeApp, tmp_path: Any, client: FlaskClient) -> Flask:
    """A service with a spool of its own, on empty tables."""
    app = make_app(data_dir=tmp_path)
    get_runtime(app).upkeep.ensure_running = lambda: None  # type: ignore[method-assign]
    reset_service(app)
    return app


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Log lines in both formats."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _add_request_ids(record)
            lines.extend((_TextFormatter("%(asctime)s").format(record), JsonFormatter("%(message)s").format(record)))

    handler = Handler()
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def browser(service: Flask) -> FlaskClient:
    """The browser of an ordinary user, whose own data is elsewhere."""
    browser = service.test_client()
    issued = useradd(browser, IVAN).json
    assert issued is not None
    log_in(browser, issued["login"], issued["password"])
    return browser


def addresses(app: Flask, ids: list[UUID]) -> Iterator[tuple[str, str]]:
    """Yield endpoint and address of every rule, with every attempt."""

    def several(name: str) -> list[Any]:
        values: dict[str, list[Any]] = {"extension": ["csv", "txt", "xlsx"], "attempt_id": ids, "user_id": ids}
        return values.get(name, [VALUES[name]])

    for rule in app.url_map.iter_rules():
        for each in product(*(several(name) for name in sorted(rule.arguments))):
            with suppress(ValueError):  # this address has no file of this ending
                built = rule.build(dict(zip(sorted(rule.arguments), each, strict=True)))
                assert built
                yield rule.endpoint, built[1]


def body_of(client: FlaskClient, address: str, **kwargs: Any) -> str:
    """Return headers and content of a response, unpacked if it is a workbook."""
    with client.get(address, **kwargs) as response:
        content = response.get_data()
        assert response.status_code < 500, address
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "\n".join(archive.read(name).decode() for name in archive.namelist())
    return f"{response.headers}\n{content.decode(errors='replace')}"


@pytest.mark.parametrize("contact", [*PHONES, *ADDRESSES, *PERSONAL])
@pytest.mark.parametrize("form", ["{}", "Анна {}, дом"])
def test_the_search_for_contact_data_recognizes_it_in_any_form(contact: str, form: str) -> None:
    text = form.format(contact)

    for escaped in (text, json.dumps(text), urlencode({"q": text}), escape(text), json.dumps(json.dumps(text))):
        assert find(escaped), escaped


def queries(address: str) -> tuple[str, ...]:
    """Return queries that an address knows: it refuses others."""
    if address.startswith("/api/"):
        return ("", f"?period=all{'&limit=100' if 'attempts' in address else ''}")
    return ("?lang=ru", "?period=all", "?period=all&lang=en")


@pytest.mark.slow
def test_an_ordinary_user_reads_no_contact_data_anywhere(
    service: Flask, browser: FlaskClient, rows: Rows, log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, runtime, places, leaks = Corpus(), get_runtime(service), Counter[str](), dict[str, set[str]]()
    stranger = service.test_client()

    def visit(kind: str, place: str, text: str, secrets: tuple[str, ...] = (*SECRETS, *PERSONAL)) -> None:
        places[kind] += 1
        if found := find(text, secrets):
            leaks[f"{kind} {place}"] = found

    statuses = corpus.send(stranger)
    with monkeypatch.context() as outage:
        outage.setattr(attempts, "_try_insert", lambda *_: False)
        outage.setattr(type(runtime.spool), "clear_intent", lambda *_: None)
        Corpus().send(stranger)
        for path in runtime.spool.root.rglob("*"):
            if path.is_file():
                for number, line in enumerate(path.read_bytes().replace(b"\0", b"\n").split()):
                    # client addresses, programs, names and birth dates wait there for the table
                    visit("spool lines", f"{path.name}:{number}", line.decode(errors="replace"), SECRETS)
    with service.app_context():
        attempts.Delivery(runtime.database).drain(runtime.spool)
        key = api_keys.issue_key(runtime.database, "shop front", None).key

    ids = [row["id"] for row in rows.query("select id from attempts where username <> 'petrov.ivan'")]
    ids += [row["id"] for row in rows.query("select id from attempts where username is null")]
    for endpoint, address in addresses(service, ids):
        several = endpoint.rpartition(".")[2] not in {"attempt", "attempt_as_json", "user", "change_user"}
        for query in queries(address) if several else ("",):
            for headers in ({}, HTML) if several else (HTML,):
                kind = "JSON responses" if address.startswith("/api/v1/attempts") else "pages and files"
                visit(kind, address + query, body_of(browser, address + query, headers=headers))
    bearer = {"Authorization": f"Bearer {key}"}
    for address in ("/api/v1/attempts/?limit=100", *(f"/api/v1/attempts/{each}/" for each in ids)):
        visit("JSON responses to API keys", address, body_of(service.test_client(), address, headers=bearer))
    older = "/api/v1/attempts/?limit=100"
    while older:
        listed: dict[str, Any] = browser.get(older).get_json()
        visit("JSON responses", older, json.dumps(listed))
        older = listed["next"]
    for part in PARTS:
        for searched in ("/results/", "/results/export.csv", "/api/v1/attempts/", "/api/v1/stats/"):
            query = urlencode({"q": part, "period": "all"})
            found = re.search(r"who\.[a-z]|Кто Ф\.|[ai]•••@", body_of(browser, f"{searched}?{query}"))
            visit("searches", f"{searched}?{query}", "found" if found else "", ("found",))
    for whole in (*PHONES[:2], "anna.sokolova@example.org", "=anna.sokolova@example.org", "=+79125550141"):
        text = body_of(browser, "/api/v1/attempts/?" + urlencode({"q": whole, "limit": "100"}))
        visit("searches", whole, text.partition('"next"')[0])
    for name in ("address", "client"):
        assert browser.get(f"/api/v1/attempts/?{name}=198.51.100.77").status_code == 400
    visit("metrics", "/metrics", body_of(service.test_client(), "/metrics"))
    for logged in log_lines:
        visit("log lines", logged, logged, (*SECRETS, "Фамильина", "1977-07-17", "SecretProgram"))

    assert leaks == {}
    assert Counter(status // 100 for status in statuses)[2] >= 10
    print(f"{len(statuses)} requests, {len(SECRETS) + len(PERSONAL)} secrets, visited: {dict(places)}")
    assert places["pages and files"] > 900
    assert places["JSON responses"] > 250
    assert places["spool lines"] > 100
    assert places["log lines"] > 100
    assert len(statuses) > 110


@pytest.mark.parametrize(
    ("login", "other"), [("anna.sokolova@example.org", "antonia@example.org"), ("89125550141", "89121112241")]
)
def test_a_search_reveals_no_more_of_a_masked_login_than_its_mask(
    service: Flask, browser: FlaskClient, rows: Rows, login: str, other: str
) -> None:
    useradd(service.test_client(), {"name": "Кто Фамильина", "username": login, "email": "who@example.org"})
    [attempt] = rows.query("select id from attempts where username = :login", login=login)

    def found(text: str) -> list[str]:
        shown = browser.get("/api/v1/attempts/", query_string={"q": text}).get_json()["attempts"]
        return [row["id"] for row in shown]

    assert found(login) == found(f"={login}") == found(other) == found(f"={other}") == [str(attempt["id"])]
    assert found(f"={login[1:]}") == []


@pytest.mark.parametrize(
    ("digits", "others"), [("5550141", "7778841"), ("912555", "912777"), ("+79125550141", "+79127778841")]
)
def test_a_search_for_digits_of_a_phone_number_reveals_no_more_than_its_mask(
    service: Flask, browser: FlaskClient, digits: str, others: str
) -> None:
    useradd(service.test_client(), {"name": "Кто", "username": "who", "phone": "+79125550141"})

    def found(text: str) -> list[str]:
        shown = browser.get("/api/v1/attempts/", query_string={"q": text}).get_json()["attempts"]
        return [row["id"] for row in shown]

    assert found(digits) == found(others)


def test_an_auditor_reads_and_finds_what_others_do_not(service: Flask, browser: FlaskClient, rows: Rows) -> None:
    Corpus().send(service.test_client())
    rows.query("update users set role = 'auditor' where username = 'petrov.ivan'")

    found = {
        part: browser.get("/api/v1/attempts/", query_string={"q": part}).get_json()["attempts"] for part in PARTS[:3]
    }
    (created,) = rows.query("select id from attempts where username = 'anna.sokolova@example.org' and status = 201")
    page = browser.get(f"/results/{created['id']}/").text
    file = body_of(browser, "/results/export.csv?period=all")

    assert all(found.values()), found
    for shown in ("anna.sokolova@example.org", "Кто Фамильина", "1977-07-17", "198.51.100.77", "SecretProgram"):
        assert shown in page
    assert "Кто Фамильина" in file
    assert "anna.sokolova@example.org" in file
