"""`sluice envoy` runs one Envoy, and drains it before it ends. So does `sluice up` at SIGTERM."""

import contextlib
import copy
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from h2.connection import H2Connection

from sluice.contract.paths import READY
from sluice.envoy_binary import find_envoy
from tests import plain_http
from tests.extproc.transport.certificates import CertificateAuthority
from tests.integration.gateway import (
    INFER,
    Config,
    Gateway,
    base_config,
    bearer,
    command_line,
    descendants,
    eventually,
    free_ports,
    running,
)
from tests.integration.load import Load
from tests.integration.raw_server import Exchange, RawServer

PLAIN, ENCRYPTED = "edge-plain", "edge-encrypted"
"""Node ids. Each has a listener of its own."""

HEADERS, GOAWAY = 1, 7
"""Types of frames of HTTP/2 (RFC 9113 section 6)."""

SLOW = {"x-slow": "yes"}
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


@dataclass
class Fleet:
    """A gateway, and what further Envoys of it need. `release` ends the slow requests."""

    gateway: Gateway
    authority: CertificateAuthority
    release: threading.Event
    held: threading.Semaphore

    def script(self, exchange: Exchange) -> None:
        """Answers requests. Slow ones wait for `release`."""
        exchange.body()
        if "x-slow" in exchange.headers:
            self.held.release()
            assert self.release.wait(60)
        exchange.send(ANSWER)


@pytest.fixture(scope="module")
def fleet(server: RawServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    authority = CertificateAuthority(tmp_path_factory.mktemp("tls"))
    certificate, key = authority.issue("gateway")
    config = base_config()
    config["callout"]["workers"] = 1
    config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"] = server.address
    for node, port in zip((PLAIN, ENCRYPTED), free_ports(2), strict=True):
        listener: Config = {"address": f"127.0.0.1:{port}"}
        if node is ENCRYPTED:
            listener["tls"] = {"certificate": str(certificate), "private_key": str(key)}
        config.setdefault("node_groups", {})[node] = {
            "match": {"ids": [node]}, "listener": listener,
        }  # fmt: skip
    with running(config, demo=False) as gateway:
        yield Fleet(gateway, authority, threading.Event(), threading.Semaphore(0))


@dataclass
class EdgeEnvoy:
    """A `sluice envoy` process."""

    process: subprocess.Popen[bytes]
    log: Path
    admin: str
    address: str
    """Where it listens for clients."""

    def stat(self, name: str) -> int:
        """A counter or gauge of the listener for clients."""
        answer = plain_http.get(f"http://{self.admin}/stats?filter=^http.gateway.{name}$").text
        return int(answer.partition(": ")[2] or 0)


@contextlib.contextmanager
def edge(
    fleet: Fleet, tmp_path: Path, node: str = PLAIN, edit: dict[str, Any] | None = None
) -> Iterator[EdgeEnvoy]:
    """Run `sluice envoy`. The rest of its config has an error, which it does not need to notice."""
    config = copy.deepcopy(fleet.gateway.config)
    admin = f"127.0.0.1:{free_ports(1)[0]}"
    config["envoy"] = {"admin": admin, "drain": {"minimum": 0}, "concurrency": 1}
    config["models"] = "an error"
    for section, keys in (edit or {}).items():
        config[section].update(keys)
    file, log = tmp_path / "gateway.yaml", tmp_path / f"{node}.log"
    file.write_text(yaml.safe_dump(config))
    argv = [sys.executable, "-m", "sluice.cli", "envoy", str(file), "--node-id", node]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*argv, "--group", node], stdout=output, stderr=output, start_new_session=True
        )
    address = config["node_groups"][node]["listener"]["address"]
    try:
        yield EdgeEnvoy(process, log, admin, address)
    except BaseException:
        print(log.read_text()[-5000:])
        raise
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def client_of(fleet: Fleet, envoy: EdgeEnvoy, node: str) -> Iterator[httpx.Client]:
    """A client of the listener, which has TLS or not."""
    options: dict[str, Any] = {"base_url": f"http://{envoy.address}"}
    if node == ENCRYPTED:
        context = ssl.create_default_context(cafile=fleet.authority.path)
        context.check_hostname = False
        options = {"base_url": f"https://{envoy.address}", "verify": context}
    with plain_http.client(**options, timeout=60) as client:
        yield client


