"""Rate of created users: the service, its layers, PostgreSQL and alternatives.

Also the cost of the statistics for writes.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http.client import HTTPConnection

from bench.distance import delaying_proxy
from bench.load import HOST, useradd_request
from bench.references import postgres
from bench.references.postgres import Pgbench, connect
from bench.run import Run
from bench.servers import Server
from bench.targets import Quantity

DELAY_S = 0.0025
"""Seconds by which data is delayed in each direction."""
BULK_USERS, BULK_CLIENTS = 2_000, 2
"""Number of users in a bulk request, and of concurrent bulk requests: one worker process serves two."""
LAYERS = {"server": Quantity.SERVER_ALONE, "flask": Quantity.FLASK_ALONE, "leanest": Quantity.LEANEST}


def measure(run: Run) -> None:
    """Record the rates of created users and the response times of the service."""
    service, bare, flask_orm, fastapi, validating, far = (
        run.databases.create(name) for name in ("service", "bare", "flask_orm", "fastapi", "validating", "far")
    )
    with closing(connect(bare)) as connection:
        function = postgres.useradd_script(connection)
        postgres.drop_statistics_indexes(connection)
    with ExitStack() as stack:
        layers = stack.enter_context(_layers(run, service))
        plain = stack.enter_context(run.serve("bench.references.flask_orm", flask_orm))
        asynchronous = stack.enter_context(run.serve("bench.references.fastapi_asyncpg", fastapi))
        same_rules = stack.enter_context(run.serve("bench.references.fastapi_asyncpg", validating, VALIDATE="1"))
        distant = stack.enter_context(run.serve("wsgi", stack.enter_context(delaying_proxy(far, DELAY_S))))
        run.take_turns(
            "creating users",
            *layers,
            # In the database of the running service, which aggregates the attempts.
            lambda: run.measure_pgbench(Quantity.FUNCTION, service, function),
            lambda: run.measure_pgbench(Quantity.FUNCTION_BARE, bare, function),
            lambda: run.measure_load(Quantity.FASTAPI, asynchronous, useradd_request()),
            lambda: run.measure_load(Quantity.FASTAPI_VALIDATING, same_rules, useradd_request()),
            lambda: run.measure_load(Quantity.FAR, distant, useradd_request()),
            lambda: run.measure_load(Quantity.FLASK_ORM, plain, useradd_request()),
        )


def measure_bulk(run: Run) -> None:
    """Record the rates of bulk requests, and of single requests with and without bulk requests."""
    with run.serve("wsgi", run.databases.create("bulk")) as server, ThreadPoolExecutor(BULK_CLIENTS) as pool:

        def measure_bulk() -> None:
            began, users = time.perf_counter(), 0
            while time.perf_counter() < began + run.options.seconds:
                users += sum(pool.map(lambda _: _send_bulk(run, server), range(BULK_CLIENTS)))
            run.record(Quantity.BULK, users / (time.perf_counter() - began))

        def measure_beside() -> None:
            stop = threading.Event()
            sender = pool.submit(_send_bulk_until, run, server, stop)
            run.measure_load(Quantity.BESIDE_BULK, server, useradd_request())
            stop.set()
            sender.result()

        two_inserts = run.databases.create("two_inserts_bulk")
        run.take_turns(
            "many users in one request",
            partial(measure_postgres, run, Quantity.TWO_INSERTS_BULK, two_inserts),
            measure_bulk,
            lambda: run.measure_load(Quantity.BESIDE_NO_BULK, server, useradd_request()),
            measure_beside,
        )


def measure_postgres(run: Run, quantity: Quantity, url: str) -> Pgbench:
    """Measure and record the rate of pgbench's single transactions in a database of its own."""
    return run.measure_pgbench(quantity, url, postgres.two_inserts_script())


def _send_bulk_until(run: Run, server: Server, stop: threading.Event) -> None:
    while not stop.is_set():
        _send_bulk(run, server)


def _send_bulk(run: Run, server: Server) -> int:
    """Create BULK_USERS users with one request; return their number. Raises RuntimeError."""
    lines = b"".join(run.new_bodies(BULK_USERS))
    connection = HTTPConnection(HOST, server.port, timeout=120)
    connection.request("POST", "/api/v1/useradd/bulk/", lines, {"Content-Type": "application/x-ndjson"})
    created = connection.getresponse().read().count(b'"status": 201')
    connection.close()
    if created != BULK_USERS:
        raise RuntimeError(f"a bulk request created {created} of {BULK_USERS} users")
    return created


def measure_layers(run: Run) -> None:
    """Record the rates of the service and its layers only."""
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

        def measure_service() -> None:
            found = run.measure_load(Quantity.CREATED, service, useradd_request())
            usage = run.results.cpu_usage[Quantity.CREATED][-1]
            run.record(Quantity.SERVER_CPU, usage.server_s / usage.requests * 1e6)
            run.record(Quantity.CREATED_P50, found.p50_ms)
            run.record(Quantity.CREATED_P99, found.p99_ms)
            run.record(Quantity.CREATED_OTHERS, found.unexpected)

        def measure_two_inserts() -> None:
            found = measure_postgres(run, Quantity.TWO_INSERTS, two_inserts)
            run.record(Quantity.TWO_INSERTS_LATENCY, found.latency_ms)

        measure_layers = []
        for layer, quantity in LAYERS.items():
            server = stack.enter_context(run.serve("bench.references.layers", leanest, LAYER=layer))
            measure_layers.append(partial(run.measure_load, quantity, server, useradd_request()))
        yield [measure_two_inserts, measure_service, *measure_layers]
