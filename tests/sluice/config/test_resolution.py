"""Host names that DNS does not know are found in a bounded time; nothing else is a warning."""

import socket
from threading import Event

from sluice.config import GatewayConfig
from sluice.config.resolution import MAX_HOSTS, unresolvable_hosts


def config(*addresses: str) -> GatewayConfig:
    endpoints = [{"address": address} for address in addresses]
    return GatewayConfig.model_validate(
        {"models": {"m": {"versions": {"v1": {"endpoints": endpoints}}}}}
    )


def unknown(_: str) -> object:
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


def unavailable(_: str) -> object:
    raise socket.gaierror(socket.EAI_AGAIN, "no server answers")


def test_a_name_without_address_is_a_warning_at_its_endpoint() -> None:
    def resolve(host: str) -> object:
        return unknown(host) if host == "b.example" else []

    found = list(unresolvable_hosts(config("a.example:1", "b.example:1", "b.example:2"), resolve))
    assert [each.path[-2:] for each in found] == [(1, "address")]
    assert found[0].code == "unresolvable_host"
    assert "correct the name" in found[0].message


def test_addresses_and_localhost_are_not_looked_up() -> None:
    addresses = ("127.0.0.1:1", "[::1]:1", "localhost:1", "a.localhost:1")
    assert list(unresolvable_hosts(config(*addresses), unknown)) == []


def test_a_dns_server_that_does_not_answer_is_no_warning() -> None:
    assert list(unresolvable_hosts(config("a.example:1"), unavailable)) == []
    never = Event()
    try:
        hosts = config(*(f"h{n}.example:1" for n in range(50)))
        assert list(unresolvable_hosts(hosts, lambda _: never.wait(), timeout=0.05)) == []
    finally:
        never.set()


def test_the_number_of_names_that_are_looked_up_is_bounded() -> None:
    hosts = config(*(f"h{n}.example:1" for n in range(MAX_HOSTS + 50)))
    assert len(list(unresolvable_hosts(hosts, unknown))) == MAX_HOSTS
