"""What a server has seen since it started, as plain integers that any metrics system can read.

One `Counters` belongs to one server and is written by its event loop only.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals, never reset. The grpcio transport hides its connections, so it counts calls only."""

    connections_opened: int = 0
    connections_closed: int = 0
    streams_opened: int = 0
    """Calls started, including those refused as unknown methods."""
    streams_closed: int = 0
    """Calls that ended in any way; `streams_opened - streams_closed` are running."""
    streams_refused: int = 0
    """Streams reset with REFUSED_STREAM: over the concurrency limit."""
    streams_reset_by_peer: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    deadlines_exceeded: int = 0
    protocol_errors: dict[str, int] = field(default_factory=dict)
    """Stream and connection errors the peer caused, by RFC 9113 section 7 error name."""
    abuse_closures: dict[str, int] = field(default_factory=dict)
    """Connections closed (or streams, for stalls) by an abuse limit, by the limit's name."""

    def protocol_error(self, name: str) -> None:
        self.protocol_errors[name] = self.protocol_errors.get(name, 0) + 1

    def abuse(self, name: str) -> None:
        self.abuse_closures[name] = self.abuse_closures.get(name, 0) + 1
