"""A healthy gateway logs no warning: not at its start, not while a config is edited, not at its
stop.
"""

import re
import signal
from collections.abc import Callable

import pytest

from tests.integration.gateway import Config, Gateway, base_config, bearer, free_ports

WARNING = re.compile(r"\]\[(?:warning|error|critical)\]\[|\b(?:WARNING|ERROR|CRITICAL|Traceback)\b")

ENVOY_STOPS = "caught ENVOY_SIGTERM"
"""Envoy logs its own stop as a warning."""


def health_check(config: Config) -> None:
    for version in config["models"]["echo"]["versions"].values():
        version["health_check"] = {"path": "/v2/health/ready", "interval": "1s"}


def breaker(config: Config) -> None:
    config["models"]["echo"]["breaker"] = {}


def three_workers(config: Config) -> None:
    config["callout"]["workers"] = 3


def one_worker_on_tcp(config: Config) -> None:
    config["callout"] = {"workers": 1, "address": f"127.0.0.1:{free_ports(1)[0]}"}


def tracing(config: Config) -> None:
    collector = {"address": f"127.0.0.1:{free_ports(1)[0]}"}
    config["telemetry"] |= {"tracing": {"otlp": collector}, "otlp_log": collector}


SHAPES = [
    (health_check, signal.SIGINT),
    (breaker, signal.SIGTERM),
    (three_workers, signal.SIGINT),
    (one_worker_on_tcp, signal.SIGTERM),
    (tracing, signal.SIGINT),
]


def warnings(gateway: Gateway) -> list[str]:
    lines = gateway.log.read_text().splitlines()
    return [line for line in lines if WARNING.search(line) and ENVOY_STOPS not in line]


@pytest.mark.parametrize(("shape", "stop"), SHAPES)
def test_a_healthy_gateway_logs_no_warning(
    shape: Callable[[Config], None], stop: signal.Signals
) -> None:
    config = base_config()
    shape(config)
    gateway = Gateway(config)
    try:
        gateway.start()
        with gateway.client() as client:
            response = client.post("/v2/models/echo/x", json={}, headers=bearer())
            assert response.json()["version"] == "v1"
            gateway.edit(lambda config: config["models"]["echo"].update(stable="v2"))
            response = client.post("/v2/models/echo/x", json={}, headers=bearer())
            assert response.json()["version"] == "v2"
        assert gateway.process is not None
        gateway.process.send_signal(stop)
        assert gateway.process.wait(30) == 0
        assert warnings(gateway) == []
    finally:
        gateway.stop()
