"""Rate of created users: the service, its layers, PostgreSQL and alternatives.

It also measures the cost of statistics.
"""

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
    """Record rates and the latencies that are compared."""
    service, bare, flask_orm, fastapi = (
        run.databases.create(name) for name in ("service", "bare", "flask_orm", "fastapi")
    )
    with closing(connect(bare)) as connection:
        function = postgres.useradd(connection)
        postgres.strip_statistics(connection)
    with ExitStack() as stack:
        layers = stack.enter_context(_layers(run, service))
        plain = stack.enter_context(run.serve("bench.references.flask_orm", flask_orm))
        asynchronous = stack.enter_context(run.serve("bench.references.fastapi_asyncpg", fastapi))
        run.take_turns(
            "creating users",
            *layers,
            lambda: run.pgbench(Quantity.FUNCTION, service, function),  # the running service aggregates the attempts
            lambda: run.pgbench(Quantity.FUNCTION_BARE, bare, function),
            lambda: run.load(Quantity.FASTAPI, asynchronous, useradd()),
            lambda: run.load(Quantity.FLASK_ORM, plain, useradd()),
        )


def measure_layers(run: Run) -> None:
    """Record only the service and its layers."""
    with _layers(run, run.databases.create("service")) as layers:
        run.take_turns("layers", *layers)


@contextmanager
def _layers(run: Run, url: str) -> Iterator[list[Callable[[], object]]]:
    """Yield functions that measure the service, PostgreSQL and the layers between.

    `url` is the database of the service.
    """
    two_inserts, leanest = (run.databases.create(name) for name in ("two_inserts", "leanest"))
    with ExitStack() as stack:
        service = stack.enter_context(run.serve("wsgi", url))

        def measure_postgres() -> None:
            found = run.pgbench(Quantity.TWO_INSERTS, two_inserts, postgres.two_inserts())
            run.record(Quantity.TWO_INSERTS_LATENCY, found.latency_ms)

        def measure_service() -> None:
            found = run.load(Quantity.CREATED, service, useradd())
            run.record(Quantity.CREATED_P50, found.p50_ms)
            run.record(Quantity.CREATED_P99, found.p99_ms)
            run.record(Quantity.CREATED_OTHERS, found.others)

        measure_layers = []
        for layer, quantity in LAYERS.items():
            server = stack.enter_context(run.serve("bench.references.layers", leanest, LAYER=layer))
            measure_layers.append(partial(run.load, quantity, server, useradd()))
        yield [measure_postgres, measure_service, *measure_layers]
