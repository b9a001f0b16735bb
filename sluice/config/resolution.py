"""Finds host names of a config that DNS does not know, with a bound on the time."""

import socket
from collections.abc import Callable, Iterator
from itertools import islice
from queue import Empty, Queue
from threading import Thread
from time import monotonic
from typing import Final, TypeAlias

from sluice.config.addresses import needs_dns, split_host_port
from sluice.config.errors import KeyPath
from sluice.config.finding import Finding, WarningKind
from sluice.config.gateway import GatewayConfig

UNRESOLVABLE_HOST: Final = WarningKind(
    "unresolvable_host",
    "The host name of an endpoint has no address. `sluice validate` asks the DNS of its own "
    "machine, `sluice status` shows what Envoy finds.",
    "correct the name, or check it on the machine of Envoy",
)

MAX_HOSTS = 100
"""Names that are looked up. A config may have more, but then it is a program that checks it."""

THREADS = 10

TIMEOUT = 3.0
"""Seconds for all names. Names without an answer in this time have no warning."""

Resolve: TypeAlias = Callable[[str], object]
"""Looks up the addresses of a host name. Raises OSError as `socket.getaddrinfo`."""

_UNKNOWN: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
"""Errors of getaddrinfo (RFC 3493) that mean that the name has no address."""


def _resolve(host: str) -> object:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)


def unresolvable_hosts(
    config: GatewayConfig, resolve: Resolve = _resolve, timeout: float = TIMEOUT
) -> Iterator[Finding]:
    """The endpoints whose host name does not exist. Names without an answer in time are not known.

    `timeout` is in seconds, for all names.
    """
    places = dict(islice(_host_names(config), MAX_HOSTS))
    unknown = _unknown(list(places), resolve, timeout)
    for host, path in places.items():
        if host in unknown:
            yield Finding.of(UNRESOLVABLE_HOST, path, "this machine finds no address for the host")


def _host_names(config: GatewayConfig) -> Iterator[tuple[str, KeyPath]]:
    """Each host name of an endpoint once, with the first place that has it."""
    seen: set[str] = set()
    for name, model in config.models.items():
        for version, each in model.versions.items():
            for path, endpoint in each.named():
                host = split_host_port(endpoint.address)[0]
                if host not in seen and needs_dns(endpoint.address):
                    seen.add(host)
                    yield host, ("models", name, "versions", version, *path)


def _unknown(hosts: list[str], resolve: Resolve, timeout: float) -> set[str]:
    waiting: Queue[str] = Queue()
    answers: Queue[tuple[str, bool]] = Queue()
    for host in hosts:
        waiting.put(host)
    for _ in range(min(THREADS, len(hosts))):
        # Daemons: the process need not wait for a DNS server that does not answer.
        Thread(target=_look_up, args=(resolve, waiting, answers), daemon=True).start()
    end = monotonic() + timeout
    found: set[str] = set()
    for _ in hosts:
        try:
            host, is_unknown = answers.get(timeout=max(0.0, end - monotonic()))
        except Empty:
            break
        if is_unknown:
            found.add(host)
    return found


def _look_up(resolve: Resolve, waiting: "Queue[str]", answers: "Queue[tuple[str, bool]]") -> None:
    while True:
        try:
            host = waiting.get_nowait()
        except Empty:
            return
        try:
            resolve(host)
            answers.put((host, False))
        except OSError as error:
            answers.put((host, error.errno in _UNKNOWN))
        except UnicodeError:  # a label that IDNA does not allow
            answers.put((host, True))
