"""The gateway recovers when one of its processes dies, and admits no request without a decision."""

import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from sluice.cli import main
from sluice.contract.names import CALLOUT_CLUSTER
from tests import plain_http
from tests.integration.gateway import (
    Gateway,
    base_config,
    bearer,
    command_line,
    eventually,
    running,
)
from tests.integration.load import Load

PATH = "/v2/models/echo/x"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def damaged() -> Iterator[Gateway]:
    """A gateway whose processes the tests of this module kill."""
    config = base_config()
    # Clusters with health checks take time to warm when the control plane starts again.
    for version in config["models"]["echo"]["versions"].values():
        version["health_check"] = {"interval": "0.5s", "timeout": "2s"}
    with running(config) as gateway:
        yield gateway


def load(gateway: Gateway) -> Load:
    return Load(gateway.config["listener"]["address"], PATH, {**JSON, **bearer()})


def test_no_request_fails_when_the_workers_are_killed_one_after_the_other(
    damaged: Gateway,
) -> None:
    """The second one is killed as soon as Envoy calls the first one again."""
    with load(damaged) as traffic:
        traffic.wait_for(100)
        for victim in damaged.workers():
            os.kill(victim, signal.SIGKILL)
            eventually(partial(_is_replaced, damaged, victim))
            eventually(lambda: _workers_in_rotation(damaged) == 2)
        traffic.wait_for(1000)
    assert traffic.failures == []


def _is_replaced(gateway: Gateway, victim: int) -> bool:
    """Whether another process has taken the place of a worker."""
    workers = gateway.workers()
    return len(workers) == 2 and victim not in workers


def _workers_in_rotation(gateway: Gateway) -> int:
    """The number of workers that Envoy calls."""
    url = f"http://{gateway.config['envoy']['admin']}/clusters?format=json"
    clusters = plain_http.get(url).json()["cluster_statuses"]
    (callout,) = (c for c in clusters if c["name"] == CALLOUT_CLUSTER)
    healths = (host["health_status"] for host in callout["host_statuses"])
    return sum(not any(flag is True for flag in health.values()) for health in healths)


def test_no_request_fails_when_a_worker_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    config = base_config()
    config["callout"]["hang_timeout"] = "3s"
    with running(config) as gateway:
        victim = gateway.workers()[0]
        with load(gateway) as traffic:
            traffic.wait_for(100)
            os.kill(victim, signal.SIGSTOP)
            eventually(lambda: _states(gateway).get(victim) == "silent")
            assert main(["status", "--url", f"http://{config['control_plane']['http']}"]) == 0
            assert f"{victim}\n" in capsys.readouterr().out
            eventually(lambda: victim not in _states(gateway))
            eventually(partial(_is_replaced, gateway, victim))
            traffic.wait_for(1000)
        assert traffic.failures == []
        assert f"(pid {victim}) hangs" in gateway.log.read_text()
        assert set(_states(gateway).values()) == {"running"}


def _states(gateway: Gateway) -> dict[int, str]:
    """The states of the workers, by process id."""
    address = gateway.config["telemetry"]["metrics"]["address"]
    workers = plain_http.get(f"http://{address}/v1/status").json()["workers"]
    return {worker["pid"]: worker["state"] for worker in workers}


def test_no_request_fails_while_the_control_plane_is_replaced(damaged: Gateway) -> None:
    (victim,) = damaged.processes("control-plane")
    with load(damaged) as traffic:
        traffic.wait_for(100)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in damaged.processes("control-plane"))
        eventually(lambda: _all_nodes_in_sync(damaged))
        traffic.wait_for(200)
    assert traffic.failures == []
    # The new control plane applies edits.
    damaged.edit(lambda config: config["models"]["echo"].update(stable="v2"))


def _all_nodes_in_sync(gateway: Gateway) -> bool:
    try:
        return gateway.in_sync() and len(gateway.status()["nodes"]) == 3
    except OSError:
        return False


def test_no_request_is_admitted_while_no_worker_runs() -> None:
    with running(base_config()) as gateway:
        supervisor = next(
            pid for pid in gateway.processes(" callout ") if "--xds" in command_line(pid)
        )
        # A stopped supervisor does not replace its workers.
        os.kill(supervisor, signal.SIGSTOP)
        workers = gateway.workers()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        # A killed worker stays a zombie while the supervisor is stopped.
        eventually(lambda: not any(map(command_line, workers)))
        with gateway.client() as client:
            for headers in ({}, bearer()):
                response = client.post(PATH, json={}, headers=headers)
                assert response.status_code in (500, 503, 504)
                assert "version" not in response.json()
        os.kill(supervisor, signal.SIGCONT)


def test_an_interrupt_ends_every_process() -> None:
    with running(base_config()) as gateway:
        assert gateway.process is not None
        pids = gateway.processes("")
        assert len(pids) > 5
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(60) == 0
        eventually(lambda: not any(map(_exists, pids)))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
