"""The state of an endpoint of the config, from the hosts that one Envoy has for it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from sluice.config.addresses import (
    LOOPBACK_HOSTS,
    is_ip,
    is_localhost,
    join_host_port,
    needs_dns,
    split_host_port,
)
from xds.envoys.source import Host

EndpointState = Literal[
    "healthy", "draining", "unhealthy", "ejected", "unreachable", "unresolved", "unknown"
]
"""`healthy`: Envoy sends it requests. `draining`: Envoy sends it none, because the config says so.
`unhealthy`: its health check fails. `ejected`: after failures in a row. `unreachable`: Envoy sends
it requests, but the latest connections have failed.
`unresolved`: Envoy has no address for the host name. `unknown`: Envoy does not have the endpoint
yet, or has not checked it yet."""


class ClusterHosts:
    """The hosts of one cluster, by address and by host name: there can be thousands of each."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._by_address: Mapping[str, list[Host]] = defaultdict(list)
        for host in hosts:
            for address in _addresses(host):
                self._by_address[address].append(host)

    def of(self, address: str) -> Sequence[Host]:
        """The hosts of an endpoint. If its address has a name, it has one for each IP address."""
        if not address.startswith("unix:"):
            name, port = split_host_port(address)
            if is_localhost(name):
                loopback = (join_host_port(each, port) for each in LOOPBACK_HOSTS)
                return [host for each in loopback for host in self._by_address.get(each, ())]
        return self._by_address.get(_canonical(address), ())


@dataclass(slots=True)
class Connections:
    """Whether the latest connections to an endpoint have failed."""

    made: int | None = None
    failed: int = 0
    succeeded: int = 0
    are_failing: bool = False

    def observe(self, hosts: Iterable[Host]) -> None:
        """Compare the counts of the endpoint's hosts with those of the previous observation."""
        made = failed = succeeded = 0
        for host in hosts:
            made += host.connections
            failed += host.failed_connections
            succeeded += host.successful_requests
        if self.made is None or made < self.made:
            self.are_failing = False
        elif failed > self.failed:
            self.are_failing = succeeded == self.succeeded
        elif made > self.made or succeeded > self.succeeded:
            self.are_failing = False
        self.made, self.failed, self.succeeded = made, failed, succeeded


def endpoint_state(hosts: Sequence[Host], connections: Connections) -> tuple[EndpointState, str]:
    """The state of an endpoint with these hosts, and why it is not healthy."""
    if any(host.draining for host in hosts):
        return "draining", "the config says drain"
    problems = [problem for host in hosts for problem in host.problems]
    used = sum(not host.problems and not host.checking for host in hosts)
    if used and connections.are_failing:
        return "unreachable", "connections to it fail"
    if used:
        return "healthy", f"Envoy uses {used} of its {len(hosts)} addresses" if problems else ""
    if not problems:
        return "unknown", "its first health check has not ended"
    state: EndpointState = "ejected" if any(host.ejected for host in hosts) else "unhealthy"
    return state, ", ".join(dict.fromkeys(problems))


def absent_state(address: str) -> tuple[EndpointState, str]:
    """The state of an endpoint that has no host, and why."""
    if needs_dns(address):
        return "unresolved", "Envoy has no address for the host name"
    return "unknown", "Envoy does not have the endpoint yet"


def _addresses(host: Host) -> set[str]:
    """The addresses of endpoints that have this host."""
    address = _canonical(host.address)
    if not host.hostname:
        return {address}
    return {address, join_host_port(host.hostname, split_host_port(address)[1])}


def _canonical(address: str) -> str:
    """The address with one spelling of an IPv6 address."""
    if not address.startswith("["):
        return address
    host, port = split_host_port(address)
    return join_host_port(str(ip_address(host)), port) if is_ip(host) else address
