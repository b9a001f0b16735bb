"""The sending half of a connection: the output buffer, the connection's flow-control window, and
the queue of streams that wait for room.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from extproc.transport.counters import Counters
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.header_blocks import EMPTY_DYNAMIC_TABLE
from extproc.transport.limits import KIB, TransportLimits

WRITE_CHUNK: Final = 256 * KIB
"""Bytes of content for one write to the socket. The rest stays in the streams, which count it and
take turns on the connection."""

REMEMBERED_RESETS: Final = 4096
"""Streams that we reset and whose late frames we accept: enough for the resets of one round
trip."""


class SendingStream(Protocol):
    """The part of a stream that its sender uses. The module of streams imports this one."""

    id: int
    pending_size: int

    def send_frame(self) -> bool:
        """Send one pending frame; returns whether another one can follow now."""


AnyStream = TypeVar("AnyStream", bound=SendingStream)


class FrameSender(Generic[AnyStream]):
    """Encodes frames for the streams of a connection and keeps them until the socket takes them."""

    __slots__ = (
        "_control_backlog",
        "_limits",
        "_next_block_prefix",
        "_on_output",
        "_queue",
        "_reset_streams",
        "_window_reserve",
        "counters",
        "flush_scheduled",
        "now",
        "output",
        "paused",
        "peer_initial_window",
        "stream_window",
        "streams",
        "write_quota",
    )

    def __init__(
        self, limits: TransportLimits, counters: Counters, on_output: Callable[[], None], now: float
    ) -> None:
        self.now = now
        """Time of the last call that passed one in."""
        self.counters = counters
        self.output: list[bytes] = []
        self.flush_scheduled = False
        """Whether `take_output` will be called soon anyway; if not, new output calls
        `schedule_flush`."""
        self.paused = False
        """Whether the socket is full. Streams then keep their output."""
        self.peer_initial_window = frames.DEFAULT_WINDOW
        self.stream_window = limits.stream_window
        self.write_quota = frames.DEFAULT_WINDOW
        """Bytes of content that may be added to the output now. The rest of the connection's
        flow-control window (section 6.9) is in `_window_reserve`. So one comparison in
        `Stream.write` covers the window, `WRITE_CHUNK` and a full socket."""
        self._window_reserve = 0
        self.streams: dict[int, AnyStream] = {}
        self._limits = limits
        self._on_output = on_output
        self._next_block_prefix = EMPTY_DYNAMIC_TABLE
        self._queue: dict[int, AnyStream] = {}
        self._reset_streams: OrderedDict[int, None] = OrderedDict()
        self._control_backlog = 0

    def schedule_flush(self) -> None:
        """Have `take_output` called, for output that was added outside of a read."""
        self.flush_scheduled = True
        self._on_output()

    def emit(self, data: bytes) -> None:
        """Add an encoded frame to the output."""
        self.output.append(data)
        if not self.flush_scheduled:
            self.schedule_flush()

    def send_headers(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        if self._next_block_prefix:
            block, self._next_block_prefix = self._next_block_prefix + block, b""
        self.emit(frames.headers(stream_id, block, end_stream=end_stream))

    def send_control(self, data: bytes) -> None:
        """Send a frame that is not flow-controlled. It is counted while the socket is full."""
        if self.paused:
            self._control_backlog += len(data)
        self.emit(data)

    def send_reset(self, stream_id: int, code: ErrorCode) -> None:
        self._reset_streams[stream_id] = None
        if len(self._reset_streams) > REMEMBERED_RESETS:
            self._reset_streams.popitem(last=False)
        self.send_control(frames.rst_stream(stream_id, code))

    def enqueue(self, stream: AnyStream) -> None:
        """Send the pending output of a stream now, or queue the stream behind the others."""
        if self.write_quota <= 0 or self._queue or self.paused:
            self._queue[stream.id] = stream
        else:
            while stream.send_frame():
                if self.write_quota <= 0:
                    self._queue[stream.id] = stream
                    return

    def remove(self, stream: AnyStream) -> None:
        """Forget a closed stream."""
        self.streams.pop(stream.id, None)
        self._queue.pop(stream.id, None)
        self.counters.streams_closed += 1

    def take_output(self) -> bytes:
        """Take the bytes to write now. Call it until it returns none or the socket is full."""
        if not self.paused:
            window = self.write_quota + self._window_reserve
            self.write_quota = min(window, WRITE_CHUNK)
            self._window_reserve = window - self.write_quota
            if self._queue:
                self.flush_scheduled = True
                self._send_queued()
        data = b"".join(self.output)
        self.output.clear()
        self.flush_scheduled = False
        return data

    def pause_writing(self) -> None:
        """The socket is full."""
        self.paused = True
        self._window_reserve += self.write_quota
        self.write_quota = 0

    def resume_writing(self) -> None:
        """The socket has room again. Call `take_output` after it."""
        self.paused = False
        self._control_backlog = 0
        self.flush_scheduled = True
        for stream in list(self._queue.values()):
            if not stream.pending_size:
                del self._queue[stream.id]
                stream.send_frame()

    def _send_queued(self) -> None:
        """Send one frame of each queued stream in turn while there is room."""
        queue = self._queue
        while queue and self.write_quota > 0:
            stream_id, stream = next(iter(queue.items()))
            del queue[stream_id]
            if stream.send_frame():
                queue[stream_id] = stream
