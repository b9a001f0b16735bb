"""The reference page describes every metric and log field; Prometheus scrapes all addresses."""

import dataclasses
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from extproc.telemetry import catalog
from extproc.telemetry.formats import json_line
from extproc.telemetry.metrics import Family
from extproc.telemetry.reports import ReportParser
from sluice.config import GatewayConfig
from sluice.config.video import VideoService
from tests.extproc.telemetry.test_reports import report
from video.process import catalog as video_catalog
from xds.admin import metrics

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reference/metrics.md").read_text()


@pytest.mark.parametrize("family", catalog.FAMILIES, ids=lambda family: family.name)
def test_every_family_of_the_callout_is_described(family: Family) -> None:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    kind = type(family).__name__.lower()
    assert f"| `{family.name}` | {kind} | {labels} | {family.help} |" in PAGE


@pytest.mark.parametrize("name", metrics.HELP)
def test_every_family_of_the_control_plane_is_described(name: str) -> None:
    assert re.search(
        rf"^\| `{name}` \| \w+ \| .*\| {re.escape(metrics.HELP[name])} \|$", PAGE, re.M
    )


@pytest.mark.parametrize("family", video_catalog.FAMILIES, ids=lambda family: family.name)
def test_every_family_of_the_video_service_is_described(family: video_catalog.Family) -> None:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    assert f"| `{family.name}` | {family.kind} | {labels} | {family.help} |" in PAGE


def test_every_declared_metric_is_in_the_catalog() -> None:
    declared = {
        value.name for value in vars(catalog).values() if dataclasses.is_dataclass(value)
        and not isinstance(value, type)
    }  # fmt: skip
    assert declared == {family.name for family in catalog.FAMILIES}


def test_every_log_field_is_described() -> None:
    fields = list(json.loads(json_line(ReportParser().parse(report()))))
    described = re.findall(r"^\| `(\w+)` \| (?:text|number|true)", PAGE, re.M)
    assert fields == described


def test_prometheus_scrapes_the_default_addresses() -> None:
    config = GatewayConfig()
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    found = {
        (job.get("metrics_path", "/metrics"), target)
        for job in scraped["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    assert found == {
        ("/metrics", config.telemetry.metrics.address),
        ("/metrics", config.control_plane.http),
        ("/metrics", VideoService().metrics),
        ("/stats/prometheus", config.envoy.admin),
    }
    assert all(urlsplit(f"//{target}").port for _, target in found)
