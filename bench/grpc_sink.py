"""A gRPC server that skips requests and responds at once, so that it is never the bottleneck.

`python -m bench.grpc_sink ADDRESS FILE` responds with the message in FILE at the end of each
request. It reads only the frames' headers.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

from extproc.framing import length_prefixed
from extproc.transport.grpc.responses import OK_TRAILERS, RESPONSE_HEADERS
from extproc.transport.http2 import frames

READ_SIZE = 1 << 20
MAX_WINDOW = frames.MAX_WINDOW
SETTINGS = frames.settings(
    {frames.INITIAL_WINDOW_SIZE: MAX_WINDOW, frames.HEADER_TABLE_SIZE: 0}
) + frames.window_update(0, MAX_WINDOW - frames.DEFAULT_WINDOW)


class SinkProtocol(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, message: bytes) -> None:
        self._content = length_prefixed(message)
        self._buffer = bytearray(READ_SIZE)
        self._skip = len(frames.PREFACE)
        """Bytes until the next frame's header."""
        self._header = b""
        """The beginning of a header whose rest has not arrived yet."""
        self._unacknowledged = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(SETTINGS)

    def get_buffer(self, sizehint: int) -> bytearray:
        """The buffer for the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Skip content, and respond to requests that have ended."""
        output: list[bytes] = []
        position, self._skip = self._skip, 0
        while position < nbytes:
            missing = frames.HEADER_SIZE - len(self._header)
            self._header += self._buffer[position : min(position + missing, nbytes)]
            position += missing
            if len(self._header) == frames.HEADER_SIZE:
                word, flags, stream_id = frames.HEADER.unpack(self._header)
                self._header = b""
                position += word >> 8
                output += self._on_frame(word & 0xFF, word >> 8, flags, stream_id)
        if self._header:
            position = nbytes
        self._skip = position - nbytes
        if output and self._transport is not None:
            self._transport.write(b"".join(output))

    def _on_frame(self, kind: int, size: int, flags: int, stream_id: int) -> list[bytes]:
        if kind == frames.SETTINGS and not flags & frames.ACK:
            return [frames.frame(frames.SETTINGS, frames.ACK, 0, b"")]
        if kind == frames.PING and not flags & frames.ACK:
            # The payload is skipped, so this is not a valid response. Clients must not send pings.
            raise ValueError("PING is not supported")
        if kind not in (frames.DATA, frames.HEADERS):
            return []
        output = []
        self._unacknowledged += size if kind == frames.DATA else 0
        if self._unacknowledged > MAX_WINDOW // 2:
            output.append(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
        if flags & frames.END_STREAM:
            output += [
                frames.headers(stream_id, RESPONSE_HEADERS, end_stream=False),
                frames.frame(frames.DATA, 0, stream_id, self._content),
                frames.headers(stream_id, OK_TRAILERS, end_stream=True),
            ]
        return output


async def serve(address: str, message: bytes) -> None:
    """Serve until the process ends."""
    host, _, port = address.rpartition(":")
    server = await asyncio.get_running_loop().create_server(
        lambda: SinkProtocol(message), host, int(port)
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2]).read_bytes()))
