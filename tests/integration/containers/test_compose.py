"""docker-compose.yml as it is, from `up` to `down`, after which nothing is left.

With the profile `video`, which needs the lines of the config that are commented out.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests import plain_http
from tests.integration.containers.engine import (
    ENVOY,
    EXAMPLES,
    PROMETHEUS,
    REDIS,
    SLUICE,
    VIDEO,
    compose,
    connect,
)
from tests.integration.containers.fleet import ROOT
from tests.integration.gateway import eventually, free_ports

pytestmark = pytest.mark.docker

PROJECT = f"sluice-test-{os.getpid()}"
LEFT_OUT = {"grafana"}
"""Services whose images cannot be had everywhere. They serve no request."""
TIMEOUT = 300


@dataclass
class Project:
    """A copy of the compose file and of its folder, which runs with ports of its own."""

    folder: Path
    environment: dict[str, str]

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.environment['GATEWAY_PORT']}"

    def __call__(self, *arguments: str) -> str:
        """Run a command of Docker Compose. Returns its output."""
        ran = subprocess.run(
            [*compose(), "--project-name", PROJECT, *arguments],
            cwd=self.folder, env={**os.environ, **self.environment},
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{arguments}: {ran.stderr[-4000:]}"
        return ran.stdout

    def logs(self) -> str:
        """The states of all containers, and what each said last."""
        return self("ps", "--all") + self("logs", "--tail", "20")

    def objects(self) -> list[Any]:
        """The containers, networks and volumes of the project."""
        client, only = connect(), {"label": f"com.docker.compose.project={PROJECT}"}
        return [
            *client.containers.list(all=True, filters=only),
            *client.networks.list(filters=only),
            *client.volumes.list(filters=only),
        ]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    connect()
    folder = tmp_path_factory.mktemp("compose")
    shutil.copy(ROOT / "docker-compose.yml", folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    ports = map(str, free_ports(4))
    names = ("GATEWAY_PORT", "CONTROL_PLANE_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
    images = {
        "SLUICE_IMAGE": SLUICE,
        "SLUICE_ENVOY_IMAGE": ENVOY,
        "SLUICE_VIDEO_IMAGE": VIDEO,
        "SLUICE_EXAMPLES_IMAGE": EXAMPLES,
        "REDIS_IMAGE": REDIS,
        "PROMETHEUS_IMAGE": PROMETHEUS,
    }
    project = Project(folder, {**dict(zip(names, ports, strict=True)), **images})
    services = yaml.safe_load((folder / "docker-compose.yml").read_text())["services"]
    config = folder / "deploy" / "compose" / "gateway.yaml"
    config.write_text(config.read_text().replace("# video:", "video:"))
    left_out = {
        name for name, each in services.items() if each.get("profiles", ["video"]) != ["video"]
    } | LEFT_OUT
    try:
        project("up", "--detach", "--no-build", *sorted(services.keys() - left_out))
        yield project
    except AssertionError:
        print(project.logs())
        raise
    finally:
        project("down", "--volumes", "--timeout", "60")
    assert project.objects() == []


def is_ready(project: Project) -> bool:
    try:
        return plain_http.get(f"{project.gateway}/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def token(project: Project) -> str:
    """A token from a container, as the README says."""
    command = ["sluice", "token", "--sub", "1234", "--group", "vip"]
    return project("exec", "-T", "control-plane", *command).strip()


def request_of_the_readme(project: Project) -> str:
    """Send the request. Returns the version that has answered."""
    answer = plain_http.post(
        f"{project.gateway}/v2/models/sentiment/infer",
        content=(ROOT / "examples" / "sentiment.json").read_bytes(),
        headers={"authorization": f"Bearer {token(project)}", "content-type": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model_version"])


def test_the_request_of_the_readme_is_answered(project: Project) -> None:
    eventually(lambda: is_ready(project))
    assert request_of_the_readme(project) == "v2"


def test_a_film_is_analysed_through_envoy(project: Project) -> None:
    answer = plain_http.post(
        f"{project.gateway}/v2/models/digits/video?rate=1&region=0.2,0.075,0.6,0.8",
        content=(ROOT / "examples" / "digits.mp4").read_bytes(),
        headers={"authorization": f"Bearer {token(project)}", "content-type": "video/mp4"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    *results, end = map(json.loads, answer.text.splitlines())
    outputs = [event["inference"]["outputs"] for event in results]
    digits = [each["data"] for output in outputs for each in output if each["name"] == "label"]
    assert digits == [[digit] for digit in range(10)]
    assert end["end"]["reason"] == ""


def test_an_edit_of_the_config_on_the_host_takes_effect(project: Project) -> None:
    file = project.folder / "deploy" / "compose" / "gateway.yaml"
    file.write_text(file.read_text().replace("value: vip, version: v2", "value: vip, version: v1"))
    eventually(lambda: request_of_the_readme(project) == "v1")


def test_the_status_knows_all_parts(project: Project) -> None:
    status = json.loads(project("exec", "-T", "control-plane", "sluice", "status", "--json"))
    assert sorted(node["kind"] for node in status["nodes"]) == [
        "callout",
        "callout",
        "envoy",
        "video",
    ]
    assert status["callout"]["error"] is None
    assert status["error"] is None


def test_prometheus_scrapes_all_parts(project: Project) -> None:
    url = f"http://127.0.0.1:{project.environment['PROMETHEUS_PORT']}/api/v1/targets"

    def up() -> bool:
        targets = plain_http.get(url).json()["data"]["activeTargets"]
        return sorted((each["scrapePool"], each["health"]) for each in targets) == [
            ("envoy", "up"), ("sluice-callout", "up"), ("sluice-control-plane", "up"),
            ("sluice-video", "up"),
        ]  # fmt: skip

    eventually(up)


def test_no_container_has_more_rights_than_it_needs(project: Project) -> None:
    containers = [each for each in project.objects() if hasattr(each, "exec_run")]
    assert len(containers) == 8
    for container in containers:
        settings = container.attrs["HostConfig"]
        assert settings["ReadonlyRootfs"]
        assert settings["CapDrop"] == ["ALL"]
        assert settings["SecurityOpt"] == ["no-new-privileges:true"]
        assert settings["Memory"] > 0
        assert container.attrs["Config"]["User"] not in ("", "0", "root")
        bindings = [each for port in (settings["PortBindings"] or {}).values() for each in port]
        assert all(each["HostIp"] == "127.0.0.1" for each in bindings)
