"""With a real Envoy: a change that a node rejects, or that makes the traffic worse, is undone."""

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sluice.cli.exit_status import ExitStatus
from tests import plain_http
from tests.integration.gateway import (
    INFER,
    Config,
    Gateway,
    base_config,
    bearer,
    eventually,
    free_ports,
    running,
)
from tests.integration.traffic import traffic


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a history, whose changes are judged."""
    config = base_config()
    config["callout"]["workers"] = 1
    criteria = {"max_error_rate": 0.5, "min_requests": 5}
    config["rollout"] = {"watch": "5m", "criteria": criteria}
    # The breaker would be open before there are enough requests.
    config["models"]["echo"]["breaker"] = {"enabled": False}
    store = tmp_path_factory.mktemp("store") / "history.db"
    with running(config, "--store", f"sqlite:{store}") as started:
        yield started


def sluice(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = f"http://{gateway.config['control_plane']['http']}"
    argv = [sys.executable, "-m", "sluice.cli", *arguments, "--control-plane", url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)


def apply(gateway: Gateway, config: Config) -> subprocess.CompletedProcess[str]:
    file = gateway.directory / "edited.yaml"
    file.write_text(yaml.safe_dump(config))
    return sluice(gateway, "apply", "-f", str(file), "--wait", "--allow-disruption")


def latest(gateway: Gateway) -> dict[str, Any]:
    url = f"http://{gateway.config['control_plane']['http']}/v1/history?limit=1"
    (revision,) = plain_http.get(url).json()["revisions"]
    found: dict[str, Any] = revision
    return found


def is_served(gateway: Gateway) -> bool:
    with gateway.client() as client:
        return client.post(INFER, json={}, headers=bearer()).status_code == 200


def test_a_change_that_envoy_rejects_fails_at_the_prompt(stored: Gateway) -> None:
    # Only Envoy reads these files.
    config = copy.deepcopy(stored.config)
    config["listener"]["tls"] = {"certificate": "none.pem", "private_key": "none.pem"}
    applied = apply(stored, config)
    assert applied.returncode == ExitStatus.REJECTED, applied.stderr
    assert ": revision 2 is rejected: node envoy rejected listeners" in applied.stderr
    assert "none.pem" in applied.stderr
    eventually(lambda: latest(stored)["origin"] == "rollback")
    assert "envoy rejected listeners" in latest(stored)["reason"]
    shown = sluice(stored, "status")
    assert shown.returncode == ExitStatus.FAILED
    assert "envoy rejected listeners" in shown.stdout
    assert is_served(stored)


def test_a_change_that_makes_requests_fail_is_undone(stored: Gateway) -> None:
    config = copy.deepcopy(stored.config)
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    config["models"]["echo"]["versions"]["v1"]["endpoints"] = [{"address": dead}]
    with traffic(stored):
        applied = apply(stored, config)
        assert applied.returncode == ExitStatus.REJECTED, applied.stderr
        assert "2 ack, the traffic is judged" in applied.stderr
        # A model that had requests before is judged too, and names more than all of them.
        assert re.search(
            r": revision 4 is rejected: (all models|model echo): [\d.]+ % of \d+ requests failed, "
            r"more than 50 %",
            applied.stderr,
        ), applied.stderr
    assert latest(stored)["origin"] == "rollback"
    assert "requests failed, more than 50 %" in stored.status()["error"]
    eventually(lambda: is_served(stored))
