"""With a real Envoy: the control plane learns what Envoy and workers see of each version."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import plain_http
from tests.integration.gateway import Gateway, base_config, bearer, eventually, running

NATIVE, CALLOUT = "infer", "other"
"""Operations whose requests Envoy admits alone, and the callout."""


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    config = base_config()
    config["models"]["echo"]["breaker"] = {"min_volume": 1000, "sample": 1000}
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
def failing(gateway: Gateway, version: str) -> Iterator[None]:
    """Every request to the version fails in the block."""
    endpoint = gateway.config["models"]["echo"]["versions"][version]["endpoints"][0]["address"]
    control = f"http://{endpoint}/control"
    plain_http.post(control, json={"fail_rate": 1}).raise_for_status()
    yield
    plain_http.post(control, json={"fail_rate": 0}).raise_for_status()


@pytest.mark.parametrize("operation", [NATIVE, CALLOUT])
def test_envoy_reports_requests_and_errors_of_each_version(own: Gateway, operation: str) -> None:
    requests, errors = (f"sluice_xds_upstream_{name}_total" for name in ("requests", "errors"))

    def counts(version: str) -> bool:
        """Whether Envoy has begun to count the requests to a version."""
        send(own, operation, version, 1)
        return total(own, requests, version) > 0

    eventually(lambda: counts("v1") and counts("v2"))
    before = total(own, errors, "v2")
    with failing(own, "v2"):
        send(own, operation, "v2", 20)
        eventually(lambda: total(own, errors, "v2") == before + 20)
    assert total(own, errors, "v1") == 0
    before = total(own, requests, "v1")
    send(own, operation, "v1", 30)
    eventually(lambda: total(own, requests, "v1") >= before + 30)
