"""Counters of a server, as plain integers that any metrics system can read.

Each server has one `Counters`. Only the server's event loop writes it.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals, never reset. grpcio hides its connections, so its server counts only calls."""

    connections_opened: int = 0
    connections_closed: int = 0
    streams_opened: int = 0
    """Calls started, including calls of unknown methods."""
    streams_closed: int = 0
    """Calls ended for any reason; `streams_opened - streams_closed` are open."""
    streams_refused: int = 0
    """Streams reset with REFUSED_STREAM: above the concurrency limit, or after GOAWAY."""
    streams_reset_by_peer: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    deadlines_exceeded: int = 0
    protocol_errors: dict[str, int] = field(default_factory=dict)
    """Stream and connection errors caused by the peer, by error name (RFC 9113 section 7)."""
    abuse_closures: dict[str, int] = field(default_factory=dict)
    """Connections closed by an abuse limit (or streams, by `stall_timeout`), by name of the
    limit."""

    def protocol_error(self, name: str) -> None:
        self.protocol_errors[name] = self.protocol_errors.get(name, 0) + 1

    def abuse(self, name: str) -> None:
        self.abuse_closures[name] = self.abuse_closures.get(name, 0) + 1
