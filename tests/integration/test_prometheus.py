"""infra/prometheus and infra/grafana: the alerts fire when they should, and ask for metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from infra import metrics

INFRA = Path(__file__).parents[2] / "infra"
ALERTS = INFRA / "prometheus/alerts.yml"
DASHBOARD = INFRA / "grafana/dashboards/stream-health.json"


def promtool(*arguments: str) -> str:
    """What promtool says; fails where it does."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    ran = subprocess.run([program, *arguments], cwd=ALERTS.parent, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_promtool_finds_the_configuration_and_its_rules_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_promtool_finds_that_alerts_fire_when_they_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def asked_for(text: str) -> set[tuple[str, str]]:
    """Every (metric, label) of ours that PromQL in `text` selects by or groups by; ("metric", "") for the metric."""
    found = set()
    for name, selector in re.findall(r"\b(gridtide_\w+)(\{[^}]*\})?", text):
        found.add((name, ""))
        found |= {(name, label) for label in re.findall(r"(\w+)\s*[!=]=?~?\s*\\?\"", selector)}
    for labels, name in re.findall(r"by \(([\w, ]+)\)\s*\(?\s*(?:\w+\(\s*)*(gridtide_\w+)", text):
        found |= {(name, label.strip()) for label in labels.split(",")}
    return found


def offered() -> set[tuple[str, str]]:
    """Every (metric, label) that our processes have."""
    found = set()
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            found |= {(name, label) for label in ("", *metric._labelnames)}
            if family.type == "histogram":
                found |= {(f"{name}_bucket", label) for label in ("", "le", *metric._labelnames)}
    return found


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda path: path.name)
def test_metrics_asked_for_have_those_names_and_labels(file: Path) -> None:
    asked = asked_for(file.read_text(encoding="utf-8"))
    assert len(asked) > 10
    assert asked <= offered(), "no process of ours has these"


def test_dashboard_has_a_panel_for_every_kind_of_trouble() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    shown = {name for name, _ in asked_for(DASHBOARD.read_text(encoding="utf-8"))}
    assert {name for name, _ in asked_for(ALERTS.read_text(encoding="utf-8"))} <= shown, "alerted on and not shown"
