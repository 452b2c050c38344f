"""Rate of logins, compared to an empty page and to a form that only creates a session."""

from bench.load import build_request
from bench.reader import FORM, Reader
from bench.run import Run
from bench.targets import Quantity

CLIENTS = 4
"""Number of connections."""


def measure(run: Run) -> None:
    """Record the rates of logins, of empty pages and of forms that begin a session."""
    url = run.databases.create("logging_in")
    with run.serve("bench.references.empty_page", url) as server:
        reader = Reader(server.port)
        login = build_request("POST", "/login/", reader.form.encode(), FORM, reader.form_cookie)
        empty = build_request("GET", "/empty/", cookie=reader.cookie)
        form = build_request("POST", "/empty/", reader.form.encode(), FORM, reader.form_cookie)
        run.take_turns(
            "logging in",
            lambda: run.measure_load(Quantity.LOGIN, server, login, clients=CLIENTS, expected=302),
            lambda: run.measure_load(Quantity.EMPTY_PAGE, server, empty, clients=CLIENTS, expected=200),
            lambda: run.measure_load(Quantity.EMPTY_FORM, server, form, clients=CLIENTS, expected=302),
        )
