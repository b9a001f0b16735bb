"""Closes connections of clients, which gRPC cannot do: its server has no call for it.

When a server ends a stream, gRPC keeps what the client has not taken until the client takes it.
"""

import os
import socket
import stat
from pathlib import Path
from urllib.parse import unquote

from sluice.config.addresses import canonical_ip


def client_address(peer: str) -> str:
    """The address of a gRPC peer, without its port."""
    return peer.rpartition(":")[0]


def close_connection(peer: str, port: int) -> bool:
    """Close the TCP connection that a gRPC peer has to a port of this process.

    Returns whether there is one: a peer on a Unix socket has no address.
    """
    wanted = _tcp_peer(peer)
    return wanted is not None and any(_close(fd, wanted, port) for fd in _descriptors())


def _tcp_peer(peer: str) -> tuple[str, int] | None:
    """From `ipv4:127.0.0.1:1234` or `ipv6:%5B::1%5D:1234`."""
    scheme, _, address = unquote(peer).partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return None
    host, _, port = address.rpartition(":")
    return canonical_ip(host.strip("[]")), int(port)


def _descriptors() -> list[int]:
    return [int(path.name) for path in Path("/dev/fd").iterdir()]


def _close(descriptor: int, wanted: tuple[str, int], port: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as found:
            if found.family not in (socket.AF_INET, socket.AF_INET6):
                return False
            # An IPv4 client of a socket for both families has an IPv6 address with its own.
            host, its_port, *_ = found.getpeername()
            if (canonical_ip(host), its_port) != wanted or found.getsockname()[1] != port:
                return False
            found.shutdown(socket.SHUT_RDWR)
            return True
    except OSError:  # a descriptor that is closed by now, or a socket that is not connected
        return False
