"""Connections of Envoy to the HTTP server of a worker."""

from typing import ClassVar

from sluice.http.connections import Connection


class EnvoyConnection(Connection):
    """A connection. Envoy keeps idle ones open, and closes them itself."""

    max_connections: ClassVar[int] = 1 << 14
    """Beyond `max_uploads` and `max_watchers`, whose maximum is 10,000 each: requests beyond those
    are refused with a reason."""
    head_timeout: ClassVar[float] = 60.0
