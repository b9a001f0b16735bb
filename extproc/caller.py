"""Names the caller of a request, so that callers share limits, threads and memory fairly."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

_HOST_BITS = 64
"""Bits of an IPv6 address that a client can choose: a site gets at least a /64 (RFC 6177)."""


def caller_name(subject: str | None, address: str) -> str:
    """The authenticated subject, or the network of an anonymous client at this address."""
    return f"subject {subject}" if subject else f"address {_network(address)}"


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    """The /64 network of an IPv6 address. Any other text is returned unchanged."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS)}/{128 - _HOST_BITS}"
