"""A connection of the engine without sockets, and a client that writes raw frames to it."""

from collections.abc import Sequence

from hpack import Encoder

from extproc.transport.counters import Counters
from extproc.transport.http2 import frames
from extproc.transport.http2.blocks import Fields
from extproc.transport.http2.connection import Connection
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.streams import Stream
from extproc.transport.limits import TransportLimits

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "a")]
RESPONSE_BLOCK = b"\x88"  # :status 200, from the static table


class EchoStream(Stream):
    """Answers each piece of content with itself; keeps what it was told."""

    def __init__(self, connection: Connection[Fields], stream_id: int, fields: Fields) -> None:
        super().__init__(connection, stream_id)
        self.fields = fields
        self.received = b""
        self.told: list[str] = []

    def on_request(self) -> None:
        self.told.append("request")
        if (b":path", b"/echo") in self.fields:
            self.respond(RESPONSE_BLOCK)

    def on_data(self, data: bytes, start: int, stop: int) -> None:
        self.received += data[start:stop]
        if self.responded:
            self.write(data[start:stop])

    def on_end(self) -> None:
        self.told.append("end")
        if self.responded:
            self.end()

    def on_reset(self) -> None:
        self.told.append("reset")

    def on_drained(self) -> None:
        pass


class Peer:
    """The client's end: frames go in, (type, flags, stream, payload) come back."""

    def __init__(self, limits: TransportLimits | None = None, *, in_sync: bool = True) -> None:
        self.now = 0.0
        self.counters = Counters()
        self.accepted: dict[int, EchoStream] = {}
        self.encoder = Encoder()
        self.connection: Connection[Fields] = Connection(
            limits=limits or TransportLimits(),
            counters=self.counters,
            interpret=lambda fields: fields,
            accept=self._accept,
            on_output=lambda: None,
            now=self.now,
        )
        self._output = b""
        if in_sync:
            self.send(frames.PREFACE + frames.settings({}))

    def _accept(self, connection: Connection[Fields], stream_id: int, fields: Fields) -> Stream:
        stream = self.accepted[stream_id] = EchoStream(connection, stream_id, fields)
        return stream

    def send(self, *data: bytes) -> list[tuple[int, int, int, bytes]]:
        """Let the engine read; returns the frames that it wrote."""
        self.connection.receive(b"".join(data), self.now)
        return self.read()

    def read(self) -> list[tuple[int, int, int, bytes]]:
        written = b""
        while data := self.connection.take():
            written += data
            if self.connection.paused:
                break
        return split(written)

    def block(self, headers: Sequence[tuple[str, str]] = REQUEST) -> bytes:
        return self.encoder.encode(headers)

    def request(
        self, stream_id: int, headers: Sequence[tuple[str, str]] = REQUEST, *, end: bool = False
    ) -> bytes:
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        return frames.frame(frames.HEADERS, flags, stream_id, self.block(headers))


def split(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    while data:
        word, flags, stream_id = frames.HEADER.unpack_from(data)
        stop = frames.HEADER_SIZE + (word >> 8)
        found.append((word & 0xFF, flags, stream_id, data[frames.HEADER_SIZE : stop]))
        data = data[stop:]
    return found


def goaway_code(written: list[tuple[int, int, int, bytes]]) -> ErrorCode | None:
    """The error of the last GOAWAY, or None without one."""
    codes = [payload[4:8] for kind, _, _, payload in written if kind == frames.GOAWAY]
    return ErrorCode(int.from_bytes(codes[-1], "big")) if codes else None


def reset_codes(written: list[tuple[int, int, int, bytes]]) -> dict[int, ErrorCode]:
    return {
        stream_id: ErrorCode(int.from_bytes(payload, "big"))
        for kind, _, stream_id, payload in written
        if kind == frames.RST_STREAM
    }