def http2_frames(address: str) -> list[int]:
    """The types of the frames by which a server answers a request for its readiness."""
    found: list[int] = []
    connection = H2Connection()
    connection.initiate_connection()
    head = {":method": "GET", ":scheme": "http", ":authority": address, ":path": READY}
    connection.send_headers(1, list(head.items()), end_stream=True)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 60) as sock, sock.makefile("rb") as stream:
        sock.sendall(connection.data_to_send())
        while HEADERS not in found:
            frame = stream.read(9)
            stream.read(int.from_bytes(frame[:3], "big"))
            found.append(frame[3])
    return found


def is_ready(fleet: Fleet, envoy: EdgeEnvoy, node: str) -> bool:
    """Whether the readiness, asked on a new connection, is 200. It must be answered otherwise."""
    with client_of(fleet, envoy, node) as client:
        return client.get(READY).status_code == 200


def wait_until_ready(fleet: Fleet, envoy: EdgeEnvoy, node: str = PLAIN) -> None:
    def ready() -> bool:
        assert envoy.process.poll() is None, "sluice envoy has ended"
        with contextlib.suppress(httpx.TransportError):
            return is_ready(fleet, envoy, node)
        return False

    eventually(ready)


@contextlib.contextmanager
def slow_request(fleet: Fleet, server: RawServer, client: httpx.Client) -> Iterator[Future[int]]:
    """The status of a request that is at the model server, which has not answered it."""
    fleet.release.clear()
    server.serve(fleet.script)
    with ThreadPoolExecutor(1) as pool:
        try:
            headers = bearer() | SLOW
            sent = pool.submit(lambda: client.post(INFER, json={}, headers=headers).status_code)
            assert fleet.held.acquire(timeout=60)
            yield sent
        finally:
            fleet.release.set()


@pytest.mark.parametrize("node", [PLAIN, ENCRYPTED])
def test_sigterm_drains_envoy(fleet: Fleet, server: RawServer, tmp_path: Path, node: str) -> None:
    with edge(fleet, tmp_path, node) as envoy:
        wait_until_ready(fleet, envoy, node)
        for path in ("/healthcheck/fail", "/drain_listeners", "/quitquitquit"):
            assert plain_http.post(f"http://{envoy.admin}{path}").status_code == 403
        with (
            client_of(fleet, envoy, node) as client,
            client_of(fleet, envoy, node) as kept,
            slow_request(fleet, server, client) as sent,
        ):
            kept.get(READY).raise_for_status()
            if node == PLAIN:
                assert GOAWAY not in http2_frames(envoy.address)
            envoy.process.send_signal(signal.SIGTERM)
            # A new connection is accepted, and told that the gateway is not ready.
            eventually(lambda: not is_ready(fleet, envoy, node))
            response = kept.post(INFER, json={}, headers=bearer())
            assert (response.status_code, response.headers["connection"]) == (200, "close")
            if node == PLAIN:
                assert GOAWAY in http2_frames(envoy.address)
            for path in ("/drain_listeners", "/quitquitquit", "/healthcheck/ok", "/logging"):
                assert plain_http.post(f"http://{envoy.admin}{path}").status_code == 403
            assert envoy.process.poll() is None
            assert not sent.done()
            fleet.release.set()
            assert sent.result(60) == 200
            assert envoy.process.wait(60) == 0


def test_a_request_that_does_not_end_is_ended_at_the_timeout(
    fleet: Fleet, server: RawServer, tmp_path: Path
) -> None:
    drain = {"envoy": {"drain": {"minimum": 0, "timeout": 1}}}
    with edge(fleet, tmp_path, edit=drain) as envoy:
        wait_until_ready(fleet, envoy)
        with (
            client_of(fleet, envoy, PLAIN) as client,
            slow_request(fleet, server, client) as sent,
        ):
            envoy.process.send_signal(signal.SIGTERM)
            assert envoy.process.wait(60) == 0
            assert isinstance(sent.exception(60), httpx.TransportError)
        assert "not become idle in 1 s (envoy.drain.timeout)" in envoy.log.read_text()


