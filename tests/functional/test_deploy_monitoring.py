"""Alerts and dashboard ask for what /metrics tells, and lead to what an operator shall do."""

import json
import re
import shutil
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
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus itself adds."""
UNITS = {"short", "reqps", "percentunit", "s", "bytes"}

Told = Mapping[str, Mapping[str, set[str]]]


@pytest.fixture(scope="module")
def alerts() -> list[dict[str, Any]]:
    """The rules."""
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
    """What /metrics says where there is a replica, too."""
    app = make_app(database_read_url=config.database_url, data_dir=tmp_path)
    get_runtime(app).metrics.update()
    return app.test_client().get("/metrics").text


@pytest.fixture
def told(text: str) -> Told:
    """Values of each label by name of a figure."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def test_alerts_ask_for_what_is_told(alerts: list[dict[str, Any]], told: Told) -> None:
    for alert in alerts:
        check(alert["expr"], told)
        assert alert["labels"]["severity"] in {"critical", "warning"}, alert
        assert "$labels.instance" in alert["annotations"]["summary"] or "sum by (job" in alert["expr"], alert


def test_every_alert_leads_to_its_section(alerts: list[dict[str, Any]]) -> None:
    anchors = {_anchor(heading) for heading in re.findall(r"^#+ (.*)$", OPERATIONS, re.MULTILINE)}

    for alert in alerts:
        document, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert (document, anchor) == ("docs/operations.md", alert["alert"].lower())
        assert anchor in anchors


def test_every_section_about_an_alert_has_one(alerts: list[dict[str, Any]]) -> None:
    told = re.findall(r"^### (Useradd\w+)$", OPERATIONS, re.MULTILINE)

    assert told == [alert["alert"] for alert in alerts]


def test_the_dashboard_asks_for_what_is_told(dashboard: dict[str, Any], told: Told) -> None:
    questions = list(_questions(dashboard))

    assert len(questions) > 20
    for question in questions:
        check(question, told)


def test_every_figure_is_shown_or_alerted_and_explained(
    dashboard: dict[str, Any], alerts: list[dict[str, Any]], told: Told
) -> None:
    asked = " ".join([*_questions(dashboard), *(alert["expr"] for alert in alerts)])
    explained = set(re.findall(r"^\| `(useradd_\w+)", OPERATIONS, re.MULTILINE))
    names = {re.sub(r"_(bucket|count|sum)$", "", name) if "duration" in name else name for name in told}

    assert not [name for name in names if name not in asked]
    assert explained == names


def test_panels_fill_the_width_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]

    assert len(places) == len(set(places))
    assert len(places) == 24 * (max(y for _, y in places) + 1)
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in dashboard["panels"]} == UNITS - {"bytes"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_scrape_asks_for_our_address_and_reads_our_alerts(client: FlaskClient) -> None:
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())

    [job] = settings["scrape_configs"]
    assert settings["rule_files"] == ["alerts.yml"]
    assert job["job_name"] == "useradd"
    assert client.get(job["metrics_path"]).status_code == 200


def test_prometheus_own_tool_takes_it_where_there_is_one(text: str) -> None:
    if tool := shutil.which("promtool"):
        subprocess.run([tool, "check", "config", PROMETHEUS / "prometheus.yml"], check=True)
        said = subprocess.run([tool, "check", "metrics"], input=text, text=True, capture_output=True)
        assert said.returncode == 0, said.stderr


def check(question: str, told: Told) -> None:
    """See that names, labels and values of a PromQL expression are those of /metrics."""
    for name, matchers in re.findall(r"\b(useradd_\w+)(?:\{([^}]*)\})?", question):
        assert name in told, question
        for label, sign, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            if label in OF_PROMETHEUS:
                continue
            wanted = value.split("|") if sign == "=~" else [value]
            assert set(wanted) <= told[name][label], question
    known = {label for name in re.findall(r"\buseradd_\w+", question) for label in told[name]} | OF_PROMETHEUS
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", question):
        assert set(labels.replace(" ", "").strip(",").split(",")) <= known, question


def _questions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (one["expr"] for one in dashboard["annotations"]["list"])
    yield from (one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query")


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
