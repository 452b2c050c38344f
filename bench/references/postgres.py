"""PostgreSQL alone: statements for pgbench, millions of attempts, and COPY of them."""

import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class with a lower-case name

from project.embedded.data_directory import wheel_programs
from project.queries.masks import FINISHED

COLUMNS = (
    "id, received_at, status, answered, code, username, sent ->> 'name', phone_masked, email_masked, duration_ms, via,"
    " errors::text"
)
"""Columns of the attempts that a download contains."""
BATCH = 500_000

_BEGIN = """
\\set k :k + 1
\\set id :k * 64 + :client_id
\\set n random(1, 999999999)
"""
"""`id` increases with time like the IDs of the service; user data is random."""

_VALUES = {
    "id": "('01990000-0000-7000-8000-' || lpad(to_hex((:id)::bigint), 12, '0'))::uuid",
    "received_at": "now()",
    "created_at": "now()",
    "duration_ms": "1",
    "method": "'POST'",
    "phone_masked": "'+7 912 •••-••-41'",
    "email_masked": "'a•••@example.org'",
    "sent": """'{"name": "Анна Соколова", "username": "anna.1234567", "phone": "+7 912 •••-••-41", """
    """"email": "a•••@example.org", "birth_date": "1990-12-31"}'""",
    "name_shown": "'Анна С.'",
    "username_shown": "'anna.' || :id || '.' || :n",
    "language": "'ru'",
    "client_address": "'127.0.0.1'",
    "user_agent": "'bench'",
    "client_request_id": "null",
    "key_hash": "sha256(('key' || :id)::bytea)",
    "fingerprint": "sha256(('body' || :id)::bytea)",
    "kid": "'0123456789abcdef'",
    "name": "'Анна Соколова'",
    "username": "'anna.' || :id || '.' || :n",
    "username_folded": "'anna.' || :id || '.' || :n",
    "phone": "'+7' || :id || :n",
    "email": "'anna.' || :id || '.' || :n || '@example.org'",
    "email_folded": "'anna.' || :id || '.' || :n || '@example.org'",
    "birth_date": "'1990-12-31'",
    "password_hash": "'hmac-sha256$0123456789abcdef$' || repeat('x', 66)",
    "is_admin": "false",
    "status": "201",
    "answered": "201",
    "code": "'created'",
}
"""SQL values as long as those of the service, by column or parameter."""

_ATTEMPT = """
    id received_at status answered code method duration_ms username phone_masked email_masked sent language
    client_address user_agent key_hash username_shown name_shown
"""
_USER = "id name username phone email birth_date password_hash created_at"

_FILL = """
insert into attempts (id, received_at, status, answered, code, method, duration_ms, username, phone_masked,
                      email_masked, errors, sent, language, client_address, user_agent, key_hash, username_shown,
                      name_shown)
select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7'
        || lpad(to_hex((random() * 4095)::int), 3, '0') || '8' || substr(md5(g::text), 1, 15))::uuid, at,
       case when r < .92 then 201 when r < .97 then 422 when r < .999 then 409 else 503 end,
       case when r < .92 then 201 when r < .97 then 422 when r < .999 then 409 else 503 end,
       case when r < .92 then 'created'
            when r < .97 then (array['invalid_phone', 'invalid_email', 'required'])[1 + g %% 3]
            when r < .999 then 'username_taken' else 'database_unavailable' end,
       'POST', (random() * 20)::int, 'user' || g, '+7 912 •••-••-41', 'u•••@example.org',
       case when r between .92 and .97 then '[{"field": "phone", "code": "invalid_phone"}]'::jsonb else '[]' end,
       '{"name": "Анна Соколова"}', 'ru', '10.0.0.1', 'curl', decode(md5(g::text), 'hex'),
       shown_login('user' || g), 'Анна С.'
from (select g, random() r, now() - interval '364 days' * (1 - g::float / %(rows)s) as at
        from generate_series(%(first)s, %(last)s) g) s
"""


