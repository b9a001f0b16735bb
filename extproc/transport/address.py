"""Addresses of servers: `host:port` (IPv6 hosts in brackets) or `unix:/path`."""

from dataclasses import dataclass

UNIX_PREFIX = "unix:"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port; with port 0, the system chooses a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix stream socket."""

    path: str

    def __str__(self) -> str:
        return f"{UNIX_PREFIX}{self.path}"


def parse_address(text: str) -> TcpAddress | UnixAddress:
    """Parse an address. Raises ValueError with the expected form."""
    if text.startswith(UNIX_PREFIX):
        path = text.removeprefix(UNIX_PREFIX)
        if not path:
            raise ValueError(f"address {text!r} has no path; write unix:/path/of/socket")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"address {text!r} is neither host:port nor unix:/path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return TcpAddress(host, int(port))
