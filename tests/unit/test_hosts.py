"""Connecting: every failure is an outage, and name lookups are bounded."""

import socket
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import psycopg2
import pytest

from project.database import errors, hosts
from project.database.deadline import deadline, remaining_seconds
from project.database.hosts import ConnectError, _connect
from project.database.name_lookup import NameLookup

ADDRESS = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]


class Dns:
    """A DNS server that answers until it is stopped, and again after it is released."""

    def __init__(self) -> None:
        self.is_answering = True
        self.lookups = 0
        self._released = threading.Event()

    def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        self.lookups += 1
        if not self.is_answering:
            self._released.wait(10)
        return ADDRESS

    def release(self) -> None:
        """End the lookups that wait."""
        self._released.set()


@pytest.fixture(autouse=True)
def no_known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows the addresses that another one found."""
    monkeypatch.setattr(hosts, "_name_lookup", NameLookup())


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    """Replaces the resolver of this machine."""
    dns = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", dns.getaddrinfo)
    yield dns
    dns.release()


def test_a_name_is_resolved_to_its_addresses(dns: Dns) -> None:
    assert NameLookup().resolve("db.example.org", 1) == ["192.0.2.1"]


def test_a_lookup_without_an_answer_ends_at_its_bound(dns: Dns) -> None:
    dns.is_answering = False

    with pytest.raises(OSError, match=r'could not resolve host name "db\.example\.org": no answer from DNS'):
        NameLookup().resolve("db.example.org", 0.01)


def test_the_last_known_addresses_are_used_while_dns_does_not_answer(dns: Dns) -> None:
    names = NameLookup()
    names.resolve("db.example.org", 1)
    dns.is_answering = False

    assert names.resolve("db.example.org", 0.01) == ["192.0.2.1"]


def test_a_lookup_that_found_no_thread_does_not_prevent_the_next_one(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names = NameLookup()
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", fail)
        with pytest.raises(OSError, match="can't start new thread"):
            names.resolve("db.example.org", 1)

    assert names.resolve("db.example.org", 1) == ["192.0.2.1"]


@pytest.mark.parametrize("name", ["db..example.org", f"{'x' * 64}.example.org"])
def test_a_name_that_cannot_be_encoded_is_an_outage_that_names_it(name: str) -> None:
    with pytest.raises(ConnectError, match=f'could not resolve host name "{name}"'):
        _connect({"host": name, "port": "5432"})


def test_requests_that_wait_for_the_same_name_share_one_lookup(dns: Dns) -> None:
    names = NameLookup()
    dns.is_answering = False

    for _ in range(3):
        with pytest.raises(OSError, match="no answer from DNS"):
            names.resolve("db.example.org", 0.01)

    assert dns.lookups == 1


def test_an_unknown_name_is_an_outage_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    with pytest.raises(ConnectError, match=r'"db\.example\.org".*Name or service not known') as raised:
        _connect({"host": "db.example.org"})

    assert errors.is_outage(raised.value)


def test_a_name_that_dns_does_not_answer_costs_no_more_than_the_deadline(dns: Dns) -> None:
    dns.is_answering = False

    with deadline(0.01), pytest.raises(ConnectError, match="no answer from DNS"):
        _connect({"host": "db.example.org"})


def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(**options: str) -> NoReturn:
        tried.append((options["host"], options["hostaddr"]))
        raise psycopg2.OperationalError("connection refused")

    monkeypatch.setattr(hosts._name_lookup, "resolve", lambda *_: ["192.0.2.1", "2001:db8::1"])
    monkeypatch.setattr(psycopg2, "connect", refuse)

    with pytest.raises(ConnectError, match="connection refused"):
        _connect({"host": "db.example.org"})

    assert tried == [("db.example.org", "192.0.2.1"), ("db.example.org", "2001:db8::1")]


def test_an_address_that_does_not_answer_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def refuse(**_: str) -> NoReturn:
        limits.append(remaining_seconds() or 0)
        raise psycopg2.OperationalError("no answer")

    monkeypatch.setattr(hosts, "HOST_CONNECT_S", 60)
    monkeypatch.setattr(hosts._name_lookup, "resolve", lambda *_: ["2001:db8::1", "192.0.2.1"])
    monkeypatch.setattr(psycopg2, "connect", refuse)

    with deadline(60), pytest.raises(ConnectError):
        _connect({"host": "db.example.org"})

    assert limits[0] <= 30 < limits[1]


@pytest.mark.parametrize("host", ["", "127.0.0.1", "::1", "/var/run/postgresql", "@abstract"])
def test_addresses_and_sockets_need_no_lookup(host: str, dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg2, "connect", lambda **options: options)

    _connect({"host": host})

    assert dns.lookups == 0


def test_a_message_that_is_not_utf_8_is_an_outage_and_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> NoReturn:
        raise UnicodeDecodeError("utf-8", "ВАЖНО: база данных не существует".encode("cp1251"), 0, 1, "invalid")

    monkeypatch.setattr(psycopg2, "connect", refuse)

    with pytest.raises(ConnectError, match="база данных не существует") as raised:
        _connect({"host": "127.0.0.1"})

    assert errors.is_outage(raised.value)
    assert errors.is_misconfigured(raised.value)


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), MemoryError("x"), psycopg2.InterfaceError("x")])
def test_whatever_the_driver_raises_while_connecting_is_an_outage(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(psycopg2, "connect", fail)

    with pytest.raises(ConnectError) as raised:
        _connect({"host": "127.0.0.1"})

    assert errors.is_outage(raised.value)
    assert errors.is_unavailable(raised.value)


@pytest.mark.parametrize(
    "message",
    [
        'FATAL:  password authentication failed for user "useradd"',
        'FATAL:  role "useradd" is not permitted to log in',
        'ВАЖНО:  пользователь "useradd" не прошёл проверку подлинности (по паролю)',
        'ВАЖНО:  в pg_hba.conf нет записи для компьютера "192.0.2.1", пользователя "useradd", базы "useradd"',
        'ВАЖНО:  база данных "useradd" не существует',
        'ВАЖНО:  роль "useradd" не существует',
        'ВАЖНО:  для роли "useradd" вход запрещён',
    ],
)
def test_a_misconfiguration_is_recognised_in_english_and_russian(message: str) -> None:
    assert errors.is_misconfigured(ConnectError(message))


def test_an_unknown_sentence_is_an_outage_and_shown_as_it_is() -> None:
    error = ConnectError("FATAL:  quelque chose ne va pas")

    assert errors.is_outage(error)
    assert not errors.is_misconfigured(error)
    assert errors.describe(error) == "FATAL:  quelque chose ne va pas"
