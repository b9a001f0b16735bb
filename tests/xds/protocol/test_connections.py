"""The server closes the connection of one client."""

import socket

import pytest

from xds.protocol.connections import client_address, close_connection


@pytest.mark.parametrize(
    ("host", "scheme"), [("127.0.0.1", "ipv4:{}"), ("::1", "ipv6:%5B{}%5D"), ("::1", "ipv6:[{}]")]
)
def test_the_connection_of_a_peer_is_closed_and_no_other_one(host: str, scheme: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        address, port = server.getsockname()[:2]
        with (
            socket.create_connection((address, port)) as closed,
            server.accept()[0],
            socket.create_connection((address, port)) as other,
            server.accept()[0] as peer,
        ):
            name = f"{scheme.format(host)}:{closed.getsockname()[1]}"
            assert not close_connection(name, port + 1)
            assert close_connection(name, port)
            assert closed.recv(1) == b""
            peer.send(b"1")
            assert other.recv(1) == b"1"


def test_an_ipv4_client_of_a_socket_for_both_families_is_found() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            assert close_connection(f"ipv4:127.0.0.1:{client.getsockname()[1]}", port)
            assert client.recv(1) == b""


def test_a_peer_on_a_unix_socket_has_no_connection_to_close() -> None:
    assert not close_connection("unix:", 1)
    assert not close_connection("unix:/tmp/xds", 1)


def test_the_address_of_a_peer_has_no_port() -> None:
    assert client_address("ipv4:127.0.0.1:1234") == "ipv4:127.0.0.1"
