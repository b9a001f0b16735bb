"""How much a peer may ask of a server, each limit with the reason for its value.

The peers of a callout are a few Envoys, so a limit is generous to bursts and to many streams on one
connection; what it must stop is a peer (or whoever reached the port) that costs far more than it
pays.
"""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: `burst` events at once, then `per_second`."""

    burst: int
    per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Sizes in bytes, times in seconds."""

    max_message: int = 20 * MIB
    """Largest gRPC message, after decompression. Payloads may be 10 MiB by default and an ext_proc
    message carries one whole when it is buffered, base64 growth (4/3) and headers included."""

    max_concurrent_streams: int = 4096
    """Streams open at once on a connection. An Envoy worker holds one connection, and every request
    in flight holds one stream, so grpc-go's usual 100 would queue requests inside Envoy."""

    max_buffered: int = 256 * MIB
    """Request bytes a server holds for all connections together: messages still incomplete, and
    messages waiting for their handler. The call that crosses it ends with RESOURCE_EXHAUSTED."""

    stream_window: int = 1 * MIB
    """Receive window of a stream: what one peer can push at a handler that is busy."""

    connection_window: int = 16 * MIB
    """Receive window of a connection. Credited on arrival, so that a stalled stream never holds up
    the others; it only has to cover one round trip of bandwidth."""

    send_high_water: int = 256 * KIB
    """Response bytes of one call waiting for the peer above which `writable()` waits and the call's
    further request messages are held back."""

    max_send_queue: int = 64 * MIB
    """Response bytes of one call waiting for the peer above which the call ends with
    RESOURCE_EXHAUSTED: its handler ignores `writable()` and its peer does not read."""

    max_header_list: int = 32 * KIB
    """Decoded request headers of one stream (RFC 9113 section 6.5.2: name + value + 32 each). Twice
    grpc's own hard limit. An HPACK bomb (a small block of indices to a large entry) ends here."""

    max_continuations: int = 32
    """CONTINUATION frames of one header block (CVE-2024-27316): at 16 KiB a frame `max_header_list`
    fits in two or three, so this allows for peers that cut small, not for endless empty ones."""

    handshake_timeout: float = 10.0
    """Until TLS, preface and SETTINGS have arrived, and for any header block that is under way: a
    connection that dribbles costs a file descriptor and gives nothing."""

    idle_timeout: float = 3600.0
    """A connection without streams is told to go away after this; Envoy opens another at need."""

    keepalive_interval: float = 30.0
    """Silence after which a PING asks whether the peer is there: a vanished Envoy (power, network)
    would otherwise hold its streams until TCP gives up, about 15 minutes."""

    keepalive_timeout: float = 20.0
    """How long the answer to that PING may take (gRPC's default)."""

    stall_timeout: float = 60.0
    """A stream whose response waits on a closed window for this long is reset (CVE-2019-9517): a
    peer that asks but never reads would hold the response for ever."""

    max_control_backlog: int = 64 * KIB
    """Control frames (SETTINGS and PING acknowledgements, RST_STREAM) waiting in a socket that the
    peer does not read (CVE-2019-9512, -9515)."""

    resets: Rate = Rate(burst=1000, per_second=200)
    """Streams reset before they were answered (rapid reset, CVE-2023-44487), by the peer or because
    of the peer's errors (CVE-2025-8671). An answered stream may be reset freely: Envoys do so
    at the end of an ext_proc call, and it costs no more than a call. 1,000 is nghttp2's burst."""

    settings: Rate = Rate(burst=100, per_second=10)
    """SETTINGS frames; each is acknowledged and may touch every stream's window. Peers send one."""

    pings: Rate = Rate(burst=10_000, per_second=5_000)
    """PING frames. grpc-go probes bandwidth with one for each round trip, thousands a second on
    loopback; at about 1 µs each the rate allows half a percent of a core."""

    empty_frames: Rate = Rate(burst=1_000, per_second=100)
    """Frames that carry nothing and end nothing: DATA without bytes or END_STREAM (CVE-2019-9518),
    PRIORITY (CVE-2019-9513) and unknown types."""

    late_frames: Rate = Rate(burst=20_000, per_second=20_000)
    """Frames for streams that are already reset or answered. An Envoy that ends a call which we
    have just refused sends one for each, so this stays above the calls a worker can refuse in a
    second."""

    window_updates: Rate = Rate(burst=20_000, per_second=10_000)
    """WINDOW_UPDATE frames of less than 256 bytes: data dribble (CVE-2019-9511), or a flood. Larger
    ones overflow the window after 2^31 bytes unless they are paid for by reading content."""
