"""Forbidden names that import-linter cannot check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2] / "project"
TIMING = re.compile(r"database|breaker|deadline|clock|upkeep|server")
TIMERS = sorted(path for path in PROJECT.rglob("*.py") if TIMING.search(path.relative_to(PROJECT).as_posix()))
SETTABLE = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
"""Clocks that can be set during a wait."""


@pytest.mark.parametrize("path", TIMERS, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_modules_with_deadlines_use_only_the_monotonic_clock(path: Path) -> None:
    assert not set(_names(path.read_text())) & SETTABLE


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nt.time()",
        "from time import time_ns as now\nnow()",
        "import datetime as dt\ndt.datetime.now()",
        "from datetime import datetime\ndatetime.now()",
        "from datetime import datetime as D\nclock = D.utcnow",
    ],
)
def test_settable_clocks_are_found_under_any_alias(source: str) -> None:
    assert set(_names(source)) & SETTABLE


def test_modules_with_deadlines_are_found() -> None:
    names = {"breaker.py", "database.py", "deadline.py", "connections.py", "supervisor.py", "worker.py"}

    assert names <= {path.name for path in TIMERS}


def test_nothing_uses_the_session_of_flask_sqlalchemy_which_is_never_closed() -> None:
    assert not [path for path in PROJECT.rglob("*.py") if "db.session" in set(_names(path.read_text()))]


def _names(source: str) -> Iterator[str]:
    """Yield the last two parts of every name that a module imports or uses.

    Aliases are resolved.
    """
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    meanings = {
        alias.asname or alias.name: ".".join(filter(None, (getattr(node, "module", None), alias.name)))
        for node in imports
        for alias in node.names
    }
    dotted = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)]
    for name in [*meanings, *dotted]:
        first, _, rest = name.partition(".")
        resolved = ".".join(filter(None, (meanings.get(first, first), rest)))
        yield ".".join(resolved.split(".")[-2:])
