"""The state of one stream (RFC 9113 section 5.1), its windows and its unsent output.

A server that never pushes needs five of the seven states. The layer above subclasses `Stream`: the
connection calls the `on_` methods, the layer above calls `respond`, `write`, `end` and `reset`.

                     recv headers
             idle ───────────────────▶ open ──── send end ───▶ half-closed (local)
                       recv headers     │                              │
                       and end ──┐   recv end                       recv end
                                 ▼      ▼                              ▼
                          half-closed (remote) ───── send end ──────▶ closed
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from extproc.segments import Buffer
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.sender import FrameSender

# States and events are plain integers, because members of an IntEnum are hashed and compared by
# Python code, and the table is read several times a call.
IDLE: Final = 0
OPEN: Final = 1
HALF_CLOSED_LOCAL: Final = 2
HALF_CLOSED_REMOTE: Final = 3
CLOSED: Final = 4

RECV_HEADERS: Final = 0
RECV_DATA: Final = 1
RECV_END: Final = 2
SEND_END: Final = 3
RESET: Final = 4

ILLEGAL: Final = -1

NEXT_STATE: Final[tuple[tuple[int, ...], ...]] = (
    # recv headers, recv data,         recv end,           send end,           reset
    (OPEN, ILLEGAL, ILLEGAL, ILLEGAL, CLOSED),  # idle
    (OPEN, OPEN, HALF_CLOSED_REMOTE, HALF_CLOSED_LOCAL, CLOSED),  # open
    (HALF_CLOSED_LOCAL, HALF_CLOSED_LOCAL, CLOSED, ILLEGAL, CLOSED),  # half-closed (local)
    (ILLEGAL, ILLEGAL, ILLEGAL, CLOSED, CLOSED),  # half-closed (remote)
    (ILLEGAL, ILLEGAL, ILLEGAL, ILLEGAL, CLOSED),  # closed
)
"""The next state, by state and event. A received ILLEGAL frame is a STREAM_CLOSED error."""


class Stream:
    """One request and its response."""

    __slots__ = (
        "_end_pending",
        "_headers_pending",
        "_pending",
        "_sent",
        "_trailers",
        "blocked_since",
        "connection",
        "content_left",
        "id",
        "pending_size",
        "receive_window",
        "responded",
        "retained_size",
        "send_window",
        "state",
        "unread_size",
    )

    def __init__(self, connection: "FrameSender[Stream]", stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.state = IDLE
        self.send_window = connection.peer_initial_window
        self.receive_window = connection.stream_window
        self.unread_size = 0
        """Received bytes that the layer above holds unread. The receive window does not reopen for
        them."""
        self.content_left = -1
        """Bytes of content that content-length still announces; -1 without content-length."""
        self.responded = False
        self.pending_size = 0
        """Bytes of content that wait for a flow-control window or for the socket."""
        self.retained_size = 0
        """Bytes of the buffers of content that were not yet written to their end."""
        self._sent = 0
        """Bytes of the first pending buffer that were sent."""
        self.blocked_since: float | None = None
        """Time when output began to wait or was last sent; None if no output waits."""
        self._pending: deque[memoryview] | None = None
        self._headers_pending: bytes | None = None
        self._trailers: bytes | None = None
        self._end_pending = False

    # Called by the connection, implemented by the layer above.

    def on_request(self) -> None:
        """The stream is open; the response may be sent from now on."""
        raise NotImplementedError

    def on_data(self, data: bytes, start: int, stop: int) -> None:
        """Content arrived: data[start:stop], never empty. Passing the bounds avoids a copy."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The request is complete."""
        raise NotImplementedError

    def on_reset(self) -> None:
        """The stream was reset by the peer, ended by an error, or lost with its connection."""
        raise NotImplementedError

    def on_drained(self) -> None:
        """Some of the pending content was sent."""
        raise NotImplementedError

    def on_written(self) -> None:
        """`retained_size` has decreased, maybe after the end of the stream."""
        raise NotImplementedError

    # Called by the layer above.

    def respond(self, block: bytes) -> None:
        """Send the header block of the response."""
        self.responded = True
        if self._headers_pending is None and not self._has_pending() and not self.connection.paused:
            self.connection.send_headers(self.id, block, end_stream=False)
        else:
            self._headers_pending = block
            self.connection.enqueue(self)

    def write(self, data: Buffer) -> None:
        """Send content, or queue it until the windows and the socket have room."""
        connection = self.connection
        size = len(data)
        if (
            size <= connection.write_quota
            and size <= self.send_window
            and size <= frames.DEFAULT_FRAME_SIZE
            and self._pending is None
            and self._headers_pending is None
        ):
            connection.write_quota -= size
            self.send_window -= size
            connection.output.append(frames.HEADER.pack(size << 8, 0, self.id) + data)
            if not connection.flush_scheduled:
                connection.schedule_flush()
            return
        if self._pending is None:
            self._pending = deque()
            self.blocked_since = connection.now
        self._pending.append(memoryview(data))  # frames are cut from it without a copy
        self.pending_size += size
        self.retained_size += size
        connection.enqueue(self)

    def write_buffers(self, buffers: Iterable[Buffer]) -> None:
        """Send the content of several buffers. It is not copied, so it must not change."""
        for buffer in buffers:
            self.write(buffer)

    def end(self, trailers: bytes | None = None) -> None:
        """End the response after the pending content, with a block of trailers or without."""
        if trailers is not None and not self._has_pending() and not self.connection.paused:
            self.responded = True
            self.connection.send_headers(self.id, trailers, end_stream=True)
            self._on_end_sent()
            return
        self._trailers = trailers
        self._end_pending = True
        if self.blocked_since is None:
            self.blocked_since = self.connection.now
        self.connection.enqueue(self)

    def reset(self, code: ErrorCode) -> None:
        """Send RST_STREAM and close the stream (section 6.4)."""
        if self.state != CLOSED:
            self.connection.send_reset(self.id, code)
            self.discard()

    def discard(self) -> None:
        """Close the stream without a frame, and drop its pending output."""
        self.state = CLOSED
        if self._pending is not None:
            self.retained_size -= sum(map(len, self._pending))
        self._pending = self._headers_pending = self._trailers = None
        self.pending_size = 0
        self.blocked_since = None
        self.connection.remove(self)

    def set_unread(self, size: int) -> None:
        """Set `unread_size`. The window reopens for the bytes that the layer above has read."""
        has_read = size < self.unread_size
        self.unread_size = size
        if has_read:
            self.update_receive_window()

    def update_receive_window(self) -> None:
        """Send WINDOW_UPDATE once half of the window is free, so that updates are rare."""
        window = self.connection.stream_window
        free = window - self.receive_window - self.unread_size
        if free >= window // 2 and NEXT_STATE[self.state][RECV_DATA] != ILLEGAL:
            self.receive_window += free
            self.connection.send_control(frames.window_update(self.id, free))

    # Called by the connection.

    def send_frame(self) -> bool:
        """Send one pending frame, if possible. Returns whether to call this method again."""
        connection = self.connection
        if connection.paused:
            return False
        if self._headers_pending is not None:
            connection.send_headers(self.id, self._headers_pending, end_stream=False)
            self._headers_pending = None
        if self._pending:
            return self._send_data(self._pending)
        if self._end_pending:
            self._send_end()
        return False

    def _send_data(self, pending: deque[memoryview]) -> bool:
        connection = self.connection
        data, start = pending[0], self._sent
        room = min(connection.write_quota, self.send_window, connection.frame_size)
        if room <= 0 and data:
            return False
        stop = min(start + room, len(data)) if data else 0
        size = stop - start
        if stop == len(data):
            self._sent = 0
            connection.emitted(self, stop)
            pending.popleft()
        else:
            self._sent = stop
        connection.write_quota -= size
        self.send_window -= size
        self.pending_size -= size
        self.blocked_since = connection.now
        connection.emit_content(frames.HEADER.pack(size << 8, 0, self.id), data[start:stop])
        if not pending:
            self._pending = None
            self.blocked_since = None
            if self._end_pending:
                self._send_end()
        self.on_drained()
        return self._has_pending()

    def release(self, size: int) -> None:
        """The buffers of so many bytes were written to their end."""
        self.retained_size -= size
        self.on_written()

    def _send_end(self) -> None:
        if self._trailers is not None:
            self.connection.send_headers(self.id, self._trailers, end_stream=True)
        else:
            self.connection.emit(frames.frame(frames.DATA, frames.END_STREAM, self.id, b""))
        self._end_pending = False
        self._on_end_sent()

    def _on_end_sent(self) -> None:
        state = self.state = NEXT_STATE[self.state][SEND_END]
        if state == CLOSED:
            self.discard()
        else:
            # Section 8.1: the response is complete, so ask the client not to send the rest.
            self.reset(ErrorCode.NO_ERROR)

    def _has_pending(self) -> bool:
        return self._pending is not None or self._headers_pending is not None or self._end_pending
