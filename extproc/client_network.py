"""The network of a client address, as the smallest unit that one client cannot leave at will."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

_HOST_BITS = 64
"""Bits of an IPv6 address that a client can choose: a site gets at least a /64 (RFC 6177)."""


@lru_cache(maxsize=4096)
def client_network(address: str) -> str:
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
