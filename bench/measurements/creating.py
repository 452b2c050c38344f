"""Users created a second: the service, what it stands on, PostgreSQL alone, the usual ways; what statistics cost."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

from bench.load import useradd
from bench.references import postgres
from bench.references.postgres import connect
from bench.run import Run
from bench.targets import Quantity

LAYERS = {"server": Quantity.SERVER_ALONE, "flask": Quantity.FLASK_ALONE, "leanest": Quantity.LEANEST}


def measure(run: Run) -> None:
    """Note rates, and latencies of those that are compared."""
    ours, bare, flask_orm, fastapi = (run.databases.create(name) for name in ("ours", "bare", "flask_orm", "fastapi"))
    with closing(connect(bare)) as connection:
        function = postgres.useradd(connection)
        postgres.strip_statistics(connection)
    with ExitStack() as stack:
        layers = stack.enter_context(_layers(run, ours))
        plain = stack.enter_context(run.serve("bench.references.flask_orm", flask_orm))
        asynchronous = stack.enter_context(run.serve("bench.references.fastapi_asyncpg", fastapi))
        run.take_turns(
            "creating users",
            *layers,
            lambda: run.pgbench(Quantity.FUNCTION, ours, function),  # the service beside it counts attempts
            lambda: run.pgbench(Quantity.FUNCTION_BARE, bare, function),
            lambda: run.load(Quantity.FASTAPI, asynchronous, useradd()),
            lambda: run.load(Quantity.FLASK_ORM, plain, useradd()),
        )


def measure_layers(run: Run) -> None:
    """Note only what the service stands on, and the service."""
    with _layers(run, run.databases.create("ours")) as layers:
        run.take_turns("layers", *layers)


@contextmanager
def _layers(run: Run, ours: str) -> Iterator[list[Callable[[], object]]]:
    """Give what measures PostgreSQL alone, the service on the database `ours`, and what lies between them."""
    two_inserts, leanest = (run.databases.create(name) for name in ("two_inserts", "leanest"))
    with ExitStack() as stack:
        service = stack.enter_context(run.serve("wsgi", ours))

        def limit() -> None:
            found = run.pgbench(Quantity.TWO_INSERTS, two_inserts, postgres.two_inserts())
            run.note(Quantity.TWO_INSERTS_LATENCY, found.latency_ms)

        def created() -> None:
            found = run.load(Quantity.CREATED, service, useradd())
            run.note(Quantity.CREATED_P50, found.p50_ms)
            run.note(Quantity.CREATED_P99, found.p99_ms)
            run.note(Quantity.CREATED_OTHERS, found.others)

        between = []
        for layer, quantity in LAYERS.items():
            server = stack.enter_context(run.serve("bench.references.layers", leanest, LAYER=layer))
            between.append(partial(run.load, quantity, server, useradd()))
        yield [limit, created, *between]
