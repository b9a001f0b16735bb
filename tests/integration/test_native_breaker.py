"""With a real Envoy: the callout switches native routes off while a breaker is not closed."""

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from sluice.contract.names import RUNTIME_CLUSTER
from tests.integration.gateway import (
    Gateway,
    base_config,
    bearer,
    eventually,
    running,
)

PATH = "/v2/models/echo/x"
BREAKER = {"window": "2s", "buckets": 20, "min_volume": 10, "probe_successes": 5}
KEYS_OF_A_VERSION = 2
"""The key of the version and that of its model."""


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    config = base_config()
    config["models"]["echo"]["breaker"] = BREAKER
    config["callout"]["hang_timeout"] = "60s"
    with running(config) as gateway:
        yield gateway


def statistic(gateway: Gateway, name: str) -> int:
    """A statistic of Envoy."""
    url = f"http://{gateway.config['envoy']['admin']}/stats"
    found = httpx.get(url, params={"filter": f"^{name}$"}).text
    return int(found.partition(":")[2])


def keys(gateway: Gateway) -> int:
    """How many keys switch routes off."""
    return statistic(gateway, "runtime.num_keys")


def streams(gateway: Gateway) -> int:
    """How many streams Envoy has opened to the workers to get the keys."""
    return statistic(gateway, f"cluster.{RUNTIME_CLUSTER}.upstream_rq_total")


def fail(gateway: Gateway, share: float) -> None:
    endpoint = gateway.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"]
    httpx.post(f"http://{endpoint}/control", json={"fail_rate": share}).raise_for_status()


def send(client: httpx.Client, count: int = 1) -> list[int]:
    headers = bearer()
    return [client.post(PATH, json={}, headers=headers).status_code for _ in range(count)]


def open_breaker(gateway: Gateway) -> None:
    """Let a version fail, and wait until Envoy knows."""
    fail(gateway, 1.0)
    with gateway.client() as client:
        eventually(lambda: bool(send(client, 10)) and keys(gateway) == KEYS_OF_A_VERSION)


def close_breaker(gateway: Gateway) -> None:
    """Let the version recover, and wait until Envoy knows."""
    fail(gateway, 0.0)
    with gateway.client() as client:
        eventually(lambda: send(client) == [200] and keys(gateway) == 0, 20)


def test_native_routes_are_off_until_the_breaker_is_closed_again(own: Gateway) -> None:
    assert keys(own) == 0
    open_breaker(own)
    close_breaker(own)


def test_the_control_plane_is_not_needed(own: Gateway) -> None:
    (pid,) = own.processes("control-plane")
    os.kill(pid, signal.SIGSTOP)
    try:
        open_breaker(own)
        close_breaker(own)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_each_worker_can_switch_routes_off_while_the_other_hangs(own: Gateway) -> None:
    for worker in own.workers():
        os.kill(worker, signal.SIGSTOP)
        try:
            open_breaker(own)
            close_breaker(own)
        finally:
            os.kill(worker, signal.SIGCONT)


def test_the_state_outlives_a_worker(own: Gateway) -> None:
    open_breaker(own)
    before = streams(own)
    for worker in own.workers():
        os.kill(worker, signal.SIGKILL)
        eventually(lambda pid=worker: pid not in own.workers() and len(own.workers()) == 2)
    eventually(lambda: streams(own) > before)
    assert keys(own) == KEYS_OF_A_VERSION
    close_breaker(own)
