"""A healthy gateway logs no warning: not at its start, not while a config is edited, not at its
stop.
"""

import re
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.extproc.transport.certificates import CertificateAuthority
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


def tracing(config: Config) -> None:
    collector = {"address": f"127.0.0.1:{free_ports(1)[0]}"}
    config["telemetry"] |= {"tracing": {"otlp": collector}, "otlp_log": collector}


def one_worker_and_names(config: Config) -> None:
    for version in config["models"]["echo"]["versions"].values():
        for endpoint in version["endpoints"]:
            endpoint["address"] = endpoint["address"].replace("127.0.0.1", "localhost")
    control_plane = config["control_plane"]
    config["control_plane"] = {
        key: address.replace("127.0.0.1", "localhost") for key, address in control_plane.items()
    }
    config["callout"]["address"] = f"localhost:{free_ports(1)[0]}"
    config["callout"]["workers"] = 1


def limits(config: Config) -> None:
    config["limits"] |= {
        "rules": [{"name": "all", "key": ["subject"], "rate": 100, "burst": 100}],
        "domains": {"apps": {"descriptors": [{"key": "user"}]}},
    }


SHAPES = [
    ([health_check, breaker], signal.SIGINT),
    ([three_workers, limits], signal.SIGTERM),
    ([one_worker_and_names, tracing], signal.SIGINT),
]


def warnings(gateway: Gateway) -> list[str]:
    lines = gateway.log.read_text().splitlines()
    return [line for line in lines if WARNING.search(line) and ENVOY_STOPS not in line]


def check_run(
    config: Config, stop: signal.Signals, *, verify: ssl.SSLContext | None = None
) -> None:
    """Runs a gateway: a request, an edit, a request, a stop."""
    gateway = Gateway(config)
    try:
        gateway.start()
        url = gateway.url if verify is None else gateway.url.replace("http:", "https:")
        with httpx.Client(base_url=url, verify=verify or True) as client:
            for stable in ("v2", "v1"):
                gateway.edit(lambda config, v=stable: config["models"]["echo"].update(stable=v))
                response = client.post("/v2/models/echo/x", json={}, headers=bearer())
                assert response.json()["version"] == stable
        assert gateway.process is not None
        gateway.process.send_signal(stop)
        assert gateway.process.wait(60) == 0
        assert warnings(gateway) == []
    finally:
        gateway.stop()


@pytest.mark.parametrize(("shapes", "stop"), SHAPES)
def test_a_healthy_gateway_logs_no_warning(
    shapes: list[Callable[[Config], None]], stop: signal.Signals
) -> None:
    config = base_config()
    for shape in shapes:
        shape(config)
    check_run(config, stop)


def test_a_healthy_gateway_with_tls_logs_no_warning(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    certificate, key = authority.issue("gateway")
    config = base_config()
    config["listener"]["tls"] = {"certificate": str(certificate), "private_key": str(key)}
    context = ssl.create_default_context(cafile=authority.path)
    check_run(config, signal.SIGTERM, verify=context)
