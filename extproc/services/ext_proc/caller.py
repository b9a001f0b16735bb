"""Names the caller of a request, so that callers share conversion threads and memory fairly."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from extproc.decision import Admission
from sluice.contract.headers import CLIENT_ADDRESS

_IPV6_PREFIX = 64
"""Bits of an IPv6 address that name a caller: a site gets at least a /64 (RFC 6177), and a host in
it can use any address."""


def caller_of(admission: Admission, headers: Mapping[str, bytes]) -> str:
    """The authenticated subject, or the address of an anonymous client.

    Envoy sets the header with the address, and replaces a value that the client sends. Behind
    trusted proxies it takes the address that the outermost of them saw (`listener.trusted_hops`).
    """
    if admission.subject:
        return f"subject {admission.subject}"
    return _client(headers.get(CLIENT_ADDRESS, b""))


@lru_cache(maxsize=4096)
def _client(address: bytes) -> str:
    text = address.decode("latin-1")
    try:
        parsed = ip_address(text)
    except ValueError:
        return f"address {text}"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return f"address {parsed.ipv4_mapped}"
        return f"network {IPv6Address(int(parsed) >> (128 - _IPV6_PREFIX) << (128 - _IPV6_PREFIX))}"
    return f"address {parsed}"
