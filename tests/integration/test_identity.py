"""A whole gateway with mutual TLS between its parts, started by one command."""

import os
import signal
import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.certificates import make_certificates
from sluice.cli.certs import PARTS
from tests import plain_http
from tests.integration.gateway import (
    INFER,
    Gateway,
    base_config,
    bearer,
    eventually,
    free_ports,
    running,
)

OPERATOR = replace(PARTS[2], name="ann", file="ann")


def make_files(folder: Path, *, new_authority: bool = False) -> None:
    now = datetime.now(UTC)
    parts = (*PARTS, OPERATOR)
    list(make_certificates(folder, parts, [], 3, now, new_authority=new_authority))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_files(folder)
    return folder


@pytest.fixture(scope="module")
def gateway(certificates: Path) -> Iterator[Gateway]:
    config = base_config("callout")
    named = {
        part: {"certificate": str(certificates / f"{file}.crt"),
               "private_key": str(certificates / f"{file}.key")}
        for part, file in (("control_plane", "control-plane"), ("callout",) * 2, ("envoy",) * 2)
    }  # fmt: skip
    config["identity"] = {"ca": str(certificates / "ca.crt"), **named}
    config["control_plane"]["access"] = {"certificates": [{"name": "ann", "role": "operator"}]}
    config["callout"] = {"workers": 1, "address": f"127.0.0.1:{free_ports(1)[0]}"}
    config["limits"]["rules"] = [{"name": "fleet", "rate": 1000, "burst": 1000}]
    with running(config) as gateway:
        yield gateway


@pytest.fixture
def operator(certificates: Path) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=certificates / "ca.crt")
    context.load_cert_chain(certificates / "ann.crt", certificates / "ann.key")
    with plain_http.client(verify=context, timeout=30) as client:
        yield client


def served(gateway: Gateway) -> bool:
    with gateway.client() as client:
        return client.post(INFER, headers=bearer(), json={}).status_code == 200


def explained(gateway: Gateway, operator: httpx.Client) -> dict[str, Any]:
    headers = {**bearer(), "content-type": "application/json"}
    request = {"method": "POST", "path": INFER, "headers": headers, "body": "{}"}
    url = f"https://{gateway.config['control_plane']['http']}/v1/explain"
    found: dict[str, Any] = operator.post(url, json=request).json()
    return found


def test_requests_are_served_and_explained(gateway: Gateway, operator: httpx.Client) -> None:
    assert served(gateway)
    explanation = explained(gateway, operator)
    assert explanation["decision"]["unknown"] == []
    (limit,) = explanation["limits"]
    assert (limit["rule"], limit["admits"]) == ("fleet", True)


def worker(gateway: Gateway, operator: httpx.Client) -> int:
    """The process id of the worker that has accepted the policy; 0 if there is none."""
    url = f"https://{gateway.config['control_plane']['http']}/v1/status"
    nodes = operator.get(url).json()["nodes"]
    return next((node["pid"] for node in nodes if node["kind"] == "callout"), 0)


def test_new_certificates_of_a_new_authority_need_no_restart(
    gateway: Gateway, operator: httpx.Client, certificates: Path
) -> None:
    before = worker(gateway, operator)
    make_files(certificates, new_authority=True)
    # The new worker connects to the control plane, and Envoy to the worker, with the new files.
    os.kill(before, signal.SIGKILL)
    eventually(lambda: worker(gateway, operator) not in (0, before))
    eventually(lambda: served(gateway))


def test_an_operator_is_revoked_at_all_servers(gateway: Gateway, operator: httpx.Client) -> None:
    config = gateway.config
    urls = [
        f"https://{config['control_plane']['http']}/v1/status",
        f"https://{config['telemetry']['metrics']['address']}/metrics",
    ]
    assert [operator.get(url).status_code for url in urls] == [200, 200]
    config["control_plane"]["access"] = {"certificates": [{"name": "bob", "role": "operator"}]}
    gateway.write()
    eventually(lambda: [operator.get(url).status_code for url in urls] == [401, 401])
