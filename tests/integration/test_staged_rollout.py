"""With two real Envoys: one gets a change first, and the other follows, or the change is undone."""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sluice.cli.exit_status import ExitStatus
from tests import plain_http
from tests.integration.gateway import (
    INFER,
    Config,
    Gateway,
    another_envoy,
    base_config,
    bearer,
    eventually,
    free_ports,
    running,
)

SECOND = "second"
SOAK = 16
"""Seconds: a change is judged 14 s after it at the earliest."""


@dataclass
class Fleet:
    """A gateway, and a second Envoy with a listener of its own."""

    gateway: Gateway
    second: str
    answers: dict[str, list[int]] = field(default_factory=lambda: {"": [], SECOND: []})

    @property
    def urls(self) -> dict[str, str]:
        return {"": self.gateway.url, SECOND: self.second}

    @property
    def api(self) -> str:
        return f"http://{self.gateway.config['control_plane']['http']}/v1"

    def get(self, path: str) -> Any:
        return plain_http.get(f"{self.api}/{path}").raise_for_status().json()

    def status(self) -> dict[str, Any]:
        """Empty without an answer."""
        with suppress(httpx.TransportError):
            found: dict[str, Any] = self.get("status")
            return found
        return {}

    def revision(self) -> int | None:
        """The revision in force at all Envoys."""
        status = self.status()
        return status["revision"] if status and status["in_sync"] else None

    def staged(self) -> list[str]:
        stage = self.status().get("stage")
        return [] if stage is None else list(stage["nodes"])

    def apply(self, config: Config, *options: str) -> subprocess.Popen[str]:
        file = self.gateway.directory / "edited.yaml"
        file.write_text(yaml.safe_dump(config))
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "sluice.cli", "apply", "-f", str(file), "--yes", "--wait"),
                *("--nodes", "50%", "--control-plane", self.api.removesuffix("/v1"), *options),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """Requests to both Envoys in the block, whose statuses `answers` has."""
        self.answers = {"": [], SECOND: []}
        stop = threading.Event()

        def send(name: str, url: str) -> None:
            with plain_http.client(base_url=url, timeout=30) as client:
                while not stop.wait(0.02):
                    response = client.post(INFER, json={}, headers=bearer())
                    self.answers[name].append(response.status_code)

        threads = [threading.Thread(target=send, args=each) for each in self.urls.items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@contextmanager
def second_envoy(gateway: Gateway, directory: Path) -> Iterator[None]:
    bootstrap = directory / "second.yaml"
    arguments = (str(gateway.file), "--node-id", SECOND, "--group", SECOND)
    command = [sys.executable, "-m", "sluice.cli", "bootstrap", *arguments]
    config = yaml.safe_load(subprocess.check_output(command))
    config["admin"]["address"]["socket_address"]["port_value"] = free_ports(1)[0]
    bootstrap.write_text(yaml.safe_dump(config))
    with another_envoy(bootstrap):
        yield


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    config, address = base_config("callout"), f"127.0.0.1:{free_ports(1)[0]}"
    config["node_groups"] = {SECOND: {"match": {"ids": [SECOND]}, "listener": {"address": address}}}
    config["rollout"] = {"soak": SOAK, "criteria": {"min_requests": 50}}
    store = f"sqlite:{directory}/history.db"
    with running(config, "--store", store) as gateway, second_envoy(gateway, directory):
        found = Fleet(gateway, f"http://{address}")
        eventually(lambda: len(_envoys(found)) == 2 and found.revision() is not None)
        with plain_http.client(base_url=found.second) as client:
            eventually(lambda: _serves(client))
        yield found


def _envoys(fleet: Fleet) -> list[str]:
    nodes = fleet.status().get("nodes", ())
    return [each["id"] for each in nodes if each["kind"] == "envoy"]


def _serves(client: httpx.Client) -> bool:
    with suppress(httpx.TransportError):
        return client.post(INFER, json={}, headers=bearer()).status_code == 200
    return False


def failing(fleet: Fleet) -> Config:
    """The present config, in which nothing serves the stable version, which both configs have."""
    config = copy.deepcopy(fleet.gateway.config)
    nobody = {"endpoints": [{"address": f"127.0.0.1:{free_ports(1)[0]}"}]}
    config["models"]["echo"]["versions"]["v1"] = nobody
    return config


def test_a_change_that_fails_at_the_staged_envoy_is_undone(fleet: Fleet) -> None:
    before = fleet.revision()
    with fleet.traffic():
        applied = fleet.apply(failing(fleet))
        eventually(lambda: len(fleet.staged()) == 1)
        staged = fleet.staged()[0]
        _, errors = applied.communicate(timeout=60)
        assert applied.returncode == ExitStatus.REJECTED.value, errors
        eventually(lambda: not fleet.staged() and fleet.revision() == (before or 0) + 2)
    name, other = ("", SECOND) if staged != SECOND else (SECOND, "")
    assert set(fleet.answers[other]) == {200}
    assert 503 in fleet.answers[name]
    assert "is rejected: model echo: 100 % of " in errors
    rollback, bad = fleet.get("history?limit=2")["revisions"]
    assert (rollback["origin"], rollback["author"], rollback["nodes"]) == (
        "rollback", "sluice", None,
    )  # fmt: skip
    assert bad["nodes"] == 0.5
    assert "requests failed, over 5 % more than the 0 % of the other Envoys" in rollback["reason"]


def test_a_good_change_reaches_the_others_also_after_a_restart(fleet: Fleet) -> None:
    config = copy.deepcopy(fleet.gateway.config)
    config["models"]["echo"]["stable"] = "v2"
    before = fleet.revision()
    with fleet.traffic():
        applied = fleet.apply(config)
        eventually(lambda: len(fleet.staged()) == 1)
        staged = fleet.staged()
        versions = {name: _version(url) for name, url in fleet.urls.items()}
        (control_plane,) = fleet.gateway.processes("control-plane")
        os.kill(control_plane, signal.SIGKILL)
        applied.communicate(timeout=60)
        eventually(lambda: fleet.staged() == staged)
        eventually(lambda: fleet.revision() == (before or 0) + 1)
        eventually(lambda: {_version(url) for url in fleet.urls.values()} == {"v2"})
    first = SECOND if staged == [SECOND] else ""
    assert versions == {name: "v2" if name == first else "v1" for name in versions}
    assert [set(each) for each in fleet.answers.values()] == [{200}, {200}]


def _version(url: str) -> str:
    """The version that serves requests."""
    response = plain_http.post(f"{url}{INFER}", json={}, headers=bearer())
    found: str = json.loads(response.content)["version"]
    return found
