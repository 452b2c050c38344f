"""Users created a second: the service, PostgreSQL alone, the usual ways; what statistics cost the writer."""

from contextlib import ExitStack, closing

from bench.load import useradd
from bench.references import postgres
from bench.references.postgres import connect
from bench.run import Run
from bench.targets import Quantity


def measure(run: Run) -> None:
    """Note rates, and latencies of those that are compared."""
    two_inserts, ours, bare, flask_orm, fastapi = (
        run.databases.create(name) for name in ("two_inserts", "ours", "bare", "flask_orm", "fastapi")
    )
    with closing(connect(bare)) as connection:
        function = postgres.useradd(connection)
        postgres.strip_statistics(connection)
    with ExitStack() as stack:
        service = stack.enter_context(run.serve("wsgi", ours))
        plain = stack.enter_context(run.serve("bench.references.flask_orm", flask_orm))
        asynchronous = stack.enter_context(run.serve("bench.references.fastapi_asyncpg", fastapi))

        def limit() -> None:
            found = run.pgbench(Quantity.TWO_INSERTS, two_inserts, postgres.two_inserts())
            run.note(Quantity.TWO_INSERTS_LATENCY, found.latency_ms)

        def created() -> None:
            found = run.load(Quantity.CREATED, service, useradd())
            run.note(Quantity.CREATED_P50, found.p50_ms)
            run.note(Quantity.CREATED_P99, found.p99_ms)
            run.note(Quantity.CREATED_OTHERS, found.others)

        run.take_turns(
            "creating users",
            limit,
            created,
            lambda: run.pgbench(Quantity.FUNCTION, ours, function),  # the service beside it counts attempts
            lambda: run.pgbench(Quantity.FUNCTION_BARE, bare, function),
            lambda: run.load(Quantity.FASTAPI, asynchronous, useradd()),
            lambda: run.load(Quantity.FLASK_ORM, plain, useradd()),
        )