def test_without_a_control_plane_a_second_sigterm_ends_envoy_at_once(
    fleet: Fleet, tmp_path: Path
) -> None:
    edit = {
        "envoy": {"drain": {"minimum": 3600, "timeout": 3600}},
        "control_plane": {"xds": f"127.0.0.1:{free_ports(1)[0]}"},
    }
    with edge(fleet, tmp_path, edit=edit) as envoy:

        def state() -> str:
            with contextlib.suppress(httpx.TransportError):
                return plain_http.get(f"http://{envoy.admin}/ready").text.strip()
            return ""

        eventually(lambda: state() != "")
        envoy.process.send_signal(signal.SIGTERM)
        eventually(lambda: "draining Envoy" in envoy.log.read_text())
        assert envoy.process.poll() is None
        envoy.process.send_signal(signal.SIGTERM)
        assert envoy.process.wait(60) == 0


def test_the_command_fails_when_envoy_ends(fleet: Fleet, tmp_path: Path) -> None:
    with edge(fleet, tmp_path) as envoy:
        wait_until_ready(fleet, envoy)
        binary = str(find_envoy())
        (pid,) = (p for p in descendants(envoy.process.pid) if binary in command_line(p))
        os.kill(pid, signal.SIGKILL)
        assert envoy.process.wait(60) == 1
        assert "Envoy ended with SIGKILL" in envoy.log.read_text()


def front(folder: Path, backends: list[str]) -> tuple[list[str], str, str]:
    """An Envoy that balances the load of backends whose readiness it checks: its command line,
    its address and its admin interface.
    """
    listener, admin = (f"127.0.0.1:{port}" for port in free_ports(2))
    check = {
        "timeout": "1s", "interval": "0.1s", "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 1, "healthy_threshold": 1,
        "http_health_check": {"path": READY},
    }  # fmt: skip
    kind = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"],
             "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "gateways"}}]}
        ]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}}
        ],
    }  # fmt: skip
    filters = [{"name": "manager", "typed_config": manager}]
    config = {
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [{"address": _address(listener), "filter_chains": [{"filters": filters}]}],
            "clusters": [{
                "name": "gateways", "type": "STATIC", "health_checks": [check],
                "load_assignment": {"cluster_name": "gateways", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": _address(each)}} for each in backends
                ]}]},
            }],
        },
    }  # fmt: skip
    file = folder / "front.yaml"
    file.write_text(yaml.safe_dump(config))
    argv = [str(find_envoy()), "-c", str(file), "--disable-hot-restart", "--concurrency", "1"]
    return [*argv, "--log-level", "error"], listener, admin


def _address(text: str) -> Config:
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def healthy_backends(admin: str) -> int:
    with contextlib.suppress(httpx.TransportError):
        clusters = plain_http.get(f"http://{admin}/clusters").text
        return clusters.count("::health_flags::healthy")
    return 0


def test_a_rolling_restart_behind_a_load_balancer_fails_no_request(
    fleet: Fleet, server: RawServer, tmp_path: Path
) -> None:
    server.serve(fleet.script)
    minimum = {"envoy": {"drain": {"minimum": 1}}}
    with edge(fleet, tmp_path, edit=minimum) as envoy:
        wait_until_ready(fleet, envoy)
        other = fleet.gateway.config["listener"]["address"]
        argv, address, admin = front(tmp_path, [envoy.address, other])
        balancer = subprocess.Popen(argv)
        try:
            eventually(lambda: healthy_backends(admin) == 2)
            with Load(address, INFER, bearer()) as load:
                load.wait_for(100)
                served = envoy.stat("downstream_rq_completed")
                assert served > 20
                envoy.process.send_signal(signal.SIGTERM)
                assert envoy.process.wait(60) == 0
                load.wait_for(100)
            assert load.failures == []
        finally:
            balancer.kill()
            balancer.wait()


def test_a_whole_gateway_lets_open_requests_end_at_sigterm(fleet: Fleet, server: RawServer) -> None:
    """The last test of this module: it stops the gateway."""
    gateway = fleet.gateway
    assert gateway.process is not None
    with gateway.client() as client, slow_request(fleet, server, client) as sent:
        gateway.process.send_signal(signal.SIGTERM)
        with gateway.client() as new:
            eventually(lambda: new.get(READY).status_code == 503)
        assert not sent.done()
        fleet.release.set()
        assert sent.result(60) == 200
        assert gateway.process.wait(60) == 0
