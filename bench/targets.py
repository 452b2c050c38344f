"""Measured quantities and the targets for them."""

from dataclasses import dataclass
from enum import StrEnum


class Quantity(StrEnum):
    """A measured quantity; the value of the enum is its name in the report."""

    CREATED = "created users, /s"
    CREATED_P50 = "/useradd, median response time, ms"
    CREATED_P99 = "/useradd, 99th percentile of the response time, ms"
    CREATED_OTHERS = "/useradd, answers other than 201"
    TWO_INSERTS = "pgbench: BEGIN, INSERT, INSERT, COMMIT, /s"
    TWO_INSERTS_LATENCY = "pgbench: BEGIN, INSERT, INSERT, COMMIT, mean latency, ms"
    TWO_INSERTS_BULK = "pgbench, in turns with bulk requests, /s"
    TWO_INSERTS_IMPORT = "pgbench, in turns with imports, /s"
    FUNCTION = "pgbench: the function useradd(), /s"
    FUNCTION_BARE = "pgbench: useradd() without aggregation and its indexes, /s"
    FLASK_ORM = "plain Flask + ORM + scrypt, /s"
    FASTAPI = "FastAPI + asyncpg without a hash, /s"
    FASTAPI_VALIDATING = "FastAPI + asyncpg without a hash, with the same validation, /s"
    SERVER_CPU = "service, CPU time for each created user, µs"
    FAR = "created users with 5 ms to PostgreSQL, /s"
    BULK = "bulk over HTTP, users/s"
    BESIDE_BULK = "created users beside a bulk request, /s"
    BESIDE_NO_BULK = "created users beside no bulk request, /s"
    IMPORT_CSV = "import of .csv, users/s"
    IMPORT_NDJSON = "import of .ndjson, users/s"
    IMPORT_XLSX = "import of .xlsx, users/s"
    IMPORT_CPU = "import, CPU time for each user, µs"
    IMPORT_MEMORY = "peak memory of an import, MB"
    BESIDE_IMPORT = "created users beside an import, /s"
    BESIDE_NO_IMPORT = "created users beside no import, /s"
    SERVER_ALONE = "the server alone, /s"
    FLASK_ALONE = "the server + Flask, /s"
    LEANEST = "the server + Flask + schema, password, statement, /s"
    PAGE_FEW = "results page, 10,000 attempts, ms"
    PAGE_MOST = "results page, most attempts, ms"
    COPY = "psql, COPY of the rows of an export, rows/s"
    TXT = ".txt over HTTP, rows/s"
    CSV = ".csv over HTTP, rows/s"
    XLSX = ".xlsx over HTTP, rows/s"
    XLSXWRITER = "XlsxWriter, constant_memory, rows/s"
    FIRST_BYTE = "first byte of the slowest export, ms"
    MEMORY_FEW = "peak memory of a worker, exports of 10,000 rows, MB"
    MEMORY_MOST = "peak memory of a worker, exports of most rows, MB"
    BESIDE_NO_EXPORT = "created users, no export running, /s"
    BESIDE_EXPORT = "created users while an .xlsx is exported, /s"
    LOGIN = "logins, /s"
    EMPTY_PAGE = "empty page with a session, /s"
    EMPTY_FORM = "form that only begins a session, /s"
    START = "warm ./run to the first answer, s"
    MEMORY_IDLE = "memory of an idle worker, MB"


@dataclass(frozen=True, slots=True)
class Target:
    """Required and desired value of a quantity, ratio or difference."""

    name: str
    quantity: Quantity
    compared_to: Quantity | None
    """Quantity that divides the first one, or is subtracted from it; None for a value without comparison."""
    required: float
    """Value from which the target counts as met."""
    desired: float
    """Desired value, which is better than the required one."""
    unit: str = ""
    is_limit: bool = False
    """Whether lower is better."""
    is_difference: bool = False
    """Whether the second quantity is subtracted instead of dividing the first one."""

    def value(self, measured: float, compared_to: float) -> float:
        """Compute the value of the target from a value of each quantity; NaN for a ratio to 0."""
        if self.compared_to is None:
            return measured
        if self.is_difference:
            return measured - compared_to
        return measured / compared_to if compared_to else float("nan")

    def is_satisfied(self, value: float, bound: float) -> bool:
        """Return whether a value satisfies a bound."""
        return value <= bound if self.is_limit else value >= bound


