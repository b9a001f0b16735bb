"""Whom a client takes a server for, by its `Host` header (RFC 9110 section 7.2)."""

import re
from collections.abc import Collection

from sluice.config.values import is_ip

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
