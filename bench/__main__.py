"""Measures, interleaved, and prints a table of ratios with medians and spread."""

import argparse
import io
import statistics
import sys
import time
import urllib.request
from collections import defaultdict
from contextlib import ExitStack
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import psycopg2

from bench.load import measure
from bench.servers import HOST, Databases, served
from tests.builders import csrf_token

CLIENTS = 16
TWO_INSERTS = """
\\set n random(1, 999999999999)
begin;
insert into attempts (id, received_at, status, answered, code, method, duration_ms, username, language,
                      client_address, user_agent)
values (('00000000-0000-7000-8000-' || lpad((:n)::text, 12, '0'))::uuid, now(), 201, 201, 'created', 'POST', 1,
        'u' || :n, 'en', '', 'pgbench');
insert into users (id, name, username, email, password_hash, created_at)
values (('00000000-0000-7000-8000-' || lpad((:n)::text, 12, '0'))::uuid, 'N', 'u' || :n,
        'u' || :n || '@example.org', 'x', now());
commit;
"""
FILL = """
insert into attempts (id, received_at, status, answered, code, method, duration_ms, username, phone_masked,
                      email_masked, sent, language, client_address, user_agent)
select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7'
        || lpad(to_hex((random() * 4095)::int), 3, '0') || '8' || substr(md5(g::text), 1, 15))::uuid, at,
       case when r < .92 then 201 when r < .97 then 422 when r < .999 then 409 else 503 end, 201,
       case when r < .92 then 'created'
            when r < .97 then (array['invalid_phone', 'invalid_email', 'required'])[1 + g %% 3]
            when r < .999 then 'username_taken' else 'database_unavailable' end,
       'POST', (random() * 20)::int, 'user' || g, '+7 912 •••-••-41', 'u•••@example.org',
       '{"name": "Анна Соколова"}', 'ru', '10.0.0.1', 'curl'
from (select g, random() r, now() - interval '365 days' * (1 - g::float / %(rows)s) as at
        from generate_series(1, %(rows)s) g) s
"""


class Bench:
    """What is measured in one run."""

    def __init__(self, rounds: int, seconds: float, rows: int) -> None:
        self._rounds, self._seconds, self._rows = rounds, seconds, rows
        self._databases = Databases()
        self.figures: dict[str, list[float]] = defaultdict(list)

    def run(self) -> None:
        """Measure everything, and close what was opened."""
        try:
            self.creating()
            self.reading()
        finally:
            self._databases.close()

    def creating(self) -> None:
        """Users created a second: the service, PostgreSQL itself, the plain way."""
        ours, limit, plain = (self._databases.create(name) for name in ("ours", "two_inserts", "plain"))
        with ExitStack() as stack:
            service = stack.enter_context(served([sys.executable, "wsgi.py"], self._databases.environment(ours)))
            other = stack.enter_context(
                served([sys.executable, "-m", "bench.plain"], self._databases.environment(plain))
            )
            self.note("start to the first answer, s", service[2])
            self.note("memory of a worker, MB", _memory_mb(service[1].pid))
            for _ in range(self._rounds):
                tps, latency = self._databases.pgbench(limit, TWO_INSERTS, CLIENTS, self._seconds)
                load = measure(service[0], "/useradd", CLIENTS, self._seconds)
                slow = measure(other[0], "/useradd", CLIENTS, self._seconds)
                self.note("pgbench, two inserts, /s", tps)
                self.note("created users, /s", load.rate)
                self.note("plain Flask + ORM + scrypt, /s", slow.rate)
                self.note("created users / pgbench", load.rate / tps)
                self.note("created users / plain way", load.rate / slow.rate)
                self.note("p99 of /useradd / mean of pgbench", load.p99_ms / latency)
                self.note("answers other than 201", load.others)

    def reading(self) -> None:
        """The results page and the downloads, with few and with many attempts."""
        for rows in (10_000, self._rows):
            url = self._databases.create(f"reading_{rows}")
            connection = psycopg2.connect(url)
            connection.autocommit = True
            connection.cursor().execute(FILL, {"rows": rows})
            connection.cursor().execute("vacuum analyze attempts")
            alone = self._databases.environment(url, WORKERS="1")
            with served([sys.executable, "wsgi.py"], alone) as (port, process, _):
                reader = _Reader(port)
                reader.await_counts(connection)
                for _ in range(self._rounds):
                    self.note(f"results page, {rows:,} attempts, ms", 1000 * reader.seconds("/results/?period=all")[0])
                for ending in ("txt", "csv", "xlsx"):
                    copied = _copy_rate(connection, rows)
                    seconds, first = reader.seconds(f"/results/export.{ending}?period=all")
                    self.note(f".{ending} / COPY, {rows:,} rows", rows / seconds / copied)
                    self.note(f".{ending}, first byte, {rows:,} rows, ms", 1000 * first)
                self.note(f"memory after the downloads, {rows:,} rows, MB", _memory_mb(process.pid))
            connection.close()

    def note(self, name: str, value: float) -> None:
        """Keep one value of a figure."""
        self.figures[name].append(value)

    def table(self) -> str:
        """Return all figures: median, least and most."""
        lines = [f"| {'figure':<46} | {'median':>10} | {'spread':>19} |", f"| {'-' * 46} | {'-' * 10} | {'-' * 19} |"]
        for name, values in self.figures.items():
            median, spread = statistics.median(values), f"{min(values):.3g} to {max(values):.3g}"
            lines.append(f"| {name:<46} | {median:>10.3g} | {spread if len(values) > 1 else '':>19} |")
        return "\n".join(lines)


