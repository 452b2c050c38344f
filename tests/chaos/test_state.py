"""State and metrics are true during an outage, even if no request needs PostgreSQL."""

import json
import re
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.postgres import Postgres
from tests.chaos.processes import HOST, eventually
from tests.chaos.proxy import Proxy
from tests.chaos.service import Service

NOTICED_S = 10
"""Usually 2 s; the machine may be busy."""
WORKERS = 2
OUTAGES: dict[str, Callable[[Postgres, Proxy], None]] = {
    "frozen": lambda postgres, _: postgres.freeze(),
    "stopped": lambda postgres, _: postgres.stop(),
    "unreachable": lambda _, proxy: proxy.blackhole(),
    "refusing": lambda _, proxy: proxy.refuse(),
}


def _get(service: Service, path: str) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{service.port}{path}", timeout=5) as response:
        return str(response.read().decode())


def _state(service: Service) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(_get(service, "/state/?lang=en"))
    return state


def _unavailable_to(service: Service) -> dict[str, int]:
    """Return how many workers find PostgreSQL unavailable, by the database of the metric."""
    found = re.findall(r'breaker_open_workers\{database="(\w+)"\} (\d)', _get(service, "/metrics"))
    return {name: int(workers) for name, workers in found}


@pytest.mark.parametrize("outage", OUTAGES)
def test_the_state_is_true_during_an_outage_without_requests(
    service: Service, postgres: Postgres, proxy: Proxy, outage: str
) -> None:
    assert _state(service)["is_well"]
    OUTAGES[outage](postgres, proxy)

    everywhere = {"writing": WORKERS, "reading": WORKERS}
    eventually(lambda: _unavailable_to(service) == everywhere, NOTICED_S, "not every worker has noticed")
    state, status = _state(service), json.loads(_get(service, "/status"))

    assert re.fullmatch(r"No connection to the database since \d\d:\d\d\.", state["sentence"])
    assert [line["is_well"] for line in state["lines"]] == [False, True, False, True]
    assert (status["status"], status["database"], status["statistics"]) == ("degraded", "away", "away")
    if outage == "stopped":
        postgres.start()
    postgres.thaw()
    proxy.pass_through()
    eventually(lambda: not any(_unavailable_to(service).values()), NOTICED_S, "not every worker has recovered")
    assert _state(service)["sentence"] == "All is well."
