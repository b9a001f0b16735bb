"""The life of one stream (RFC 9113 section 5.1) and its half of flow control when sending.

A server that never pushes needs five of the seven states. The layer above subclasses `Stream` and
is told what arrives through the `on_` methods; it answers with `respond`, `write`, `end` and
`reset`.

                     recv headers
             idle ───────────────────▶ open ──── send end ───▶ half-closed (local)
                       recv headers     │                              │
                       and end ──┐   recv end                       recv end
                                 ▼      ▼                              ▼
                          half-closed (remote) ───── send end ──────▶ closed
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode

if TYPE_CHECKING:
    from extproc.transport.http2.connection import Endpoint

# States and events are plain integers because a member of an IntEnum hashes and compares in Python
# code; the table is indexed by them several times a call.
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
"""What each event makes of each state; where ILLEGAL is received, the error is STREAM_CLOSED."""


class Stream:
    """One request and its response."""

    __slots__ = (
        "_block",
        "_end",
        "_pending",
        "_trailers",
        "body_left",
        "connection",
        "held",
        "id",
        "pending_size",
        "receive_window",
        "responded",
        "send_window",
        "state",
        "waiting_since",
    )

    def __init__(self, connection: "Endpoint", stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.state = IDLE
        self.send_window = connection.peer_window
        self.receive_window = connection.stream_window
        self.held = 0
        """Received bytes that the layer above has not used yet; they are not credited."""
        self.body_left = -1
        """Bytes that content-length still promises; -1 without one."""
        self.responded = False
        self.pending_size = 0
        """Bytes of DATA that wait for a window or for the socket."""
        self.waiting_since: float | None = None
        self._pending: deque[memoryview] | None = None
        self._block: bytes | None = None
        self._trailers: bytes | None = None
        self._end = False

    # What the layer above is told.

    def on_request(self) -> None:
        """The stream is open: it may be answered from now on."""
        raise NotImplementedError

    def on_data(self, data: bytes, start: int, stop: int) -> None:
        """Content arrived: data[start:stop], never empty. Bounds, because slicing twice costs."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The request is complete."""
        raise NotImplementedError

    def on_reset(self) -> None:
        """The stream is gone, by the peer, by an error, or with its connection."""
        raise NotImplementedError

    def on_drained(self) -> None:
        """Less waits to be sent than before."""
        raise NotImplementedError

    # What it answers with.

    def respond(self, block: bytes) -> None:
        """Send the header block of the response; it goes out with what follows it."""
        self.responded = True
        if self._block is None and not self._waiting() and not self.connection.paused:
            self.connection.send_headers(self.id, block, end_stream=False)
        else:
            self._block = block
            self.connection.enqueue(self)

    def write(self, data: bytes) -> None:
        """Send content, or queue it for when the windows and the socket have room."""
        connection = self.connection
        size = len(data)
        if (
            size <= connection.quota
            and size <= self.send_window
            and size <= connection.peer_frame_size
            and self._pending is None
            and self._block is None
        ):
            connection.quota -= size
            self.send_window -= size
            connection.out.append(frames.HEADER.pack(size << 8, 0, self.id) + data)
            if not connection.corked:
                connection.cork()
            return
        if self._pending is None:
            self._pending = deque()
            self.waiting_since = connection.now
        self._pending.append(memoryview(data))  # cut into frames without copying the rest
        self.pending_size += size
        connection.enqueue(self)

    def end(self, trailers: bytes | None = None) -> None:
        """End the response, with a block of trailers or none, after all that was written."""
        if trailers is not None and not self._waiting() and not self.connection.paused:
            self.responded = True
            self.connection.send_headers(self.id, trailers, end_stream=True)
            self._ended()
            return
        self._trailers = trailers
        self._end = True
        if self.waiting_since is None:
            self.waiting_since = self.connection.now
        self.connection.enqueue(self)

    def reset(self, code: ErrorCode) -> None:
        """Give the stream up (section 6.4)."""
        if self.state != CLOSED:
            self.connection.send_reset(self.id, code)
            self.discard()

    def discard(self) -> None:
        """Forget the stream and what it had still to send."""
        self.state = CLOSED
        self._pending = self._block = self._trailers = None
        self.pending_size = 0
        self.waiting_since = None
        self.connection.forget(self)

    def release(self, size: int) -> None:
        """The layer above has used `size` bytes that it had counted into `held`."""
        self.held -= size
        self.credit()

    def credit(self) -> None:
        """Let the peer send on, in steps of half a window so that updates stay rare."""
        window = self.connection.stream_window
        free = window - self.receive_window - self.held
        if free >= window // 2 and NEXT_STATE[self.state][RECV_DATA] != ILLEGAL:
            self.receive_window += free
            self.connection.send_control(frames.window_update(self.id, free))

    def send_some(self) -> bool:
        """Send one frame of what waits; False where nothing more can go now."""
        connection = self.connection
        if connection.paused:
            return False
        if self._block is not None:
            connection.send_headers(self.id, self._block, end_stream=False)
            self._block = None
        if self._pending:
            return self._send_piece(self._pending)
        if self._end:
            self._send_end()
        return False

    def _send_piece(self, pending: deque[memoryview]) -> bool:
        connection = self.connection
        data = pending[0]
        room = min(connection.quota, self.send_window, connection.peer_frame_size)
        if room <= 0 and data:
            return False
        piece = bytes(data[:room])
        size = len(piece)
        if size == len(data):
            pending.popleft()
        else:
            pending[0] = data[size:]
        connection.quota -= size
        self.send_window -= size
        self.pending_size -= size
        self.waiting_since = connection.now
        connection.emit(frames.frame(frames.DATA, 0, self.id, piece))
        if not pending:
            self._pending = None
            self.waiting_since = None
            if self._end:
                self._send_end()
        self.on_drained()
        return self._waiting()

    def _send_end(self) -> None:
        if self._trailers is not None:
            self.connection.send_headers(self.id, self._trailers, end_stream=True)
        else:
            self.connection.emit(frames.frame(frames.DATA, frames.END_STREAM, self.id, b""))
        self._end = False
        self._ended()

    def _ended(self) -> None:
        state = self.state = NEXT_STATE[self.state][SEND_END]
        if state == CLOSED:
            self.discard()
        else:
            # Section 8.1: the answer is complete, the rest of the request is not wanted.
            self.reset(ErrorCode.NO_ERROR)

    def _waiting(self) -> bool:
        return self._pending is not None or self._block is not None or self._end
