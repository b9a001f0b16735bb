"""Limits on the memory and work that a peer can cause, each with the reason for its value.

The peers of a callout are a few Envoys, so the limits allow bursts and many streams on one
connection. They protect the server from peers that cause far more work than they do themselves.
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
    """Largest gRPC message, after decompression. A worker sets it to its memory budget: an ext_proc
    message contains the whole body of a request that must be converted (`requests.max_body`)."""

    max_concurrent_streams: int = 4096
    """Open streams of a connection. An Envoy worker has one connection, with one stream for each
    request in flight. With the common limit of 100, requests would queue inside Envoy."""

    stream_window: int = 1 * MIB
    """Receive window of a stream: bytes that a client can send to a handler that is busy."""

    connection_window: int = 16 * MIB
    """Receive window of a connection. It reopens as data arrives, so that a stalled stream never
    blocks the others. So it only has to cover the bandwidth-delay product."""

    socket_send_buffer: int = 1 * MIB
    """Bytes that the kernel takes from us for a peer on a Unix socket, if its own limit
    (`net.core.wmem_max`) allows. The default has no room for a tensor of a picture, so each write
    would take a part of the tensor and wait. TCP sockets adapt on their own."""

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
    """Time after which a connection without streams gets GOAWAY. Envoy opens a new connection when
    it needs one."""

    keepalive_interval: float = 30.0
    """Time without data from the peer after which the server sends a PING. The streams of a peer
    that vanished (power, network) would otherwise stay open until TCP gives up, about 15
    minutes."""

    keepalive_timeout: float = 20.0
    """Time for the peer to acknowledge the keepalive PING (gRPC's default)."""

    stall_timeout: float = 60.0
    """Time that a response may wait for a closed window; then its stream is reset (CVE-2019-9517).
    Without the limit, a peer that sends requests but never reads would fill the memory with
    responses."""

    max_control_backlog: int = 64 * KIB
    """Control frames (SETTINGS and PING acknowledgements, RST_STREAM) that wait for a socket that
    the peer does not read (CVE-2019-9512, -9515)."""

    resets: Rate = Rate(burst=1000, per_second=200)
    """Streams reset before their response began (rapid reset, CVE-2023-44487), by the peer or
    because of its errors (CVE-2025-8671). Resets after the response began are not counted: Envoy
    ends ext_proc calls with such a reset, which costs no more than a call. 1,000 is nghttp2's
    burst."""

    settings: Rate = Rate(burst=100, per_second=10)
    """SETTINGS frames. Each is acknowledged and may change every window. A peer normally sends
    one."""

    pings: Rate = Rate(burst=10_000, per_second=5_000)
    """PING frames. grpc-go measures bandwidth with one in each round trip, which is thousands a
    second on loopback."""

    empty_frames: Rate = Rate(burst=1_000, per_second=100)
    """Frames without effect: DATA without content or END_STREAM (CVE-2019-9518), PRIORITY
    (CVE-2019-9513) and unknown types."""

    late_frames: Rate = Rate(burst=20_000, per_second=20_000)
    """Late frames: frames on streams that we have reset, and RST_STREAM on any closed stream. Envoy
    sends one if it ends a call while we refuse it, so the limit is higher than the number of calls
    that a worker can refuse in a second."""

    window_updates: Rate = Rate(burst=20_000, per_second=10_000)
    """WINDOW_UPDATE frames with an increment below 256: data dribble (CVE-2019-9511), or a flood.
    Larger increments exceed the maximum window after 2^31 bytes unless the peer reads content."""
