"""Whom a client takes a server for, by its `Host` header (RFC 9110 section 7.2).

Both HTTP servers use it. Workers do not: they have none, and need no Starlette.
"""

import re
from collections.abc import Awaitable, Callable, Collection

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sluice.config.values import is_ip

HttpEndpoint = Callable[[Request], Awaitable[Response]]

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+))(?::[0-9]*)?")


def is_meant(host: str, names: Collection[str]) -> bool:
    """Whether a request with this `Host` is for the server with these names (lower case).

    A page on the web can have its own name lead to any address (DNS rebinding), and have a browser
    ask there as if for itself; but then that name is in `Host`. Localhost, what is below it
    (RFC 6761 section 6.3) and IP addresses are in nobody's hands.
    """
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    name = (found[1] or found[2]).lower().removesuffix(".")
    return name in names or name == "localhost" or name.endswith(".localhost") or is_ip(name)


def for_hosts(names: Collection[str], endpoint: HttpEndpoint, remedy: str) -> HttpEndpoint:
    """Answer requests to other hosts than those meant with 421 (RFC 9110 section 15.5.20).

    `names` are in lower case; `remedy` is where the config has them.
    """
    misdirected = (
        "This host is not known here. Ask by IP address, as localhost, or by a name that the config"
        f" has in {remedy}.\n"
    )

    async def guarded(request: Request) -> Response:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not is_meant(hosts[0], names):
            return PlainTextResponse(misdirected, 421)
        return await endpoint(request)

    return guarded
