"""Endpoints with host names: Envoy reaches their servers, and no name holds up a change."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.integration.gateway import Config, Gateway, base_config, bearer, eventually, running
from tests.integration.load import Load
from tests.integration.name_server import NameServer, name_server

PATH = "/v2/models/echo/x"
UNFINISHED = "continues without nodes that did not respond"


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with name_server() as server:
        server.addresses = {
            "four.test": ["127.0.0.1"],
            "other.test": ["127.0.0.1"],
            "dual.test": ["2001:db8::1", "127.0.0.1"],
            "six.test": ["::1"],
        }
        server.silent = {"silent.test"}
        yield server


@pytest.fixture(scope="module")
def own(names: NameServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    envoy = names.envoy(tmp_path_factory.mktemp("envoy"))
    with running(base_config(), "--envoy", str(envoy)) as gateway:
        yield gateway


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class ServerOnIpv6(HTTPServer):
    address_family = socket.AF_INET6


@contextmanager
def server_on_ipv6() -> Iterator[int]:
    """Runs a server that listens on ::1, and on no IPv4 address; yields its port."""
    with ServerOnIpv6(("::1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def endpoints(*addresses: str) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        served = [{"address": address} for address in addresses]
        config["models"]["echo"]["versions"]["v1"] = {"endpoints": served}

    return change


def port(gateway: Gateway) -> int:
    """The port of the server of echo/v2, which no test changes."""
    address = gateway.config["models"]["echo"]["versions"]["v2"]["endpoints"][0]["address"]
    return int(address.rpartition(":")[2])


def status(gateway: Gateway) -> int:
    with gateway.client() as client:
        return client.get(PATH, headers=bearer()).status_code


def test_endpoints_change_between_addresses_and_names_without_a_failed_request(
    own: Gateway,
) -> None:
    server = port(own)
    changes = [
        ("four.test",),
        ("127.0.0.1",),
        ("localhost",),
        ("other.test",),
        ("four.test",),
        ("127.0.0.1", "four.test"),
        ("127.0.0.1", "localhost"),
        ("localhost", "four.test", "127.0.0.1"),
        ("dual.test",),
        ("unknown.test", "127.0.0.1"),
        ("silent.test", "127.0.0.1"),
        ("127.0.0.1",),
    ]
    with Load(own.config["listener"]["address"], PATH, bearer()) as traffic:
        traffic.wait_for(50)
        for hosts in changes:
            own.edit(endpoints(*(f"{host}:{server}" for host in hosts)))
            traffic.wait_for(50)
    assert traffic.failures == []
    assert UNFINISHED not in own.log.read_text()


def test_a_name_replaces_the_endpoints_without_a_failed_request(own: Gateway) -> None:
    server = port(own)

    def resolve(kind: str) -> Callable[[Config], None]:
        def change(config: Config) -> None:
            dns = {"name": "four.test", "port": server, "kind": kind}
            config["models"]["echo"]["versions"]["v1"] = {"endpoints_from": {"dns": dns}}

        return change

    with Load(own.config["listener"]["address"], PATH, bearer()) as traffic:
        traffic.wait_for(50)
        for change in (resolve("strict"), resolve("logical"), endpoints(f"127.0.0.1:{server}")):
            own.edit(change)
            traffic.wait_for(50)
    assert traffic.failures == []


@pytest.mark.parametrize("host", ["localhost", "model.localhost", "six.test", "[::1]"])
def test_a_server_is_found_on_ipv6(own: Gateway, host: str) -> None:
    with server_on_ipv6() as server:
        own.edit(endpoints(f"{host}:{server}"))
        assert status(own) == 204
        own.edit(endpoints(f"127.0.0.1:{port(own)}"))
        assert status(own) == 200


def test_a_name_without_addresses_delays_no_other_change(own: Gateway, names: NameServer) -> None:
    server = port(own)

    def add(config: Config) -> None:
        echo = config["models"]["echo"]
        for name in ("silent", "later"):
            versions = {"v1": {"endpoints": [{"address": f"{name}.test:{server}"}]}}
            config["models"][name] = {
                **echo,
                "paths": [f"/v2/models/echo/{name}"],
                "versions": versions,
                "stable": "v1",
            }
        config["models"]["echo"]["stable"] = "v2"

    own.edit(add)
    with own.client() as client:
        assert client.get(PATH, headers=bearer()).json()["version"] == "v2"
        later = "/v2/models/echo/later"
        assert client.get(later, headers=bearer()).status_code == 503
        names.addresses["later.test"] = ["127.0.0.1"]
        eventually(lambda: client.get(later, headers=bearer()).status_code == 200)
    assert UNFINISHED not in own.log.read_text()


def test_a_gateway_starts_although_no_name_server_responds(
    names: NameServer, tmp_path: Path
) -> None:
    config = base_config()
    versions = config["models"]["echo"]["versions"]
    versions["v2"]["endpoints"] = [{"address": "silent.test:1"}]
    collector = {"address": "silent.test:1"}
    config["telemetry"] |= {"tracing": {"otlp": collector}, "otlp_log": collector}
    with running(config, "--envoy", str(names.envoy(tmp_path))) as gateway:
        assert status(gateway) == 200
