"""Dashboards and alert rules, with a real Prometheus that scrapes a gateway with traffic."""

import json
import math
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests import plain_http
from tests.extproc.auth.key_server import keys_served
from tests.integration.gateway import Gateway, eventually, free_ports, jwks, running
from tests.integration.observed import config, traffic
from tests.prometheus_tools import metric_names, prometheus_tool
from tests.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
BOARDS = [
    json.loads(file.read_text()) for file in sorted(ROOT.glob("deploy/grafana/dashboards/*.json"))
]
RULES = [
    rule["expr"]
    for group in yaml.safe_load(ALERTS.read_text())["groups"]
    for rule in group["rules"]
]
RANGE = 30
"""Seconds that a query looks at."""

FAULTS = {
    "SluiceErrorBudgetBurn", "SluiceBreakerOpen", "SluiceEndpointsFail", "SluiceManyLimited",
    "SluiceKeySetUnusable", "SluiceKeySetFetchFails", "SluiceVideoStreamDown",
}  # fmt: skip
"""Alerts of what is wrong with the gateway of this test."""

NO_FAULTS = {
    "SluiceJobMissing", "SluiceNoWorker", "SluiceMetricsTableFull", "SluiceTelemetryLost",
    "SluiceVersionsDiffer", "SluiceNodesReject", "SluiceConfigInError", "SluiceNoEnvoyConnected",
    "SluiceEnvoyDisconnected", "SluiceCertificateExpires", "SluiceEnvoyHeap", "SluiceVideoNoWorker",
    "SluiceVideoDisconnected", "SluiceVideoSinkBehind",
}  # fmt: skip
"""Alerts of what works, however busy the machine is."""

NOT_OF_A_GATEWAY = {"namespace", "le", "alertname", "alertstate"}
"""Labels of Kubernetes and of Prometheus."""


MAY_BE_EMPTY = {"stream"}
"""Prometheus leaves out labels that are empty: uploads have no stream, and the camera no frames."""


@dataclass(frozen=True)
class Query:
    """A query of a panel, with a choice for each variable as Grafana makes it."""

    panel: str
    text: str
    legend: str = ""

    @property
    def expression(self) -> str:
        rated = self.text.replace("$__rate_interval", f"{RANGE // 2}s")
        return re.sub(r"\$\w+", ".*", rated.replace('="$model"', '="echo"'))


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}"
        return plain_http.get(url, params=parameters).raise_for_status().json()["data"]

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def series(self, query: Query) -> list[dict[str, str]]:
        """Labels of the series with a number in the last seconds."""
        now = time.time()
        found = self.get(
            "query_range", query=query.expression, start=f"{now - RANGE}", end=f"{now}", step="1"
        )
        return [
            each["metric"]
            for each in found["result"]
            if any(not math.isnan(float(value)) for _, value in each["values"])
        ]


@contextmanager
def prometheus(gateway: Gateway, directory: Path) -> Iterator[Prometheus]:
    """Runs a Prometheus with our rules that scrapes the gateway every second."""
    settings = gateway.config
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    scraped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    scraped["rule_files"] = [str(ALERTS)]
    targets = {
        "sluice-callout": settings["telemetry"]["metrics"]["address"],
        "sluice-control-plane": settings["control_plane"]["http"],
        "sluice-video": settings["video"]["metrics"],
        "envoy": settings["envoy"]["admin"],
    }
    for job in scraped["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(scraped))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    argv = [
        str(prometheus_tool("prometheus")), f"--config.file={file}", "--log.level=warn",
        f"--storage.tsdb.path={directory}/prometheus", f"--web.listen-address={address}",
    ]  # fmt: skip
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        eventually(lambda: _is_ready(address))
        yield Prometheus(address)
    finally:
        process.kill()
        process.wait()


def _is_ready(address: str) -> bool:
    try:
        return plain_http.get(f"http://{address}/-/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def observing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a gateway that gets requests of all kinds."""
    prometheus_tool("prometheus")
    directory = tmp_path_factory.mktemp("observed")
    redis = RedisServer(directory)
    redis.start()
    try:
        with (
            keys_served(jwks()) as keys,
            running(
                config(directory, keys.uri, redis.url), "--store", f"sqlite:{directory}/history.db"
            ) as gateway,
            prometheus(gateway, directory) as started,
            traffic(gateway),
        ):
            yield started
    finally:
        redis.kill()


def queries(board: dict[str, Any]) -> list[Query]:
    """All queries of a dashboard: of its panels and its annotations."""
    panels = [
        Query(panel["title"], target["expr"], target["legendFormat"])
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]
    return [*panels, *(Query(each["name"], each["expr"]) for each in board["annotations"]["list"])]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_each_query_of_a_dashboard_returns_data(
    observing: Prometheus, board: dict[str, Any]
) -> None:
    waiting = queries(board)

    def answered() -> bool:
        waiting[:] = [query for query in waiting if not observing.series(query)]
        return not waiting

    try:
        eventually(answered)
    except AssertionError:
        pytest.fail("\n".join(f"{query.panel}: {query.expression}" for query in waiting))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_each_legend_has_the_labels_of_its_series(
    observing: Prometheus, board: dict[str, Any]
) -> None:
    for query in queries(board):
        named = set(re.findall(r"{{(\w+)}}", query.legend)) - MAY_BE_EMPTY
        eventually(lambda q=query, n=named: any(n <= each.keys() for each in observing.series(q)))


def test_prometheus_evaluates_each_rule(observing: Prometheus) -> None:
    eventually(lambda: all(rule["health"] != "unknown" for rule in observing.rules()))
    assert [rule["name"] for rule in observing.rules() if rule["health"] != "ok"] == []


def test_the_faults_of_the_gateway_raise_their_alerts(observing: Prometheus) -> None:
    def active() -> set[str]:
        return {rule["name"] for rule in observing.rules() if rule.get("alerts")}

    eventually(lambda: active() >= FAULTS)
    assert active() & NO_FAULTS == set()


def test_a_running_gateway_exports_each_metric_and_label_that_a_panel_or_a_rule_names(
    observing: Prometheus,
) -> None:
    texts = [*RULES, *(query.expression for board in BOARDS for query in queries(board))]
    used: dict[str, set[str]] = {}
    for text in texts:
        for name in metric_names(text):
            used.setdefault(name, set())
        for name, selectors in re.findall(r"(\w+){([^}]*)}", text):
            if name in used:
                used[name] |= set(re.findall(r"(\w+)!?=~?", selectors)) - NOT_OF_A_GATEWAY

    missing: list[str] = []

    def exported() -> bool:
        labels = {name: _labels(observing, name) for name in used}
        missing[:] = [name for name in used if not labels[name] or used[name] - labels[name]]
        return not missing

    try:
        eventually(exported)
    except AssertionError:
        pytest.fail("\n".join(f"{name}: {sorted(used[name])}" for name in missing))


def _labels(prometheus: Prometheus, name: str) -> set[str]:
    series = prometheus.get("series", **{"match[]": name})
    return set().union(*(each.keys() for each in series))
