"""The files of docker-compose.yml are valid, and agree with each other."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.cli import parser
from sluice.config.load import loads

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "compose"
TEXT = (FOLDER / "gateway.yaml").read_text()
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PARTS = ("control-plane", "callout", "envoy", "video", "prometheus")
VOLUMES = ["state", *(f"{part}-identity" for part in PARTS)]
TRACING = re.compile("^  # (tracing: .*)$", re.MULTILINE)
VIDEO = re.compile("^( *)# (video: {.*)$", re.MULTILINE)
WITH_VIDEO = VIDEO.sub(r"\1\2", TEXT)


@pytest.mark.parametrize(
    "text",
    [TEXT, TRACING.sub(r"  \1", TEXT), WITH_VIDEO],
    ids=["as it is", "tracing", "video"],
)
def test_the_config_is_valid(text: str) -> None:
    assert set(loads(text).models) == {"sentiment", "digits", "echo"}


def test_the_line_about_tracing_switches_it_on() -> None:
    tracing = loads(TRACING.sub(r"  \1", TEXT)).telemetry.tracing
    assert tracing is not None
    assert tracing.otlp.address == "collector:4317"


def test_the_lines_about_video_name_the_service_its_certificate_and_a_model() -> None:
    config = loads(WITH_VIDEO)
    assert config.video is not None
    assert config.identity is not None
    options = parser().parse_args(SERVICES["video"]["command"])
    for address, listens in (
        (config.video.http, options.http),
        (config.video.grpc, options.grpc),
        (config.video.metrics, options.metrics),
    ):
        assert listens == address.replace("video:", "0.0.0.0:")
    assert config.video.gateway.address == "envoy:8080"
    assert config.identity.video is not None
    assert config.identity.video.certificate == "/run/sluice/identity/video.crt"
    assert [name for name, model in config.models.items() if model.video] == ["digits"]


def test_the_example_server_listens_on_the_endpoints_of_the_config() -> None:
    arguments = SERVICES["models"]["command"].split()
    listens = {
        (name, address.partition(":")[2])
        for name, *addresses in zip(arguments[1::4], arguments[2::4], arguments[3::4], strict=True)
        for address in addresses
    }
    for model, each in loads(TEXT).models.items():
        for version, served in each.versions.items():
            for endpoint in served.endpoints:
                host, _, port = endpoint.address.partition(":")
                assert host == "models"
                assert (f"{model}:{version}", port) in listens


def test_every_image_has_a_version_unless_it_is_built_here() -> None:
    for service in SERVICES.values():
        assert "build" in service or re.search(r":v?[0-9]+\.[0-9.]+[a-z-]*}$", service["image"])


def test_prometheus_has_the_jobs_that_the_alerts_and_dashboards_name() -> None:
    def jobs(file: Path) -> list[str]:
        return [each["job_name"] for each in yaml.safe_load(file.read_text())["scrape_configs"]]

    assert jobs(FOLDER / "prometheus.yml") == jobs(
        ROOT / "deploy" / "prometheus" / "prometheus.yml"
    )


@pytest.mark.parametrize("volume", VOLUMES)
def test_a_part_has_only_its_own_key(volume: str) -> None:
    """The volume `state` has the keys that sign tokens and certificates."""
    mounting = {
        name
        for name, service in SERVICES.items()
        for mount in service.get("volumes", ())
        if mount.startswith(f"{volume}:")
    }
    parts = {"control-plane"} if volume == "state" else {volume.removesuffix("-identity")}
    assert mounting == {"setup", *parts}


def test_grafana_has_no_account_with_a_known_password() -> None:
    """Its API takes admin:admin also without a form for the login."""
    settings = SERVICES["grafana"]["environment"]
    assert settings["GF_AUTH_BASIC_ENABLED"] == "false"
    assert settings["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_no_web_page_may_read_prometheus() -> None:
    """The option is a regular expression for origins, which by default matches all."""
    assert "--web.cors.origin=none" in SERVICES["prometheus"]["command"]


def test_no_port_is_published_to_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
