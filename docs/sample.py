"""Sample data for screenshots and ./run demo: sixteen days of attempts, the same at each run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from flask import Flask

from project.contract.error_codes import PROBLEMS
from project.contract.schemas import user_add_schema
from project.domain.attempts import NewAttempt, new_id
from project.domain.errors import FieldError, ValidationFailedError
from project.domain.passwords import hash_idempotency_key
from project.domain.records import DIRECT, RECOVERED, SPOOL, AttemptRecord
from project.queries.registration import insert_attempts
from project.runtime import get_runtime

NOW = datetime(2026, 11, 23, 16, 51, 10, tzinfo=ZoneInfo("Europe/Moscow"))
"""The current time in the sample data and on screenshots."""
DAYS = 16
BATCH = 200
WEEKDAYS = (1.0, 1.05, 1.0, 1.1, 0.95, 0.4, 0.35)
"""Factors of HOURS for the days from Monday to Sunday."""
HOURS = (6, 4, 2, 2, 3, 6, 16, 36, 72, 100, 112, 116, 112, 120, 124, 120, 108, 88, 60, 40, 30, 24, 16, 10)
"""Attempts per hour of a Monday."""
SPIKE = timedelta(days=-4, hours=12, minutes=5)
"""Time of an import that runs a second time: all of its logins are taken. Relative to the last midnight."""
OUTAGE = timedelta(days=-2, hours=13, minutes=17)
"""Start of a minute in which PostgreSQL is unavailable: attempts are spooled. Relative to the last midnight."""

MEN = (
    *("Иван", "Дмитрий", "Артём", "Егор", "Пётр", "Сергей", "Максим", "Олег", "Никита", "Тимур", "Андрей"),
    *("Роман", "Павел", "Илья", "Кирилл", "Глеб"),
)
WOMEN = (
    *("Светлана", "Ольга", "Анна", "Татьяна", "Мария", "Наталья", "Алина", "Юлия", "Вера", "Ксения", "Полина"),
    *("Айгуль", "Елена", "Дарья", "Софья", "Нина"),
)
FAMILIES = (
    *("Петров", "Белов", "Иванов", "Козлов", "Соколов", "Морозов", "Лебедев", "Орлов", "Новиков", "Зайцев"),
    *("Волков", "Фёдоров", "Павлов", "Семёнов", "Голубев", "Виноградов", "Богданов", "Воробьёв", "Ершов"),
    *("Тарасов", "Сафин", "Ахметов", "Кузнецов", "Попов", "Васильев", "Соловьёв", "Титов", "Макаров"),
)
LATIN = {
    **dict(zip("абвгдеёзийклмнопрстуфхыэ", "abvgdeeziyklmnoprstufhye", strict=True)),
    **{"ж": "zh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "sch", "ю": "yu", "я": "ya", "ь": "", "ъ": "", " ": "."},
}
CLIENTS = (
    "python-requests/2.34.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox/145.0",
    "curl/8.17.0",
    "okhttp/5.3.0",
)
DOMAINS = ("example.org", "example.com", "example.net")

CORRECTED = {"invalid_phone", "invalid_email", "contact_required", "invalid_date"}
"""Codes of errors that clients often correct and retry with the same login."""

Body = dict[str, Any]


def records(now: datetime = NOW) -> Iterator[AttemptRecord]:
    """Yield the attempts until `now`, oldest first."""
    yield from sorted(_Sample().until(now), key=lambda record: record.attempt.id)


def latest(count: int) -> list[AttemptRecord]:
    """Return `count` attempts that arrive after NOW, while a page is open."""
    sample = _Sample()
    return [sample.created(NOW + timedelta(seconds=4 * index + 1)) for index in range(count)]


def reader_attempt(moment: datetime) -> NewAttempt:
    """Return the attempt that creates the user who reads the pages."""
    return _Sample().attempt(moment, {"name": "Иван Петров", "username": "petrov.ivan", "phone": "+7 999 123-45-67"})


def users(count: int, now: datetime = NOW) -> Iterator[tuple[NewAttempt, Body]]:
    """Yield attempts that create users, oldest first, with their request bodies."""
    sample = _Sample()
    for index in reversed(range(count)):
        body = sample._body()
        yield sample.attempt(now - timedelta(hours=7 * index + 1), body), body


def insert(app: Flask, records: Sequence[AttemptRecord]) -> None:
    """Insert attempts into the database of an application."""
    with app.app_context():
        for start in range(0, len(records), BATCH):
            get_runtime().database.write_transaction(insert_attempts, records[start : start + BATCH])


class _Sample:
    """A source of random attempts, the same in every run."""

    def __init__(self) -> None:
        self._random = random.Random(2026)  # noqa: S311 - must be reproducible
        self._logins = {"petrov.ivan": True}

    def until(self, now: datetime) -> Iterator[AttemptRecord]:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        for day in (midnight - timedelta(days=age) for age in reversed(range(DAYS))):
            for hour, usual in enumerate(HOURS):
                count = (
                    usual
                    * WEEKDAYS[day.weekday()]
                    * self._random.uniform(0.85, 1.15)
                    * (1 - 0.006 * (midnight - day).days)
                )
                for _ in range(round(count)):
                    moment = day + timedelta(hours=hour, seconds=self._random.uniform(0, 3600))
                    if moment <= now - timedelta(minutes=10):
                        yield from self._random_attempt(moment)
        for index in range(165):
            yield self._taken(
                midnight + SPIKE + timedelta(seconds=55 * index + self._random.uniform(0, 20)),
                "username",
                "1C+Enterprise/8.3",
            )
        for index in range(9):
            yield self._unavailable(midnight + OUTAGE + timedelta(seconds=6 * index + self._random.uniform(0, 5)))
        for age, make in enumerate(LAST):
            yield make(self, now - timedelta(seconds=31 + 23 * age + self._random.uniform(0, 15)))

    def _random_attempt(self, moment: datetime) -> Iterator[AttemptRecord]:
        """Yield an attempt of a random kind; one with invalid data is often followed by a corrected one."""
        make = self._random.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        record = make(self, moment)
        yield record
        if record.code in CORRECTED and self._random.random() < 0.5:
            body = self._body() | {
                "name": record.attempt.sent["name"],
                "username": record.attempt.sent["username"],
            }
            yield self.created(moment + timedelta(seconds=self._random.uniform(15, 400)), body)

    def attempt(self, moment: datetime, body: Body | None, method: str = "POST") -> NewAttempt:
        """Return an attempt that is received at `moment`, with a reproducible ID."""
        number = new_id(moment).int >> 62 << 62 | self._random.getrandbits(62)
        attempt = NewAttempt(
            id=UUID(int=number),
            received_at=moment,
            started=0,
            method=method,
            language=self._random.choice(("ru", "ru", "ru", "en")),
            client_address=f"10.20.{self._random.randrange(1, 5)}.{self._random.randrange(2, 250)}",
            user_agent=self._random.choice(CLIENTS),
            client_request_id=self._random.choice(
                (None, None, None, f"order-{self._random.randrange(10_000, 99_999)}")
            ),
            key_hash=hash_idempotency_key(str(number)) if body is not None else None,
        )
        attempt.store_body(body or {}, "RU")
        return attempt

    def created(self, moment: datetime, body: Body | None = None) -> AttemptRecord:
        """Return an attempt that created a user."""
        return self._end(self.attempt(moment, body or self._body()), 201, "created", log_ms=3.2)

    def _invalid(self, moment: datetime, **changes: object) -> AttemptRecord:
        """Return an attempt with invalid data. The errors are those of the real schema."""
        body = {name: value for name, value in (self._body() | changes).items() if value is not ...}
        try:
            user_add_schema("RU").load(body)
        except ValidationFailedError as refusal:
            return self._end(self.attempt(moment, body), 422, refusal.reason, refusal.errors)
        raise AssertionError(f"{body} is valid")

    def _invalid_phone(self, moment: datetime) -> AttemptRecord:
        number = self._random.choice(("+7 999 123-4", "8 912 55", "123", "+7 900 000-00-000", "нет", "+999 1234567"))
        date = {"birth_date": "31/12/1990"} if self._random.random() < 0.15 else {}
        return self._invalid(moment, phone=number, **date)

    def _taken(self, moment: datetime, kind: str, client: str = "") -> AttemptRecord:
        body = self._body() | {"email": self._email("ivan"), "phone": self._phone_number()}
        if kind == "username":
            body["username"] = self._random.choice(list(self._logins))
        attempt = self.attempt(moment, body)
        attempt.user_agent = client or attempt.user_agent
        return self._end(attempt, 409, f"{kind}_taken", (FieldError(kind, f"{kind}_taken"),), log_ms=3)

    def _refused(self, moment: datetime, code: str) -> AttemptRecord:
        """Return an attempt that was refused before its body was parsed."""
        method = "GET" if code == "method_not_allowed" else "POST"
        return self._end(self.attempt(moment, None, method), PROBLEMS[code].status, code, log_ms=0.6)

    def _unavailable(self, moment: datetime) -> AttemptRecord:
        attempt = self.attempt(moment, self._body())
        return self._end(attempt, 503, "database_unavailable", log_ms=8, via=SPOOL)

    def _other(self, moment: datetime, status: int, code: str, answered: int | None) -> AttemptRecord:
        attempt = self.attempt(moment, self._body())
        via = RECOVERED if answered is None else DIRECT
        return AttemptRecord(
            attempt=attempt, status=status, answered=answered, code=code, duration_ms=self._milliseconds(1.5), via=via
        )

    def _end(
        self,
        attempt: NewAttempt,
        status: int,
        code: str,
        errors: tuple[FieldError, ...] = (),
        *,
        log_ms: float = 1,
        via: str = DIRECT,
    ) -> AttemptRecord:
        return AttemptRecord(
            attempt=attempt,
            status=status,
            answered=status,
            code=code,
            errors=errors,
            duration_ms=self._milliseconds(log_ms),
            via=via,
        )

    def _milliseconds(self, log_ms: float) -> int:
        """Return a random duration with the median e ** `log_ms`; from 8 on, one of 3.5 s."""
        return max(
            1,
            round(self._random.lognormvariate(log_ms, 0.45) if log_ms < 8 else 3500 + self._random.uniform(0, 60)),
        )

    def _body(self) -> Body:
        is_man = self._random.random() < 0.5
        first, family = self._random.choice(MEN if is_man else WOMEN), self._random.choice(FAMILIES)
        name = f"{first} {family}{'' if is_man else 'а'}"
        login = self._login(*name.lower().split())
        body: Body = {"name": name, "username": login}
        contacts = self._random.choice(("phone", "phone", "email", "both"))
        if contacts in {"phone", "both"}:
            body["phone"] = self._phone_number()
        if contacts in {"email", "both"}:
            body["email"] = self._email(login)
        if self._random.random() < 0.3:
            year, month, day = (self._random.randrange(*bounds) for bounds in ((1960, 2008), (1, 13), (1, 29)))
            body["birth_date"] = f"{year}-{month:02}-{day:02}"
        return body

    def _login(self, first: str, family: str) -> str:
        name = self._random.choice((f"{family} {first}", f"{first[0]} {family}"))
        login = base = "".join(LATIN.get(letter, letter) for letter in name)
        while login in self._logins:
            login = f"{base}{self._random.randrange(1, 100)}"
        self._logins[login] = True
        return login

    def _phone_number(self) -> str:
        a, b, c, d = (self._random.randrange(*bounds) for bounds in ((903, 930), (100, 999), (10, 99), (10, 99)))
        return f"+7 {a} {b}-{c}-{d}"

    def _email(self, login: str) -> str:
        return f"{login}@{self._random.choice(DOMAINS)}"


Make = Callable[[_Sample, datetime], AttemptRecord]
"""A function that returns an attempt of its kind at a time."""


def _invalid(**changes: object) -> Make:
    return lambda sample, moment: sample._invalid(moment, **changes)


def _taken(kind: str) -> Make:
    return lambda sample, moment: sample._taken(moment, kind)


def _refused(code: str) -> Make:
    return lambda sample, moment: sample._refused(moment, code)


def _other(status: int, code: str, answered: int | None) -> Make:
    return lambda sample, moment: sample._other(moment, status, code, answered)


_NO_CONTACT, _INVALID_EMAIL = _invalid(phone=..., email=...), _invalid(email="ivan.example.org")
KINDS: dict[Make, float] = {
    _Sample.created: 9000,
    _Sample._invalid_phone: 250,
    _NO_CONTACT: 118,
    _taken("username"): 110,
    _INVALID_EMAIL: 84,
    _invalid(name=...): 52,
    _invalid(birth_date="31 декабря"): 31,
    _taken("phone"): 28,
    _refused("malformed_json"): 24,
    _taken("email"): 19,
    _invalid(username="иванov"): 14,
    _invalid(surname="Петров"): 9,
    _invalid(birth_date="2031-01-01"): 6,
    _invalid(name="Ъ" * 301): 4,
    _invalid(phone=79991234567): 8,
    _invalid(name=" "): 5,
    _invalid(name="Иван\u0000"): 2,
    _refused("unsupported_media_type"): 9,
    _refused("body_not_object"): 7,
    _refused("body_too_large"): 3,
    _refused("method_not_allowed"): 8,
    _refused("bad_idempotency_key"): 3,
    _refused("idempotency_key_reused"): 3,
    _refused("internal_error"): 0.7,
    _other(200, "replayed", 201): 40,
    _other(200, "dry_run", 200): 22,
    _other(0, "interrupted", None): 1,
}
"""Kinds of attempts and their relative frequencies."""
LAST: tuple[Make, ...] = (
    *(_Sample.created, _Sample.created, _Sample._invalid_phone, _Sample.created, _Sample.created, _taken("username")),
    *(_Sample.created, _Sample.created, _Sample.created, _NO_CONTACT, _Sample.created, _Sample.created, _INVALID_EMAIL),
    *(_Sample.created, _other(200, "replayed", 201), _Sample.created, _refused("malformed_json"), _Sample.created),
    *(_Sample.created, _invalid(name=...), _Sample.created, _Sample.created, _taken("phone"), _Sample.created),
)
"""Kinds of the newest attempts, newest first, so that the first page of the results shows a mixture."""
