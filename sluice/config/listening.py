"""The addresses on which the processes of a gateway listen, and what must not share them.

Processes on different machines may have equal addresses. Those of one group are on one machine.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from pydantic_core import PydanticCustomError

from sluice.config.addresses import (
    LOOPBACK_HOSTS,
    canonical_ip,
    is_ip,
    is_local,
    is_localhost,
    is_loopback,
    split_host_port,
)
from sluice.config.errors import KeyPath
from sluice.config.invalid import invalid

Named: TypeAlias = tuple[KeyPath, str]
"""A key, and an address that it gives."""

_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 (compared, not bound)
"""Wildcard addresses."""


@dataclass(frozen=True, slots=True)
class Servers:
    """The addresses of a gateway's servers, as the config has them."""

    listener: str
    envoy_admin: str
    http: str
    xds: str
    workers: tuple[str, ...]
    metrics: str
    mcp: str | None = None
    video: tuple[Named, ...] = ()
    """Those of the video service; the last one is that of its metrics."""
    listener_path: KeyPath = ("listener", "address")


def check_addresses(
    servers: Servers, servers_on: Callable[[Collection[str]], Iterable[Named]]
) -> None:
    """Raises the error of an address that two servers of one machine have, or of an endpoint that
    is a server of the gateway. `servers_on` returns the endpoints with one of these ports.
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
    _check_endpoints(servers, servers_on)


def _overlap(one: str, other: str) -> bool:
    """Whether servers on these hosts cannot have the same port."""
    if not _hosts(one).isdisjoint(_hosts(other)):
        return True
    wildcards = {one, other} & _ANY
    return bool(wildcards) and (":" in one) == (":" in other)


def _hosts(host: str) -> set[str]:
    return set(LOOPBACK_HOSTS) if is_localhost(host) else {host}


def _check_endpoints(
    servers: Servers, servers_on: Callable[[Collection[str]], Iterable[Named]]
) -> None:
    """An endpoint on loopback is on the machine of Envoy, which is the first one."""
    by_port: dict[str, list[tuple[KeyPath, str]]] = defaultdict(list)
    for path, address in next(_machines(servers)):
        host, port = split_host_port(address)
        by_port[port].append((path, host))
    for at, endpoint in servers_on(by_port):
        target, port = split_host_port(endpoint)
        for path, host in by_port[port]:
            if _reaches(target, host):
                raise _own_server(servers, at, path)


def _own_server(servers: Servers, endpoint: KeyPath, server: KeyPath) -> PydanticCustomError:
    """The error of an endpoint that is a server of the gateway."""
    if server == servers.listener_path:
        effect = "this is the gateway itself, so that requests would go in a circle"
    else:
        effect = "this is a server of the gateway that clients must not reach"
    return invalid(f"{effect}: write the address of a model server", endpoint, server)


def _reaches(host: str, server: str) -> bool:
    """Whether a connection to a host gets to a server of the same machine, and of the same port.

    A client that connects to a wildcard address connects to its own machine, and an IPv6 address
    may contain one of IPv4.
    """
    if host == server:
        return True
    named = LOOPBACK_HOSTS if is_localhost(host) else (host,)
    targets = {_canonical(each) for each in named}
    if server in _ANY:
        return any(is_loopback(each) for each in targets)
    return not targets.isdisjoint(_hosts(server))


def _canonical(host: str) -> str:
    """An IP address in its shortest form, as that to which a client connects."""
    if not is_ip(host):
        return host
    text = canonical_ip(host)
    return LOOPBACK_HOSTS[":" in text] if text in _ANY else text


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
    if servers.mcp is not None:
        plane.append((("istio", "mcp", "address"), servers.mcp))
    tcp = [each for each in servers.workers if not each.startswith("unix:")]
    callout: list[Named] = [(("callout", "address"), address) for address in tcp]
    callout.append((("telemetry", "metrics", "address"), servers.metrics))
    video = list(servers.video)
    with_envoy = all(is_local(split_host_port(each)[0]) for _, each in video[:-1])
    if with_envoy:
        envoy += video
    if is_local(split_host_port(servers.xds)[0]):
        yield [*envoy, *plane, *callout]
    elif all(is_local(split_host_port(each)[0]) for each in tcp):
        yield [*envoy, *callout]
        yield plane
    else:
        yield from (envoy, plane, callout)
    if not with_envoy:
        yield video