_OUTPUT_LINE = re.compile(r"^([\w ]+?)(?: =|:) ([\d.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pgbench:
    """Result of a pgbench run: `rate` in transactions per second, mean `latency_ms`."""

    rate: float
    latency_ms: float
    transactions: int


def two_inserts_script() -> str:
    """Return a minimal script that inserts a user and an attempt.

    The tables are those of the service. Unlike the service, the script writes neither `identifiers` nor
    `idempotency_keys`.
    """
    return f"{_BEGIN}begin;\n{_insert('attempts', _ATTEMPT)}{_insert('users', _USER)}commit;\n"


def useradd_script(connection: Connection) -> str:
    """Return a script that calls useradd(), the database function that creates a user."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select proargnames[:pronargs - pronargdefaults] from pg_proc where proname = 'useradd'"
            " order by pronargs desc"
        )
        parameters: list[str] = cursor.fetchall()[0][0]
    given = ", ".join(f"{name} => {_VALUES[name.removeprefix('p_')]}" for name in parameters)
    return f"{_BEGIN}select * from useradd({given});\n"


def pgbench(url: str, script: Path, *, clients: int, seconds: float, first: int) -> Pgbench:
    """Run a script over TCP with prepared statements; each run needs another `first`.

    The IDs of its users begin with `first` times 64 million. Raises RuntimeError if no transaction succeeds.
    """
    program = wheel_programs() / "pgbench"
    options = ["-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds)))]
    command: list[str | Path] = [program, *options, "-D", f"k={first}000000", "-f", script, url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = dict(_OUTPUT_LINE.findall(done.stdout))
    if "tps" not in found:
        raise RuntimeError(f"pgbench got nothing done: {done.stderr[-300:]}")
    return Pgbench(
        rate=float(found["tps"]),
        latency_ms=float(found["latency average"]),
        transactions=int(found["number of transactions actually processed"]),
    )


def insert_attempts(connection: Connection, rows: int) -> None:
    """Insert attempts spread evenly over almost a year, all younger than ATTEMPTS_KEEP_DAYS.

    About 8 % of the attempts are refused or failed. Also marks all attempts as masked and runs VACUUM, so the
    connection must be in autocommit mode.
    """
    with connection.cursor() as cursor:
        for first in range(1, rows + 1, BATCH):
            cursor.execute(_FILL, {"rows": rows, "first": first, "last": min(rows, first + BATCH - 1)})
        cursor.execute("update watermarks set seq = %s where name = 'masks'", (FINISHED,))  # masks need no renewal
        cursor.execute("vacuum analyze attempts")


def find_middle_id(connection: Connection, rows: int) -> str:
    """Return the ID of the middle attempt."""
    with connection.cursor() as cursor:
        cursor.execute("select id::text from attempts where seq = %s", (rows // 2,))
        return str(cursor.fetchall()[0][0])


def drop_statistics_indexes(connection: Connection) -> None:
    """Drop the indexes of the table `attempts` that only reads use.

    The primary key, and the index that a foreign key needs, remain.
    """
    with connection.cursor() as cursor:
        cursor.execute("""
            select i.indexrelid::regclass::text, c.conname from pg_index i
              left join pg_constraint c on c.conindid = i.indexrelid and c.contype = 'u'
             where i.indrelid = 'attempts'::regclass and not i.indisprimary
               and not exists (select from pg_constraint f where f.conindid = i.indexrelid and f.contype = 'f')
        """)
        for index, constraint in cursor.fetchall():
            cursor.execute(
                f"alter table attempts drop constraint {constraint}" if constraint else f"drop index {index}"
            )


def copy_s(url: str) -> float:
    """Return the seconds that psql takes to receive the rows of an export, in the same order."""
    statement = f"copy (select {COLUMNS} from attempts order by id) to stdout"
    command: list[str | Path] = [wheel_programs() / "psql", "-q", "-c", statement, url]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def connect(url: str) -> Connection:
    """Return a connection in autocommit mode."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection


def _insert(table: str, named: str) -> str:
    columns = named.split()
    return f"insert into {table} ({', '.join(columns)}) values ({', '.join(_VALUES[name] for name in columns)});\n"
