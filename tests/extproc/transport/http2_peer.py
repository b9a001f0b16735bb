"""An HTTP/2 connection without sockets, and a peer that sends raw frames to it."""

from collections.abc import Sequence

from hpack import Encoder

from extproc.transport.counters import Counters
from extproc.transport.http2 import frames
from extproc.transport.http2.connection import Connection
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.header_blocks import Fields
from extproc.transport.http2.streams import Stream
from extproc.transport.limits import TransportLimits

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "a")]
RESPONSE_BLOCK = b"\x88"  # :status 200, from the static table

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream identifier, payload."""


class EchoStream(Stream):
    """Responds with the content of the request (`/echo` only), and records its events."""

    def __init__(self, connection: Connection[Fields], stream_id: int, fields: Fields) -> None:
        super().__init__(connection, stream_id)
        self.fields = fields
        self.received = b""
        self.events: list[str] = []

    def on_request(self) -> None:
        self.events.append("request")
        if (b":path", b"/echo") in self.fields:
            self.respond(RESPONSE_BLOCK)

    def on_data(self, data: bytes, start: int, stop: int) -> None:
        self.received += data[start:stop]
        if self.responded:
            self.write(data[start:stop])

    def on_end(self) -> None:
        self.events.append("end")
        if self.responded:
            self.end()

    def on_reset(self) -> None:
        self.events.append("reset")

    def on_written(self) -> None:
        """Does nothing."""

    def on_drained(self) -> None:
        pass


class Peer:
    """The client's end of a connection."""

    def __init__(self, limits: TransportLimits | None = None, *, handshake: bool = True) -> None:
        self.now = 0.0
        self.counters = Counters()
        self.streams: dict[int, EchoStream] = {}
        """Every stream that the connection has opened, closed ones included."""
        self.encoder = Encoder()
        self.connection: Connection[Fields] = Connection(
            limits=limits or TransportLimits(),
            counters=self.counters,
            parse_request=lambda fields: fields,
            open_stream=self._open_stream,
            on_output=lambda: None,
            now=self.now,
        )
        if handshake:
            self.send(frames.PREFACE + frames.settings({}))

    def _open_stream(
        self, connection: Connection[Fields], stream_id: int, fields: Fields
    ) -> Stream:
        stream = self.streams[stream_id] = EchoStream(connection, stream_id, fields)
        return stream

    def send(self, *data: bytes) -> list[Frame]:
        """Pass bytes to the connection; returns the frames that it sends."""
        self.connection.receive_data(b"".join(data), self.now)
        return self.read()

    def read(self) -> list[Frame]:
        """The frames that the connection sends."""
        output = b""
        while data := self.connection.take_output():
            output += data
            if self.connection.paused:
                break
        return split_frames(output)

    def block(self, headers: Sequence[tuple[str, str]] = REQUEST) -> bytes:
        return self.encoder.encode(headers)

    def request(
        self, stream_id: int, headers: Sequence[tuple[str, str]] = REQUEST, *, end: bool = False
    ) -> bytes:
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        return frames.frame(frames.HEADERS, flags, stream_id, self.block(headers))


def split_frames(data: bytes) -> list[Frame]:
    found = []
    while data:
        word, flags, stream_id = frames.HEADER.unpack_from(data)
        stop = frames.HEADER_SIZE + (word >> 8)
        found.append((word & 0xFF, flags, stream_id, data[frames.HEADER_SIZE : stop]))
        data = data[stop:]
    return found


def goaway_code(sent: list[Frame]) -> ErrorCode | None:
    """The error code of the last GOAWAY, or None without one."""
    codes = [payload[4:8] for kind, _, _, payload in sent if kind == frames.GOAWAY]
    return ErrorCode(int.from_bytes(codes[-1], "big")) if codes else None


def reset_codes(sent: list[Frame]) -> dict[int, ErrorCode]:
    """The error codes of RST_STREAM frames, by stream."""
    return {
        stream_id: ErrorCode(int.from_bytes(payload, "big"))
        for kind, _, stream_id, payload in sent
        if kind == frames.RST_STREAM
    }
