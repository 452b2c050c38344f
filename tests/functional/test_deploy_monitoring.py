"""Alerts and dashboard use existing metrics and link to the operations manual."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from config import Config
from project.runtime import get_runtime
from tests.conftest import MakeApp

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PROMETHEUS_LABELS = {"job", "instance"}
"""Labels that Prometheus itself adds."""
UNITS = {"short", "reqps", "percentunit", "s", "bytes"}

Metrics = Mapping[str, Mapping[str, set[str]]]


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, Any]]:
    """The alerting rules."""
    [group] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "useradd.json").read_text())
    return found


@pytest.fixture
def text(client: FlaskClient, config: Config, make_app: MakeApp, tmp_path: Path) -> str:
    """The text of /metrics of a service with a replica."""
    app = make_app(database_read_url=config.database_url, data_dir=tmp_path)
    get_runtime(app).metrics.update()
    return app.test_client().get("/metrics").text


@pytest.fixture
def metrics(text: str) -> Metrics:
    """Values of each label, by metric name."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def test_alerts_use_existing_metrics(alerts: list[dict[str, Any]], metrics: Metrics) -> None:
    for alert in alerts:
        check(alert["expr"], metrics)
        assert alert["labels"]["severity"] in {"critical", "warning"}, alert
        assert "$labels.instance" in alert["annotations"]["summary"] or "sum by (job" in alert["expr"], alert


def test_every_alert_links_to_its_section(alerts: list[dict[str, Any]]) -> None:
    anchors = {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", OPERATIONS, re.MULTILINE)}

    for alert in alerts:
        document, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (document, anchor) == ("docs/operations.md", alert["alert"].lower())
        assert anchor in anchors


def test_every_section_on_an_alert_has_an_alert(alerts: list[dict[str, Any]]) -> None:
    documented = re.findall(r"^### (Useradd\w+)$", OPERATIONS, re.MULTILINE)

    assert documented == [alert["alert"] for alert in alerts]


def test_the_dashboard_uses_existing_metrics(dashboard: dict[str, Any], metrics: Metrics) -> None:
    queries = list(_queries(dashboard))

    assert len(queries) > 20
    for query in queries:
        check(query, metrics)


def test_every_metric_is_documented_and_used_in_the_dashboard_or_an_alert(
    dashboard: dict[str, Any], alerts: list[dict[str, Any]], metrics: Metrics
) -> None:
    used = " ".join([*_queries(dashboard), *(alert["expr"] for alert in alerts)])
    cells = re.findall(r"^\| (`useradd_[^|]+)", OPERATIONS, re.MULTILINE)
    documented = set(re.findall(r"useradd_\w+", " ".join(cells)))
    names = {re.sub(r"_(bucket|count|sum)$", "", name) if "duration" in name else name for name in metrics}

    assert not [name for name in names if name not in used]
    assert documented == names


def test_panels_fill_the_width_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]

    assert len(cells) == len(set(cells))
    assert len(cells) == 24 * (max(y for _, y in cells) + 1)
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in dashboard["panels"]} == UNITS - {"bytes"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_scrape_configuration_names_the_metrics_address_and_the_alerts(client: FlaskClient) -> None:
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())

    [job] = settings["scrape_configs"]
    assert settings["rule_files"] == ["alerts.yml"]
    assert job["job_name"] == "useradd"
    assert client.get(job["metrics_path"]).status_code == 200


@pytest.mark.deploy
def test_promtool_accepts_configuration_rules_and_metrics(text: str) -> None:
    check = ["promtool", "check"]

    configuration = subprocess.run([*check, "config", PROMETHEUS / "prometheus.yml"], text=True, capture_output=True)
    metrics = subprocess.run([*check, "metrics"], input=text, text=True, capture_output=True)

    assert configuration.returncode == 0, configuration.stdout + configuration.stderr
    assert "1 rule files found" in configuration.stdout
    assert (metrics.returncode, metrics.stderr) == (0, "")


def check(query: str, metrics: Metrics) -> None:
    """Assert that names, labels and values of a PromQL expression exist in /metrics."""
    for name, matchers in re.findall(r"\b(useradd_\w+)(?:\{([^}]*)\})?", query):
        assert name in metrics, query
        for label, sign, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            if label in PROMETHEUS_LABELS:
                continue
            wanted = value.split("|") if sign == "=~" else [value]
            assert set(wanted) <= metrics[name][label], query
    known = {label for name in re.findall(r"\buseradd_\w+", query) for label in metrics[name]} | PROMETHEUS_LABELS
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
        assert set(labels.replace(" ", "").strip(",").split(",")) <= known, query


def _queries(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["expr"] for one in dashboard["annotations"]["list"])
    yield from (one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query")


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
