"""Addresses, hosts and URLs as text: their parts, what they mean, and what is wrong with them."""

import ipaddress
import re
import socket
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from sluice.printable import printable

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
_IPV6_ZONE = re.compile(r"%[A-Za-z0-9._~-]{1,32}")
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

LOOPBACK_HOSTS = ("127.0.0.1", "::1")
"""The addresses of `localhost` (RFC 6761 section 6.3)."""

MAX_QUOTED = 100
"""Characters of an address that an error quotes."""


def split_host_port(value: str) -> tuple[str, str]:
    """Split `host:port`. Returns an IPv6 host without brackets, and '' for a missing part."""
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return (host[1:-1], port) if ":" in host else ("", "")
    return ("", "") if ":" in host else (host, port)


def join_host_port(host: str, port: str | int) -> str:
    """`host:port`. An IPv6 host gets brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connectable(host: str) -> str:
    """The host; the loopback address for a wildcard address, which clients cannot connect to."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def reachable(address: str) -> str:
    """The address at which clients on the same machine reach a server that listens on it."""
    if address.startswith("unix:"):
        return address
    host, port = split_host_port(address)
    return join_host_port(connectable(host), port)


def split_url(value: str) -> SplitResult | None:
    """The parts of a URL; None if it has no valid host and port, or blanks or control characters.

    The exceptions of `urlsplit` contain parts of the URL, which may be a password.
    """
    if any(character <= " " or character == "\x7f" for character in value):
        return None
    try:
        url = urlsplit(value)
        return url if _is_host(url.hostname or "") and url.port != 0 else None
    except ValueError:
        return None


def is_ip(host: str) -> bool:
    """Whether the host is an IP address, not a name."""
    # A config may have 300,000 endpoints, and this is much faster than `ipaddress`.
    with suppress(OSError, ValueError):
        socket.inet_pton(socket.AF_INET, host)
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def canonical_ip(text: str) -> str:
    """An IP address in its shortest form, without a zone. Raises ValueError for another text.

    An IPv6 address that contains one of IPv4 is that address (RFC 4291 section 2.5.5.2).
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_localhost(host: str) -> bool:
    """Whether the host is `localhost` or a name below it, which are names of the loopback
    addresses (RFC 6761 section 6.3).
    """
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def needs_dns(address: str) -> bool:
    """Whether a name server must resolve the host of an address: `host:port` or `unix:/path`."""
    if address.startswith("unix:"):
        return False
    host, _ = split_host_port(address)
    return not (is_ip(host) or is_localhost(host))


def is_loopback(host: str) -> bool:
    """Whether only processes of the same machine can connect to an IP address."""
    return is_ip(host) and ipaddress.ip_address(host).is_loopback


def is_local(host: str) -> bool:
    """Whether a host in a URL is this machine."""
    return is_localhost(host) or is_loopback(host)


def is_host_port(value: str) -> bool:
    """Whether the text is `host:port` with a host name or an IP address."""
    host, port = split_host_port(value)
    return _is_host(host) and _PORT.fullmatch(port) is not None and 0 < int(port) < 65536


def _is_host(host: str) -> bool:
    """Whether the text is a host name or an IP address. An IPv6 address may have a zone."""
    address, percent, zone = host.partition("%")
    if ":" not in address:
        return _HOST.fullmatch(host) is not None and (not _ends_in_number(host) or is_ip(host))
    return is_ip(address) and (not percent or _IPV6_ZONE.fullmatch(percent + zone) is not None)


def _ends_in_number(host: str) -> bool:
    """Whether the last label is a number, so that the host is not a name (WHATWG URL section 3.5).

    Resolvers read such a host as an IPv4 address, each in another way, or ask DNS for it.
    """
    return _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


def address_error(value: str, remedy: str) -> str:
    """What is wrong with an address. Quotes it unless it may contain a password."""
    examples = f"{remedy}, such as 127.0.0.1:8080 or [::1]:8080"
    if "@" in value:
        return examples
    quoted = repr(printable(value, MAX_QUOTED))
    if "://" in value:
        return f"{quoted} is a URL: {remedy}, such as {_url_address(value)}, without the scheme"
    if (is_ip(value) and ":" in value) or (
        is_ip(value.rpartition(":")[0]) and value.count(":") > 1
    ):
        return f"{quoted} has an IPv6 address without brackets: {examples}"
    host = split_host_port(value)[0] or value
    if _ends_in_number(host) and not is_ip(host) and host != value:
        return f"{quoted} has no valid IPv4 address, and no host name ends in a number: {examples}"
    return f"{quoted} is no such address: {examples}"


def _url_address(url: str) -> str:
    """The address in a URL; an example if it has none."""
    scheme, _, rest = url.partition("://")
    address = re.split(r"[/?#]", rest, maxsplit=1)[0]
    with_port = f"{address}:{443 if scheme.lower() in ('https', 'grpcs') else 80}"
    found = next((each for each in (address, with_port) if is_host_port(each)), "127.0.0.1:8080")
    return printable(found, MAX_QUOTED)
