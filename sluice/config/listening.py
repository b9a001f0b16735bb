"""The addresses on which the processes of a gateway listen, and what must not share them.

Processes on different machines may have equal addresses. Those of one group are on one machine.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from sluice.config.addresses import (
    LOOPBACK_HOSTS,
    is_local,
    is_localhost,
    join_host_port,
    split_host_port,
)
from sluice.config.errors import KeyPath
from sluice.config.invalid import invalid

Named: TypeAlias = tuple[KeyPath, str]
"""A key, and an address that it gives."""

_ANY: Final = {"0.0.0.0": LOOPBACK_HOSTS[:1], "::": LOOPBACK_HOSTS[1:]}  # noqa: S104
"""Wildcard addresses, and the loopback address at which a server that listens on one is reached."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of a gateway's servers, as the config has them."""

    listener: str
    envoy_admin: str
    http: str
    xds: str
    workers: tuple[str, ...]
    metrics: str
    listener_path: KeyPath = ("listener", "address")


def check_addresses(
    servers: Servers, endpoints_at: Callable[[Collection[str]], Iterable[Named]]
) -> None:
    """Raises the error of an address that two servers of one machine have, or of an endpoint that
    is a server of the gateway. `endpoints_at` returns the endpoints with one of these addresses.
    """
    for machine in _machines(servers):
        by_port: dict[str, list[tuple[KeyPath, str]]] = defaultdict(list)
        for path, address in machine:
            host, port = split_host_port(address)
            for other, other_host in by_port[port]:
                if other != path and _overlap(host, other_host):
                    message = f"another server of this machine has {address}: write another port"
                    raise invalid(message, path, other)
            by_port[port].append((path, host))
    _check_endpoints(servers, endpoints_at)


def _overlap(one: str, other: str) -> bool:
    """Whether servers on these hosts cannot have the same port."""
    if not _hosts(one).isdisjoint(_hosts(other)):
        return True
    wildcards = {one, other} & _ANY.keys()
    return bool(wildcards) and (":" in one) == (":" in other)


def _hosts(host: str) -> set[str]:
    return set(LOOPBACK_HOSTS) if is_localhost(host) else {host}


def _check_endpoints(
    servers: Servers, endpoints_at: Callable[[Collection[str]], Iterable[Named]]
) -> None:
    """An endpoint on loopback is on the machine of Envoy, which is the first one."""
    machine = next(_machines(servers))
    own = {each: path for path, address in machine for each in _reached_at(address)}
    for at, endpoint in endpoints_at(own):
        server = own[endpoint]
        if server == servers.listener_path:
            effect = "this is the gateway itself, so that requests would go in a circle"
        else:
            effect = "this is a server of the gateway that clients must not reach"
        raise invalid(f"{effect}: write the address of a model server", at, server)


def _machines(servers: Servers) -> Iterator[list[Named]]:
    """The addresses of each machine. The addresses of others say which processes share one."""
    envoy: list[Named] = [
        (servers.listener_path, servers.listener),
        (("envoy", "admin"), servers.envoy_admin),
    ]
    plane: list[Named] = [
        (("control_plane", "http"), servers.http),
        (("control_plane", "xds"), servers.xds),
    ]
    tcp = [each for each in servers.workers if not each.startswith("unix:")]
    callout: list[Named] = [(("callout", "address"), address) for address in tcp]
    callout.append((("telemetry", "metrics", "address"), servers.metrics))
    if is_local(split_host_port(servers.xds)[0]):
        yield [*envoy, *plane, *callout]
    elif all(is_local(split_host_port(each)[0]) for each in tcp):
        yield [*envoy, *callout]
        yield plane
    else:
        yield from (envoy, plane, callout)


def _reached_at(address: str) -> Iterator[str]:
    """The addresses at which a server is reached from its own machine."""
    host, port = split_host_port(address)
    for each in {host, *_ANY.get(host, ()), *_hosts(host)}:
        yield join_host_port(each, port)
        if each in LOOPBACK_HOSTS:
            yield join_host_port("localhost", port)
