"""A start that fails says which part of the gateway is not ready, and why."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from sluice.envoy_binary import find_envoy
from tests.certificates import certificate, private_key
from tests.integration.gateway import Gateway, base_config, free_ports, jwks, running


def start_error(gateway: Gateway, *arguments: str, **environment: str) -> str:
    """What `sluice up` prints when it cannot start the gateway."""
    (gateway.directory / "jwks.json").write_text(jwks())
    gateway.write()
    started = subprocess.run(
        [sys.executable, "-m", "sluice.cli", "up", str(gateway.file), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert started.returncode in (1, 2)
    return started.stderr[started.stderr.index("sluice up: ") :]


def program(directory: Path, script: str) -> str:
    """An executable file with a shell script."""
    path = directory / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def unstarted() -> Iterator[Gateway]:
    gateway = Gateway(base_config(), demo=False)
    gateway.config["callout"] = {"workers": 1, "address": f"unix:{gateway.directory}/callout"}
    yield gateway
    shutil.rmtree(gateway.directory)


BLOCKED_CHILDREN = """\
import signal, sys

if "up" not in sys.orig_argv:
    signal.pause()
"""
"""A module that Python runs at every start. Only `sluice up` itself goes on."""


def test_a_start_that_takes_too_long_names_the_parts_that_are_not_ready(
    unstarted: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED_CHILDREN)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    error = start_error(unstarted, "--ready-timeout", "2s", PYTHONPATH=path)
    config = unstarted.config
    metrics = config["telemetry"]["metrics"]["address"]
    assert error.splitlines() == [
        "sluice up: the gateway was not ready within 2 s; it waits for:",
        f"  control plane: admin HTTP server does not listen on {config['control_plane']['http']}",
        f"  control plane: xDS server does not listen on {config['control_plane']['xds']}",
        f"  callout: worker 0 does not listen on {config['callout']['address']}-0",
        f"  callout: metrics endpoint does not listen on {metrics}",
        "  envoy: is not started yet",
    ]


def test_a_process_that_ends_at_once_ends_the_start_at_once(unstarted: Gateway) -> None:
    error = start_error(unstarted, "--envoy", program(unstarted.directory, "exit 3"))
    assert error == "sluice up: envoy ended with status 3 before it was ready\n"


def test_a_process_that_rejects_the_config_ends_the_start_with_its_reason(
    unstarted: Gateway,
) -> None:
    # Envoy refuses a certificate that needs an OCSP response.
    must_staple = x509.TLSFeature([x509.TLSFeatureType.status_request])
    (unstarted.directory / "cert.pem").write_bytes(certificate(extensions=[must_staple]))
    (unstarted.directory / "key.pem").write_bytes(private_key())
    tls = {"certificate": "cert.pem", "private_key": "key.pem"}
    unstarted.config["listener"]["tls"] = tls
    # `sluice up` reads the status also if only owners of tokens may.
    token = {"name": "ann", "role": "operator", "sha256": "0" * 64}
    unstarted.config["control_plane"]["access"] = {"tokens": [token]}
    error = start_error(unstarted)
    reason = "sluice up: the gateway cannot start with this config: envoy rejects listeners: "
    assert error.startswith(reason)
    assert "must-staple" in error


def test_a_start_prints_addresses_that_clients_can_use() -> None:
    config = base_config()
    port, admin = free_ports(2)
    config["listener"]["address"] = f"0.0.0.0:{port}"
    config["envoy"] |= {"admin": f"0.0.0.0:{admin}", "allow_remote_admin": True}
    with running(config, demo=False) as gateway:
        printed = gateway.log.read_text()
    for name, number in (("gateway", port), ("Envoy admin", admin)):
        line = f"  {name:<14} http://127.0.0.1:{number} (listens on 0.0.0.0:{number})\n"
        assert line in printed


SQUATTER = """\
import os, pathlib, socket, time

parent = os.getppid()
server = socket.create_server(({host!r}, {port}))
pathlib.Path({ready!r}).touch()
while os.getppid() == parent:
    time.sleep(0.1)
"""
"""Takes a port until its parent process ends."""


def test_a_port_that_is_taken_at_the_last_moment_ends_the_start(
    unstarted: Gateway, tmp_path: Path
) -> None:
    """Another process answers on the port of the listener. `sluice up` must not say ready."""
    host, port = unstarted.config["listener"]["address"].split(":")
    squatter, ready = tmp_path / "squatter.py", tmp_path / "ready"
    squatter.write_text(SQUATTER.format(host=host, port=port, ready=str(ready)))
    script = (
        f"{sys.executable} {squatter} > /dev/null 2>&1 &\n"
        f"while [ ! -e {ready} ]; do sleep 0.05; done\n"
        f'exec {find_envoy()} "$@"'
    )
    error = start_error(unstarted, "--envoy", program(unstarted.directory, script))
    assert "the gateway cannot start with this config: envoy rejects " in error
    assert "Sluice is ready" not in error
