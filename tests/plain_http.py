"""Requests of tests over HTTP without TLS.

The functions of httpx read the certificates of all authorities for each request, which takes much
longer than the request itself.
"""

from typing import Any

import httpx


def client(**options: Any) -> httpx.Client:
    """A client that trusts no certificate in particular, for servers without TLS."""
    return httpx.Client(**{"verify": False, **options})


_each = client(limits=httpx.Limits(max_keepalive_connections=0))
"""Opens a connection for each request, as the functions of httpx do."""

get, options, post, put, stream = _each.get, _each.options, _each.post, _each.put, _each.stream