class _Reader:
    """A user who has logged in."""

    def __init__(self, port: int) -> None:
        self._address = f"http://{HOST}:{port}"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        body = b'{"name": "Reader", "username": "reader", "email": "reader@example.org"}'
        created = urllib.request.Request(f"{self._address}/useradd", body, {"Content-Type": "application/json"})
        answer = self._opener.open(created).read().decode()
        password = answer.partition('"password": "')[2].partition('"')[0]
        token = csrf_token(self._opener.open(f"{self._address}/login/").read().decode())
        form = urlencode({"login": "reader", "password": password, "csrf_token": token}).encode()
        self._opener.open(f"{self._address}/login/", form).read()

    def seconds(self, path: str) -> tuple[float, float]:
        """Return the seconds until the whole answer, and until its first byte."""
        started = time.perf_counter()
        answer = self._opener.open(self._address + path)
        answer.read(1)
        first = time.perf_counter() - started
        while answer.read(1024 * 1024):
            pass
        return time.perf_counter() - started, first

    @staticmethod
    def await_counts(connection: "psycopg2.extensions.connection") -> None:
        """Wait until the attempts are counted beforehand, as they are on a service that runs."""
        cursor = connection.cursor()
        while True:
            cursor.execute("select max(a.seq) - max(w.seq) from (select max(seq) seq from attempts) a, watermarks w")
            if cursor.fetchone()[0] < 2_000:  # type: ignore[index]
                return
            time.sleep(0.1)


def _copy_rate(connection: "psycopg2.extensions.connection", rows: int) -> float:
    started = time.perf_counter()
    columns = "id, received_at, status, code, username, phone_masked, email_masked, duration_ms"
    connection.cursor().copy_expert(f"copy (select {columns} from attempts order by id) to stdout", io.BytesIO())
    return rows / (time.perf_counter() - started)


def _memory_mb(pid: int) -> float:
    """Return the resident memory of the largest child."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children or [pid]]
    return max(pages) * 4096 / 1e6


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each load")
    parser.add_argument("--rows", type=int, default=1_000_000, help="attempts of the large table")
    options = parser.parse_args()
    bench = Bench(options.rounds, options.seconds, options.rows)
    bench.run()
    print(bench.table())


if __name__ == "__main__":
    main()
