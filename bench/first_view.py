"""Measures the first view of the results page: bytes, layout shift and response time.

Bytes and layout shift are those of Chromium with an empty cache; the response time is that of the page alone.

Run `.venv/bin/python -m bench.first_view`.
"""

import argparse
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from bench.load import HOST
from bench.measurements.reading import ServedAttempts, serve_attempts
from bench.report import markdown_table
from bench.run import Options, Run
from bench.servers import ROOT

DOCUMENT = "Document"
"""Chromium's resource type of a page."""
PERIODS = ("7d", "30d", "all")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
MEASURE_LAYOUT_SHIFT = """new Promise((resolve) => {
    let shift = 0;
    new PerformanceObserver((list) => { for (const entry of list.getEntries()) shift += entry.value; })
        .observe({ type: "layout-shift", buffered: true });
    setTimeout(() => resolve(shift), 500);
})"""


def main() -> None:
    """Measure the first view for each period of PERIODS and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_view", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="attempts, over a year (1_000_000)")
    rows = parser.parse_args().rows
    os.chdir(ROOT)
    run = Run(Options(rounds=1, seconds=0, rows=rows))
    try:
        with serve_attempts(run, rows) as attempts, _start_chromium() as browser:
            lines = [_measure(browser, attempts, period) for period in PERIODS]
    finally:
        run.databases.close()
    head = (f"first view, {rows:,} attempts", "transferred, KB", "of that the page", "layout shift", "response, ms")
    print(markdown_table(head, lines, left=1))


def _measure(browser: Browser, attempts: ServedAttempts, period: str) -> tuple[str, ...]:
    address = f"/results/?period={period}"
    server_ms = attempts.page_ms(address)
    with _open_tab(browser, attempts) as (page, received):
        page.goto(address, wait_until="networkidle")
        shift = page.evaluate(MEASURE_LAYOUT_SHIFT)
    total = sum(received.values())
    return period, f"{total / 1000:.1f}", f"{received[DOCUMENT] / 1000:.1f}", f"{shift:.3f}", f"{server_ms:.1f}"


@contextmanager
def _open_tab(browser: Browser, attempts: ServedAttempts) -> Iterator[tuple[Page, Counter[str]]]:
    """Open a tab with a session and an empty cache; yield it and its received bytes by type.

    The bytes include the headers of responses.
    """
    name, _, value = attempts.reader.cookie.partition("=")
    origin = f"http://{HOST}:{attempts.server.port}"
    context = browser.new_context(base_url=origin, viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": name, "value": value, "url": origin}])
    page = context.new_page()
    kinds: dict[str, str] = {}
    received: Counter[str] = Counter()

    def on_response(event: dict[str, Any]) -> None:
        kinds[event["requestId"]] = event["type"]

    def on_finished(event: dict[str, Any]) -> None:
        received[kinds[event["requestId"]]] += event["encodedDataLength"]

    network = context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.responseReceived", on_response)
    network.on("Network.loadingFinished", on_finished)
    yield page, received
    context.close()


@contextmanager
def _start_chromium() -> Iterator[Browser]:
    path = os.environ.get("TEST_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


if __name__ == "__main__":
    main()
