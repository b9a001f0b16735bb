"""Validates the Host header (RFC 9110 section 7.2) to prevent DNS rebinding.

A web page can let its own host name resolve to this server's address. The browser then treats the
server as part of the page's site and lets the page read the responses. The Host header still has
the page's host name, so the servers refuse host names that are not their own.
"""

import re
from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import Response

from sluice.config.addresses import is_ip, is_localhost, split_host_port
from sluice.http.problems import refusal

HttpEndpoint = Callable[[Request], Awaitable[Response]]

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+))(?::[0-9]*)?")


class HostGuard:
    """Refuses requests whose Host header does not name this server.

    `address` is the server's `host:port`. `allowed_hosts` are further host names, in lower case,
    from the config key `config_key`.
    """

    def __init__(self, address: str, allowed_hosts: Collection[str], config_key: str) -> None:
        self._names = frozenset((split_host_port(address)[0].lower(), *allowed_hosts))
        self._detail = (
            "Unknown host. Use an IP address, localhost, or a host name that is listed in"
            f" {config_key}."
        )

    def allows(self, host: str) -> bool:
        """Return whether a value of the Host header names this server.

        IP addresses, localhost and its subdomains (RFC 6761 section 6.3) are always allowed: no
        attacker can register them.
        """
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        named = match[1] or match[2]
        name = named.lower().removesuffix(".")
        return name in self._names or is_localhost(named) or is_ip(name)

    def protect(self, endpoint: HttpEndpoint) -> HttpEndpoint:
        """Wrap an endpoint. Requests to other hosts get 421 (RFC 9110 section 15.5.20)."""

        async def guarded(request: Request) -> Response:
            hosts = request.headers.getlist("host")
            if len(hosts) != 1 or not self.allows(hosts[0]):
                return refusal(421, "unknown_host", self._detail)
            return await endpoint(request)

        return guarded