Q = Quantity
TARGETS = (
    Target("created users / pgbench BEGIN, INSERT, INSERT, COMMIT", Q.CREATED, Q.TWO_INSERTS, 0.30, 0.42),
    Target("created users / plain Flask + ORM + scrypt", Q.CREATED, Q.FLASK_ORM, 90, 130),
    Target("created users / FastAPI + asyncpg without a hash", Q.CREATED, Q.FASTAPI, 0.85, 1.2),
    Target("created users / the same with the same validation", Q.CREATED, Q.FASTAPI_VALIDATING, 1.0, 1.4),
    Target("p99 of /useradd / mean latency of pgbench", Q.CREATED_P99, Q.TWO_INSERTS_LATENCY, 8, 5, is_limit=True),
    Target("created users with 5 ms to PostgreSQL / without", Q.FAR, Q.CREATED, 0.6, 0.9),
    Target("service, CPU time for each created user", Q.SERVER_CPU, None, 650, 500, "µs", is_limit=True),
    Target("bulk over HTTP / pgbench's single transactions", Q.BULK, Q.TWO_INSERTS_BULK, 0.5, 0.8),
    Target("/useradd beside a bulk request / alone", Q.BESIDE_BULK, Q.BESIDE_NO_BULK, 0.5, 0.7),
    Target("import of .csv / pgbench's single transactions", Q.IMPORT_CSV, Q.TWO_INSERTS_IMPORT, 0.30, 0.5),
    Target("import of .ndjson / pgbench's single transactions", Q.IMPORT_NDJSON, Q.TWO_INSERTS_IMPORT, 0.30, 0.5),
    Target("import of .xlsx / pgbench's single transactions", Q.IMPORT_XLSX, Q.TWO_INSERTS_IMPORT, 0.25, 0.4),
    Target("/useradd beside an import / alone", Q.BESIDE_IMPORT, Q.BESIDE_NO_IMPORT, 0.5, 0.7),
    Target("results page, most attempts / 10,000", Q.PAGE_MOST, Q.PAGE_FEW, 2, 1.3, is_limit=True),
    Target("writes with aggregation and its indexes / without", Q.FUNCTION, Q.FUNCTION_BARE, 0.90, 0.97),
    Target(".txt / COPY of the same rows", Q.TXT, Q.COPY, 0.60, 0.85),
    Target(".csv / COPY of the same rows", Q.CSV, Q.COPY, 0.60, 0.85),
    Target(".xlsx / COPY of the same rows", Q.XLSX, Q.COPY, 0.22, 0.35),
    Target(".xlsx / XlsxWriter constant_memory", Q.XLSX, Q.XLSXWRITER, 8, 15),
    Target("first byte of any export", Q.FIRST_BYTE, None, 50, 20, "ms", is_limit=True),
    Target(
        "peak memory of a worker, most rows - 10,000",
        Q.MEMORY_MOST,
        Q.MEMORY_FEW,
        32,
        10,
        "MB",
        is_limit=True,
        is_difference=True,
    ),
    Target("/useradd while an export runs / without", Q.BESIDE_EXPORT, Q.BESIDE_NO_EXPORT, 0.65, 0.80),
    Target("warm start of ./run to the first answer", Q.START, None, 3, 1.5, "s", is_limit=True),
    Target("memory of one idle worker", Q.MEMORY_IDLE, None, 90, 70, "MB", is_limit=True),
)
