"""The alert rules of Prometheus are valid, fire at their faults only, and have a runbook each."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus_tools import metric_names, prometheus_tool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
RUNBOOK = (ROOT / "docs/alerts.md").read_text()


def promtool(*arguments: str) -> str:
    """The output of promtool in the folder of the rules."""
    ran = subprocess.run(
        [prometheus_tool("promtool"), *arguments], cwd=FOLDER, text=True, capture_output=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_prometheus_accepts_the_config_and_its_rules() -> None:
    output = promtool("check", "config", "prometheus.yml")
    assert f"SUCCESS: {len(RULES)} rules found" in output


def test_each_alert_fires_at_its_fault_and_none_for_a_healthy_gateway() -> None:
    promtool("test", "rules", "alerts_test.yml")


def test_each_alert_has_a_test() -> None:
    fired = {
        name
        for test in TESTS
        for each in test["promql_expr_test"]
        for name in re.findall(r'alertname="(\w+)", alertstate="firing"', each["expr"])
    }
    assert fired == set(ALERTS)


def test_the_healthy_gateway_has_every_series_that_an_alert_reads() -> None:
    (healthy,) = (test for test in TESTS if test["name"] == "a healthy gateway")
    series = " ".join(each["series"] for each in healthy["input_series"])
    read = set().union(*(metric_names(rule["expr"]) for rule in RULES))
    assert {name for name in read if f"{name}{{" not in series} == set()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means_and_names_its_runbook(name: str) -> None:
    alert: dict[str, Any] = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert() -> None:
    assert re.findall(r"^### (Sluice\w+)$", RUNBOOK, re.M) == list(ALERTS)
