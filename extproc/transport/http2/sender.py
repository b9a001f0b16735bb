"""The sending half of a connection: the output buffer, the connection's flow-control window, and
the queue of streams that wait for the window or the socket.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from extproc.segments import Buffer
from extproc.transport.counters import Counters
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.header_blocks import EMPTY_DYNAMIC_TABLE
from extproc.transport.limits import KIB, TransportLimits

WRITE_CHUNK: Final = 256 * KIB
"""Maximum bytes of DATA content in one write to the socket. The rest stays in the streams, which
count it in `pending_size` and send in turn."""

MIN_UNCOPIED: Final = 16 * KIB
"""Bytes of large content in one write from which its buffers are not joined. The system call takes
longer for many buffers than the copy of a little content."""

REMEMBERED_RESETS: Final = 4096
"""Maximum number of reset streams whose late frames we accept: enough for the resets of one round
trip."""


class SendingStream(Protocol):
    """The part of `Stream` that the sender uses (`streams` imports this module)."""

    id: int
    pending_size: int

    def send_frame(self) -> bool:
        """Send one pending frame, if possible. Returns whether to call this method again."""

    def release(self, size: int) -> None:
        """Content that the output referred to was written."""


AnyStream = TypeVar("AnyStream", bound=SendingStream)


class FrameSender(Generic[AnyStream]):
    """Encodes frames for the streams of a connection, and buffers them until `take_output`."""

    __slots__ = (
        "_control_backlog",
        "_emitted",
        "_limits",
        "_next_block_prefix",
        "_on_output",
        "_queue",
        "_reset_streams",
        "_uncopied_size",
        "_window_reserve",
        "_written",
        "counters",
        "flush_scheduled",
        "frame_size",
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
        """The latest time that the caller passed in."""
        self.counters = counters
        self.output: list[Buffer] = []
        self.flush_scheduled = False
        """Whether a call of `take_output` will follow. If not, `schedule_flush` must be called
        after output was added."""
        self.paused = False
        """Whether the socket is full. While it is full, streams keep their content."""
        self.peer_initial_window = frames.DEFAULT_WINDOW
        self.stream_window = limits.stream_window
        self.frame_size = frames.DEFAULT_FRAME_SIZE
        """Maximum bytes of content in a DATA frame."""
        self.write_quota = frames.DEFAULT_WINDOW
        """Bytes of content that may be added to the output now; 0 while the socket is full. The
        rest of the connection's flow-control window (RFC 9113 section 6.9) is in `_window_reserve`.
        So one comparison in `Stream.write` covers the window, `WRITE_CHUNK` and a full socket."""
        self._window_reserve = 0
        self.streams: dict[int, AnyStream] = {}
        self._limits = limits
        self._on_output = on_output
        self._next_block_prefix = EMPTY_DYNAMIC_TABLE
        self._queue: dict[int, AnyStream] = {}
        self._reset_streams: OrderedDict[int, None] = OrderedDict()
        self._control_backlog = 0
        self._uncopied_size = 0
        self._emitted: list[tuple[AnyStream, int]] = []
        """Sizes of the buffers of which the output has the end, by stream."""
        self._written: list[tuple[AnyStream, int]] = []
        """The same for output that the socket may not have accepted yet."""

    def schedule_flush(self) -> None:
        """Request a call of `take_output`, for output that was not added during a read."""
        self.flush_scheduled = True
        self._on_output()

    def emit(self, data: Buffer) -> None:
        """Add an encoded frame to the output."""
        self.output.append(data)
        if not self.flush_scheduled:
            self.schedule_flush()

    def emit_content(self, head: bytes, content: memoryview) -> None:
        """Add a DATA frame to the output without a copy of its content."""
        self._uncopied_size += len(content)
        self.output.append(head)
        self.emit(content)

    def emitted(self, stream: AnyStream, size: int) -> None:
        """Call `stream.release(size)` when the output has been written."""
        self._emitted.append((stream, size))

    def send_headers(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        if self._next_block_prefix:
            block, self._next_block_prefix = self._next_block_prefix + block, b""
        self.emit(frames.headers(stream_id, block, end_stream=end_stream))

    def send_control(self, data: bytes) -> None:
        """Send a frame that is not flow-controlled. While the socket is full, count its bytes."""
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
        """Remove a closed stream from the connection."""
        self.streams.pop(stream.id, None)
        self._queue.pop(stream.id, None)
        self.counters.streams_closed += 1

    def take_output(self) -> bytes:
        """Return the bytes to write now. Call it until it returns b"" or the socket is full."""
        return b"".join(self.take_buffers())

    def take_buffers(self) -> list[Buffer]:
        """Do the same without a copy of large content."""
        if self._written and not self.paused:
            self._release_written()
        if not self.paused:
            window = self.write_quota + self._window_reserve
            self.write_quota = min(window, WRITE_CHUNK)
            self._window_reserve = window - self.write_quota
            if self._queue:
                self.flush_scheduled = True
                self._send_queued()
        if self._emitted:
            self._written += self._emitted
            self._emitted = []
        output, self.output = self.output, []
        self.flush_scheduled = False
        if self._uncopied_size < MIN_UNCOPIED and output:
            output = [b"".join(output)]
        self._uncopied_size = 0
        return output

    def _release_written(self) -> None:
        """The socket has accepted all output, so nothing refers to its content any more."""
        written, self._written = self._written, []
        for stream, size in written:
            stream.release(size)

    def pause_writing(self) -> None:
        """Stop sending content, because the socket is full."""
        self.paused = True
        self._window_reserve += self.write_quota
        self.write_quota = 0

    def resume_writing(self) -> None:
        """Continue sending, because the socket accepts data again. Call `take_output` next."""
        self.paused = False
        self._control_backlog = 0
        self.flush_scheduled = True
        for stream in list(self._queue.values()):
            if not stream.pending_size:
                del self._queue[stream.id]
                stream.send_frame()

    def _send_queued(self) -> None:
        """Send one frame of each queued stream in turn, while `write_quota` is above 0."""
        queue = self._queue
        while queue and self.write_quota > 0:
            stream_id, stream = next(iter(queue.items()))
            del queue[stream_id]
            if stream.send_frame():
                queue[stream_id] = stream
