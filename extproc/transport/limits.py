"""Limits on what a peer may cost a server, each with the reason for its value.

The peers of a callout are a few Envoys, so the limits allow bursts and many streams on one
connection. They stop a peer, or anyone else who reaches the port, that causes far more work than it
does itself.
"""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` events at once, refilled with `per_second`."""

    burst: int
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Sizes in bytes, times in seconds."""

    max_message: int = 20 * MIB
    """Largest gRPC message, after decompression. Payloads are 10 MiB by default. A buffered one is
    whole in one ext_proc message, with base64 growth (4/3) and headers."""

    max_concurrent_streams: int = 4096
    """Open streams of a connection. An Envoy worker has one connection, with one stream for each
    request in flight. With grpc-go's usual 100, requests would queue inside Envoy."""

    max_buffered: int = 256 * MIB
    """Request bytes buffered by a server for all connections: incomplete messages, and messages
    that wait for their handler. The call that exceeds it ends with RESOURCE_EXHAUSTED."""

    stream_window: int = 1 * MIB
    """Receive window of a stream: bytes that a client can send to a handler that is busy."""

    connection_window: int = 16 * MIB
    """Receive window of a connection. It reopens as data arrives, so that a stalled stream never
    blocks the others; it has to cover the bandwidth of one round trip only."""

    send_high_water: int = 256 * KIB
    """Unsent response bytes of one call above which `writable()` waits and the call's further
    request messages wait too."""

    max_send_queue: int = 64 * MIB
    """Unsent response bytes of one call above which the call ends with RESOURCE_EXHAUSTED: its
    handler ignores `writable()` and its client does not read."""

    max_header_list: int = 32 * KIB
    """Decoded request fields of one stream (RFC 9113 section 6.5.2: name + value + 32 each). Twice
    grpc's own hard limit. It stops an HPACK bomb (a small block of indices to a large entry)."""

    max_continuations: int = 32
    """CONTINUATION frames of one header block (CVE-2024-27316). `max_header_list` fits in three
    frames of 16 KiB. The limit allows peers that send small frames, but not endless empty ones."""

    handshake_timeout: float = 10.0
    """Time for TLS, the preface and SETTINGS, and for each header block. A slow connection holds a
    file descriptor without doing any work."""

    idle_timeout: float = 3600.0
    """A connection without streams gets GOAWAY after this; Envoy opens a new one when needed."""

    keepalive_interval: float = 30.0
    """Silence after which a PING checks whether the peer is there. A peer that vanished (power,
    network) would otherwise hold its streams until TCP gives up, about 15 minutes."""

    keepalive_timeout: float = 20.0
    """Time for the peer to acknowledge that PING (gRPC's default)."""

    stall_timeout: float = 60.0
    """A stream whose response waits this long for a closed window is reset (CVE-2019-9517): a peer
    that sends requests but never reads would hold the responses for ever."""

    max_control_backlog: int = 64 * KIB
    """Control frames (SETTINGS and PING acknowledgements, RST_STREAM) that wait for a socket that
    the peer does not read (CVE-2019-9512, -9515)."""

    resets: Rate = Rate(burst=1000, per_second=200)
    """Streams reset before their response began (rapid reset, CVE-2023-44487), by the peer or
    because of its errors (CVE-2025-8671). Resets after the response began are free: Envoy ends
    ext_proc calls so, and they cost no more than a call. 1,000 is nghttp2's burst."""

    settings: Rate = Rate(burst=100, per_second=10)
    """SETTINGS frames: each is acknowledged and may change every window. Peers send one."""

    pings: Rate = Rate(burst=10_000, per_second=5_000)
    """PING frames. grpc-go measures bandwidth with one in each round trip, which is thousands a
    second on loopback."""

    empty_frames: Rate = Rate(burst=1_000, per_second=100)
    """Frames without effect: DATA without content or END_STREAM (CVE-2019-9518), PRIORITY
    (CVE-2019-9513) and unknown types."""

    late_frames: Rate = Rate(burst=20_000, per_second=20_000)
    """Frames on streams that are already closed. An Envoy that ends a call which we have just
    refused sends one, so this is above the calls that a worker can refuse in a second."""

    window_updates: Rate = Rate(burst=20_000, per_second=10_000)
    """WINDOW_UPDATE frames of less than 256 bytes: data dribble (CVE-2019-9511), or a flood. Larger
    ones exceed the maximum window after 2^31 bytes unless the peer reads content."""
