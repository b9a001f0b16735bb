"""With a real Envoy: one log line of a refusal shows which rule, limit or place caused it.

The line is the same whether Envoy admits requests alone or the callout decides all.
"""

import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway import (
    Gateway,
    base_config,
    bearer,
    eventually,
    free_ports,
    running,
)
from tests.integration.test_telemetry import logged, metric

ENOUGH = {"rate": 100_000, "burst": 100_000}
ONE = {"rate": 1, "burst": 1}
SHARED = {"rate": 1, "burst": 8}
"""One address can use two requests."""


ONE_NUMBER = {"shape": [1], "datatype": "FP32", "data": [1]}


@pytest.fixture(scope="module")
def silent() -> Iterator[socket.socket]:
    """A server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(placement: str, directory: Path, silent: socket.socket) -> Iterator[Gateway]:
    config = base_config(placement)
    echo = config["models"]["echo"]
    config["telemetry"]["access_log"] = {"output": str(directory / "access.log")}
    config["models"] |= {
        "small": {**echo, "max_body": "1KiB"},
        "private": {**echo, "access": {"allow": [{"groups": ["nobody"]}]}},
        "limited": echo,
        "shared": echo,
        "typed": {**echo, "type": "text b"},
        "slow": {**echo, "timeout": "200ms", "versions": served_by(silent.getsockname())},
        "gone": {**echo, "versions": served_by(("127.0.0.1", free_ports(1)[0]))},
        "tensors": {
            "stable": "v1",
            "versions": echo["versions"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}],
        },
    }
    config["limits"] = {
        "listener": ENOUGH,
        "models": {"limited": ONE, "shared": SHARED},
        "model_types": {"text b": ONE},
        "rules": [
            {
                "name": "per-user",
                "key": ["subject"],
                "match": [{"part": "model", "values": ["echo"]}],
                "rate": 1,
                "per": "hour",
            }
        ],
    }
    with running(config) as gateway:
        yield gateway


def served_by(address: tuple[str, int]) -> dict[str, Any]:
    """One version with this endpoint."""
    return {"v1": {"endpoints": [{"address": "{}:{}".format(*address)}]}}


_numbers = count()


def refused(gateway: Gateway, directory: Path, model: str, times: int = 1, **options: Any) -> Any:
    """The log line of the last of `times` equal requests to a model."""
    agent = f"{model}-{next(_numbers)}"
    headers = {**bearer("alice"), **options.pop("headers", {})}
    with gateway.client() as client:
        for number in range(times):
            last = agent if number == times - 1 else "others"
            client.post(
                f"/v2/models/{model}/infer",
                headers={**headers, "user-agent": last},
                **({"json": {}} | options),
            )
    return logged(directory, agent)


@pytest.mark.parametrize(
    ("model", "times", "rule", "placed"),
    [
        ("echo", 2, "per-user", "callout"),
        ("limited", 2, "limits.models.limited (address_share)", ""),
        ("shared", 3, "limits.models.shared (address_share)", ""),
        ("typed", 2, "limits.model_types.text b (address_share)", ""),
    ],
)
def test_the_line_of_a_429_names_the_limit(
    gateway: Gateway, directory: Path, model: str, times: int, rule: str, placed: str
) -> None:
    """Envoy enforces limits of models and model types before any decision."""
    line = refused(gateway, directory, model, times)
    assert (line["status"], line["reason"], line["model"]) == (429, "rate_limited", model)
    assert (line["rule"], line["placement"]) == (rule, placed)
    labels = {"model": model, "reason": "rate_limited", "rule": rule}
    eventually(lambda: metric(gateway, "sluice_requests_total", **labels) > 0)


@pytest.mark.parametrize(
    ("model", "options", "status", "rule", "details", "native"),
    [
        ("small", {"json": "x" * 2048}, 413, "max_body", "the body is larger than 1024", False),
        ("private", {}, 403, "access.allow", "the caller may not use this model", False),
        ("tensors", {"json": {"inputs": [{"name": "y", **ONE_NUMBER}]}}, 422, "", "inputs[0]",
         False),
        ("slow", {}, 504, "", "response_timeout", True),
        ("gone", {}, 503, "", "upstream_reset_before_response_started{", True),
    ],
)  # fmt: skip
def test_the_line_of_a_refusal_names_its_cause(
    gateway: Gateway,
    placement: str,
    directory: Path,
    model: str,
    options: dict[str, Any],
    status: int,
    rule: str,
    details: str,
    native: bool,
) -> None:
    line = refused(gateway, directory, model, **options)
    assert line["placement"] == ("native" if native and placement == "auto" else "callout")
    assert (line["status"], line["rule"]) == (status, rule)
    assert line["details"].startswith(details)


def test_the_line_of_an_open_breaker_names_the_version(gateway: Gateway, directory: Path) -> None:
    with gateway.client() as client:

        def is_open() -> bool:
            path, headers = "/v2/models/gone/infer", bearer()
            sent = [client.post(path, json={}, headers=headers) for _ in range(9)]
            return any(response.json()["reason"] == "breaker_open" for response in sent)

        eventually(is_open)
    line = refused(gateway, directory, "gone", times=2)
    assert (line["reason"], line["model"], line["version"]) == ("breaker_open", "gone", "v1")
    labels = {"model": "gone", "version": "v1", "reason": "breaker_open"}
    eventually(lambda: metric(gateway, "sluice_requests_total", **labels) > 0)


def test_a_client_cannot_forge_the_line_of_a_request_without_a_host(
    gateway: Gateway, directory: Path
) -> None:
    """Envoy refuses the request before it removes headers that only the gateway may set."""
    forged = {
        "x-model-service": "echo/v1", "x-sluice-subject": "admin", "x-sluice-reason": "stable",
        "x-sluice-method": "FORGED", "x-sluice-path": "/forged", "user-agent": "forger",
    }  # fmt: skip
    fields = "".join(f"{name}: {value}\r\n" for name, value in forged.items())
    host, _, port = gateway.config["listener"]["address"].rpartition(":")
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(f"GET /v2/models/echo HTTP/1.1\r\n{fields}\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    line = logged(directory, "forger")
    assert (line["method"], line["path"]) == ("GET", "/v2/models/echo")
    assert (line["model"], line["version"], line["subject"]) == ("", "", "")
