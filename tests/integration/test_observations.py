"""With a real Envoy: the control plane learns what Envoy and workers see of each version."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from protos.client_status_pb2 import ClientConfig, ClientStatusRequest, ClientStatusResponse
from sluice.contract.paths import CSDS_FETCH, CSDS_SERVICE
from tests import plain_http
from tests.integration.gateway import Gateway, base_config, bearer, eventually, running

NATIVE, CALLOUT = "infer", "other"
"""Operations whose requests Envoy admits alone, and the callout."""


MIN_VOLUME = 300
"""Requests that a breaker needs: more than the tests of counts send."""


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    config = base_config()
    config["models"]["echo"]["breaker"] = {"min_volume": MIN_VOLUME, "sample": MIN_VOLUME}
    with running(config) as gateway:
        yield gateway


def send(gateway: Gateway, operation: str, version: str, count: int) -> None:
    headers = {"x-model-version": version, **bearer()}
    with gateway.client() as client:
        for _ in range(count):
            client.post(f"/v2/models/echo/{operation}", json={}, headers=headers)


def total(gateway: Gateway, name: str, version: str) -> float:
    """A counter of the control plane."""
    url = f"http://{gateway.config['control_plane']['http']}/metrics"
    series = f'{name}{{model="echo",version="{version}"}} '
    lines = plain_http.get(url).text.splitlines()
    return sum(float(line.removeprefix(series)) for line in lines if line.startswith(series))


@contextmanager
def faults(gateway: Gateway, version: str, **faults: float) -> Iterator[None]:
    """The model server of the version fails or is slow in the block."""
    endpoint = gateway.config["models"]["echo"]["versions"][version]["endpoints"][0]["address"]
    control = f"http://{endpoint}/control"
    plain_http.post(control, json=faults).raise_for_status()
    yield
    plain_http.post(control, json=dict.fromkeys(faults, 0)).raise_for_status()


def seen(gateway: Gateway, version: str) -> dict[str, Any]:
    """What the status shows of the traffic of a version; empty if nothing."""
    found = (each for each in gateway.status()["traffic"] if each["version"] == version)
    return next(found, {})


@pytest.mark.parametrize("operation", [NATIVE, CALLOUT])
def test_envoy_reports_requests_and_errors_of_each_version(own: Gateway, operation: str) -> None:
    requests, errors = (f"sluice_xds_upstream_{name}_total" for name in ("requests", "errors"))

    def counts(version: str) -> bool:
        """Whether Envoy has begun to count the requests to a version."""
        send(own, operation, version, 1)
        return total(own, requests, version) > 0

    eventually(lambda: counts("v1") and counts("v2"))
    sent, failed = total(own, requests, "v1"), total(own, errors, "v2")
    with faults(own, "v2", fail_rate=1):
        send(own, operation, "v2", 20)
    send(own, operation, "v1", 30)
    eventually(
        lambda: total(own, errors, "v2") == failed + 20 and total(own, requests, "v1") >= sent + 30
    )
    assert total(own, errors, "v1") == 0


def test_workers_report_latencies_of_each_version(own: Gateway) -> None:
    def sees(version: str, slow: bool) -> bool:
        window = seen(own, version)
        return (
            window.get("source") == "worker"
            and window["state"] == "current"
            and (window["p99"] > 0.1) is slow
        )

    send(own, NATIVE, "v1", 20)
    with faults(own, "v2", delay_ms=150):
        send(own, NATIVE, "v2", 3)
        send(own, CALLOUT, "v2", 3)
    eventually(lambda: sees("v1", slow=False) and sees("v2", slow=True))


def test_the_control_plane_knows_the_breakers(own: Gateway) -> None:
    breakers = own.status()["breakers"]
    assert (breakers["known"], breakers["not_closed"], breakers["unprotected"]) == (True, [], 0)
    assert breakers["closed"] > 0
    with faults(own, "v2", fail_rate=1):
        send(own, NATIVE, "v2", MIN_VOLUME + 50)
        eventually(lambda: own.status()["breakers"]["not_closed"] != [])
    (breaker,) = own.status()["breakers"]["not_closed"]
    assert (breaker["model"], breaker["version"]) == ("echo", "v2")
    assert breaker["state"] in {"open", "reduced"}
    assert breaker["error_rate"] > 0.1


def test_the_client_status_shows_what_envoy_and_workers_have_accepted(own: Gateway) -> None:
    with grpc.insecure_channel(own.config["control_plane"]["xds"]) as channel:
        fetch = channel.unary_unary(
            f"/{CSDS_SERVICE}/{CSDS_FETCH}",
            ClientStatusRequest.SerializeToString,
            ClientStatusResponse.FromString,
        )
        clients = {each.node.id: each for each in fetch(ClientStatusRequest()).config}
    envoy = clients.pop("envoy")
    assert len(clients) == 2
    assert all(
        (each.config_status, each.client_status) == (ClientConfig.SYNCED, ClientConfig.ACKED)
        for client in (envoy, *clients.values())
        for each in client.generic_xds_configs
    )
    assert {"echo/v1", "echo/v2", "gateway"} <= {each.name for each in envoy.generic_xds_configs}
