"""One HTTP/2 connection, server side: reads frames, keeps the state of RFC 9113 and writes frames.

It owns no socket and no clock. The edge passes in what it read (`receive`) and the time, takes what
is to be written (`take`), and calls `tick` now and then; the layer above makes a `Stream` of each
request (`accept`). Streams reach back through the methods of `Endpoint`.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from extproc.transport.counters import Counters
from extproc.transport.http2 import frames
from extproc.transport.http2.blocks import Fields
from extproc.transport.http2.errors import (
    AbuseError,
    ConnectionFaultError,
    ErrorCode,
    StreamFaultError,
)
from extproc.transport.http2.fields import NO_TABLE, RequestHeads, check_regular
from extproc.transport.http2.rates import RateBucket
from extproc.transport.http2.streams import (
    CLOSED,
    ILLEGAL,
    NEXT_STATE,
    RECV_DATA,
    RECV_END,
    RECV_HEADERS,
    Stream,
)
from extproc.transport.limits import KIB, TransportLimits

Head = TypeVar("Head")

WRITE_CHUNK: Final = 256 * KIB
"""Content handed to the socket at once; the rest waits in its stream, where it is accounted for and
shares the connection fairly."""

REMEMBERED_RESETS: Final = 4096
"""Streams whose late frames are forgiven because we reset them; it covers a round trip of
resets."""

SMALL_UPDATE: Final = 256
"""A window update below this is charged. Larger ones need no charge: 2^31 / 256 of them overflow
the window unless content flows, and then they are its price."""


class Endpoint:
    """What streams need of their connection: room to send, and the output."""

    __slots__ = (
        "_control_backlog",
        "_limits",
        "_on_output",
        "_prefix",
        "_ready",
        "_reserve",
        "_resets",
        "corked",
        "counters",
        "now",
        "out",
        "paused",
        "peer_frame_size",
        "peer_window",
        "quota",
        "stream_window",
        "streams",
    )

    def __init__(
        self, limits: TransportLimits, counters: Counters, on_output: Callable[[], None], now: float
    ) -> None:
        self.now = now
        self.counters = counters
        self.out: list[bytes] = []
        self.corked = False
        """Whether somebody will take the output soon; else whoever adds to it says so by `cork`."""
        self.paused = False
        """Whether the socket is full: streams then keep what they have to send."""
        self.peer_window = frames.DEFAULT_WINDOW
        self.peer_frame_size = frames.DEFAULT_FRAME_SIZE
        self.stream_window = limits.stream_window
        self.quota = frames.DEFAULT_WINDOW
        """Bytes of content that may be added to the output now. The part of the connection's window
        (section 6.9) beyond one write stands in `_reserve`, so that one comparison in
        `Stream.write` obeys the window, the size of a write and a full socket."""
        self._reserve = 0
        self.streams: dict[int, Stream] = {}
        self._limits = limits
        self._on_output = on_output
        self._prefix = NO_TABLE
        self._ready: dict[int, Stream] = {}
        self._resets: OrderedDict[int, None] = OrderedDict()
        self._control_backlog = 0

    def cork(self) -> None:
        """Announce output that nobody is about to take."""
        self.corked = True
        self._on_output()

    def emit(self, data: bytes) -> None:
        self.out.append(data)
        if not self.corked:
            self.cork()

    def send_headers(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
        self.emit(
            frames.headers(stream_id, block, end_stream=end_stream, largest=self.peer_frame_size)
        )

    def send_control(self, data: bytes) -> None:
        """Send a frame that no window holds back; counted while the socket is full."""
        if self.paused:
            self._control_backlog += len(data)
        self.emit(data)

    def send_reset(self, stream_id: int, code: ErrorCode) -> None:
        self._resets[stream_id] = None
        if len(self._resets) > REMEMBERED_RESETS:
            self._resets.popitem(last=False)
        self.send_control(frames.rst_stream(stream_id, code))

    def enqueue(self, stream: Stream) -> None:
        """Let a stream send what waits in it, in turn with the others."""
        if self.quota <= 0 or self._ready or self.paused:
            self._ready[stream.id] = stream
        else:
            while stream.send_some():
                if self.quota <= 0:
                    self._ready[stream.id] = stream
                    return

    def forget(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        self._ready.pop(stream.id, None)
        self.counters.streams_closed += 1

    def _pump(self) -> None:
        """Give each waiting stream one frame in turn while there is room."""
        ready = self._ready
        while ready and self.quota > 0:
            stream_id, stream = next(iter(ready.items()))
            del ready[stream_id]
            if stream.send_some():
                ready[stream_id] = stream


class _HeaderBlock(NamedTuple):
    """A header block that CONTINUATION frames are still to complete."""

    stream_id: int
    flags: int
    parts: list[bytes]
    since: float


class Connection(Endpoint, Generic[Head]):
    """The server's end of one connection.

    `interpret` makes the layer above's view of a request's headers; it is kept for header blocks
    that repeat, so it must depend on nothing else. `accept` makes the stream of one request from
    it.
    """

    __slots__ = (
        "_accept",
        "_active",
        "_empty_frames",
        "_final_id",
        "_goaway_ping",
        "_heads",
        "_keepalive",
        "_last_id",
        "_late_frames",
        "_open_block",
        "_opened",
        "_pings",
        "_received",
        "_reset_rate",
        "_rest",
        "_setting_rate",
        "_settled",
        "_skipped",
        "_stopped",
        "_updates",
        "_window",
        "closing",
        "going_away",
    )

    def __init__(
        self,
        *,
        limits: TransportLimits,
        counters: Counters,
        interpret: Callable[[Fields], Head],
        accept: Callable[["Connection[Head]", int, Head], Stream],
        on_output: Callable[[], None],
        now: float,
    ) -> None:
        super().__init__(limits, counters, on_output, now)
        self.closing = False
        """Nothing more will be read; close once the output is written."""
        self.going_away = False
        self._accept = accept
        self._heads = RequestHeads(interpret, limits.max_header_list)
        self._rest = b""
        self._settled = False
        """Whether the client's preface and first SETTINGS have arrived."""
        self._last_id = 0
        self._final_id = frames.MAX_STREAM_ID
        self._skipped: list[tuple[int, int]] = []
        self._open_block: _HeaderBlock | None = None
        self._window = limits.connection_window
        self._received = 0
        self._opened = now
        self._active = now
        self._keepalive: float | None = None
        self._goaway_ping = False
        self._reset_rate = RateBucket("resets", limits.resets, now)
        self._setting_rate = RateBucket("settings", limits.settings, now)
        self._pings = RateBucket("pings", limits.pings, now)
        self._empty_frames = RateBucket("empty_frames", limits.empty_frames, now)
        self._late_frames = RateBucket("late_frames", limits.late_frames, now)
        self._updates = RateBucket("window_updates", limits.window_updates, now)
        self.out.append(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
                    frames.INITIAL_WINDOW_SIZE: limits.stream_window,
                    frames.MAX_HEADER_LIST_SIZE: limits.max_header_list,
                }
            )
            + frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW)
        )

    # The edge's side.

    def receive(self, data: bytes, now: float) -> None:
        """Read what the socket gave; never raises."""
        if self.closing:
            return
        self.now = self._active = now
        self._keepalive = None
        self.corked = True
        try:
            if self._settled:
                self._read_frames(data)
            else:
                self._read_preface(data)
            if self._received >= self._window // 2:
                self.send_control(frames.window_update(0, self._received))
                self._received = 0
            if self._control_backlog > self._limits.max_control_backlog:
                raise AbuseError("max_control_backlog")
        except ConnectionFaultError as violation:
            self.fail(violation)

    def take(self) -> bytes:
        """What is to be written now. Call again until it is empty, or until the socket is full."""
        if not self.paused:
            window = self.quota + self._reserve
            self.quota = min(window, WRITE_CHUNK)
            self._reserve = window - self.quota
            if self._ready:
                self.corked = True
                self._pump()
        data = b"".join(self.out)
        self.out.clear()
        self.corked = False
        return data

    def pause(self) -> None:
        """The socket is full."""
        self.paused = True
        self._reserve += self.quota
        self.quota = 0

    def resume(self) -> None:
        """The socket takes more; the output is to be taken after this."""
        self.paused = False
        self._control_backlog = 0
        self.corked = True
        for stream in list(self._ready.values()):
            if not stream.pending_size:
                del self._ready[stream.id]
                stream.send_some()

    def fail(self, violation: ConnectionFaultError) -> None:
        """Tell the peer why, and end everything (section 5.4.1)."""
        if isinstance(violation, AbuseError):
            self.counters.abuse(violation.limit)
        else:
            self.counters.protocol_error(violation.code.name)
        self.out.append(frames.goaway(self._last_id, violation.code, violation.reason))
        self.lost()

    def lost(self) -> None:
        """The connection is over: tell every stream."""
        self.closing = True
        self._rest = b""
        self._open_block = None
        for stream in list(self.streams.values()):
            stream.discard()
            stream.on_reset()

    def go_away(self) -> None:
        """Begin a graceful end (section 6.8): first ask for no more streams, without refusing those
        under way; the PING's answer shows that the peer has read it, and the last stream is
        named."""
        if self.going_away or self.closing:
            return
        self.going_away = True
        self._goaway_ping = True
        self.emit(
            frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR, "going away")
            + frames.frame(frames.PING, 0, 0, b"goodbye\0")
        )

    def stop_accepting(self) -> None:
        """Name the last stream that will be served; close when all have ended."""
        self.going_away = True
        self._goaway_ping = False
        if self._final_id == frames.MAX_STREAM_ID:
            self._final_id = self._last_id
            self.emit(frames.goaway(self._last_id, ErrorCode.NO_ERROR, "going away"))

    @property
    def drained(self) -> bool:
        """Whether a graceful end is complete."""
        return self.going_away and not self.streams and not self._goaway_ping

    def tick(self, now: float) -> None:
        """Enforce what time limits there are; call it several times within the shortest."""
        if self.closing:
            return
        self.now = now
        try:
            self._check_beginnings(now)
            self._check_silence(now)
            self._check_stalls(now)
        except ConnectionFaultError as violation:
            self.fail(violation)
            self.cork()

    # Time.

    def _check_beginnings(self, now: float) -> None:
        since = self._opened if not self._settled else now
        if self._open_block is not None:
            since = self._open_block.since
        if now - since > self._limits.handshake_timeout:
            raise AbuseError("handshake_timeout")

    def _check_silence(self, now: float) -> None:
        limits = self._limits
        silent = now - self._active
        if self._keepalive is not None:
            if now - self._keepalive > limits.keepalive_timeout:
                raise AbuseError("keepalive_timeout")
        elif silent > limits.idle_timeout and not self.streams and not self.going_away:
            self.go_away()
        elif silent > limits.keepalive_interval:
            self._keepalive = now
            self.emit(frames.frame(frames.PING, 0, 0, b"are you?"))

    def _check_stalls(self, now: float) -> None:
        limit = self._limits.stall_timeout
        for stream in list(self.streams.values()):
            if stream.waiting_since is not None and now - stream.waiting_since > limit:
                if self.paused:
                    raise AbuseError("stall_timeout")
                self.counters.abuse("stall_timeout")
                stream.reset(ErrorCode.ENHANCE_YOUR_CALM)
                stream.on_reset()

    # Reading.

    def _read_preface(self, data: bytes) -> None:
        data = self._rest + data
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2")
        if len(data) < size + frames.HEADER_SIZE:
            self._rest = data
            return
        word, flags, _ = frames.HEADER.unpack_from(data, size)
        if word & 0xFF != frames.SETTINGS or flags & frames.ACK:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS come first")
        self._settled = True
        self._rest = b""
        self._read_frames(data[size:])

    def _read_frames(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position = 0
        size = len(data)
        unpack = frames.HEADER.unpack_from
        while size - position >= 9:
            word, flags, stream_id = unpack(data, position)
            if word > frames.LARGEST_WORD:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "frame too large")
            start = position + 9
            position = start + (word >> 8)
            if position > size:
                position = start - 9
                break
            kind = word & 0xFF
            if self._open_block is not None and kind != frames.CONTINUATION:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "header block interrupted")
            if kind < len(_READERS):
                try:
                    _READERS[kind](self, flags, stream_id & 0x7FFFFFFF, data, start, position)
                except StreamFaultError as violation:
                    self._stream_error(stream_id & 0x7FFFFFFF, violation)
            else:
                self._empty_frames.charge(self.now)  # section 5.5: unknown types are ignored
        if position < size:
            self._rest = data[position:]

    def _stream_error(self, stream_id: int, violation: StreamFaultError) -> None:
        self.counters.protocol_error(violation.code.name)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._reset_rate.charge(self.now)
            self.send_reset(stream_id, violation.code)
            return
        if not stream.responded:
            self._reset_rate.charge(self.now)
        stream.reset(violation.code)
        stream.on_reset()

    def _read_data(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        length = stop - start
        self._received += length
        if self._received > self._window:
            raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        if flags & frames.PADDED:
            start, stop = frames.without_padding(data, start, stop)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late_frame(stream_id)
            return
        if NEXT_STATE[stream.state][RECV_DATA] == ILLEGAL:
            raise StreamFaultError(ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        stream.receive_window -= length
        if stream.body_left >= 0:
            self._count_body(stream, stop - start, flags)
        if start != stop:
            if stream.receive_window < self.stream_window >> 1:
                self._check_window(stream)
            stream.on_data(data, start, stop)
        elif not flags & frames.END_STREAM:
            self._empty_frames.charge(self.now)
        if flags & frames.END_STREAM and stream.state != CLOSED:
            self._end_request(stream)

    def _check_window(self, stream: Stream) -> None:
        if stream.receive_window < 0:
            raise StreamFaultError(ErrorCode.FLOW_CONTROL_ERROR, "stream window exceeded")
        stream.credit()

    def _count_body(self, stream: Stream, size: int, flags: int) -> None:
        """Section 8.1.1: content must be as long as content-length says."""
        stream.body_left -= size
        if stream.body_left < 0 or (stream.body_left and flags & frames.END_STREAM):
            raise StreamFaultError(ErrorCode.PROTOCOL_ERROR, "content-length is wrong")

    def _end_request(self, stream: Stream) -> None:
        stream.state = NEXT_STATE[stream.state][RECV_END]
        stream.on_end()

    def _read_headers(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        if not stream_id & 1:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "not a client's stream")
        if flags & (frames.PADDED | frames.PRIORITIZED):
            start, stop = self._headers_bounds(flags, stream_id, data, start, stop)
        block = data[start:stop]
        if flags & frames.END_HEADERS:
            self._read_block(flags, stream_id, block)
        else:
            self._open_block = _HeaderBlock(stream_id, flags, [block], self.now)

    def _headers_bounds(
        self, flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> tuple[int, int]:
        if flags & frames.PADDED:
            start, stop = frames.without_padding(data, start, stop)
        if flags & frames.PRIORITIZED:
            if stop - start < 5:
                raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short")
            self._check_dependency(stream_id, data, start)
            start += 5
        return start, stop

    def _check_dependency(self, stream_id: int, data: bytes, start: int) -> None:
        """Priorities are not used (section 5.3), but a stream must not depend on itself."""
        if frames.UINT32.unpack_from(data, start)[0] & 0x7FFFFFFF == stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def _read_continuation(
        self, flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        block = self._open_block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.parts.append(data[start:stop])
        if len(block.parts) > self._limits.max_continuations:
            raise AbuseError("max_continuations")
        if sum(map(len, block.parts)) > self._limits.max_header_list:
            raise AbuseError("max_header_list")
        if flags & frames.END_HEADERS:
            self._open_block = None
            self._read_block(block.flags, stream_id, b"".join(block.parts))

    def _read_block(self, flags: int, stream_id: int, block: bytes) -> None:
        if stream_id <= self._last_id:
            self._read_trailers(flags, stream_id, block)
            return
        if stream_id != self._last_id + 2 and stream_id != 1:
            self._skipped = [*self._skipped[-9:], (self._last_id, stream_id)]
        self._last_id = stream_id
        head, length = self._heads.request(block)
        if len(self.streams) >= self._limits.max_concurrent_streams or stream_id > self._final_id:
            self._refuse(stream_id)
            return
        self.counters.streams_opened += 1
        stream = self.streams[stream_id] = self._accept(self, stream_id, head)
        stream.state = NEXT_STATE[stream.state][RECV_HEADERS]
        stream.body_left = length
        ends = flags & frames.END_STREAM
        if ends and length > 0:
            raise StreamFaultError(ErrorCode.PROTOCOL_ERROR, "content-length is wrong")
        stream.on_request()
        if ends and stream.state != CLOSED:
            self._end_request(stream)

    def _refuse(self, stream_id: int) -> None:
        """Section 5.1.2; a refused stream was not looked at, so the client may try again."""
        self.counters.streams_refused += 1
        self._reset_rate.charge(self.now)
        self.send_reset(stream_id, ErrorCode.REFUSED_STREAM)

    def _read_trailers(self, flags: int, stream_id: int, block: bytes) -> None:
        fields = self._heads.fields(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            if any(low < stream_id < high for low, high in self._skipped):
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "stream identifier went back")
            self._late_frame(stream_id)
            return
        if NEXT_STATE[stream.state][RECV_HEADERS] == ILLEGAL:
            raise StreamFaultError(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if not flags & frames.END_STREAM:
            raise StreamFaultError(ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")
        check_regular(fields)
        if stream.body_left > 0:
            raise StreamFaultError(ErrorCode.PROTOCOL_ERROR, "content-length is wrong")
        self._end_request(stream)

    def _late_frame(self, stream_id: int) -> None:
        """A frame for a stream that is not open: section 5.1, idle and closed."""
        if stream_id > self._last_id or not stream_id & 1:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "frame on an idle stream")
        if stream_id not in self._resets:
            raise ConnectionFaultError(ErrorCode.STREAM_CLOSED, "frame on a closed stream")
        self._late_frames.charge(self.now)

    def _read_priority(
        self, _flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        if stream_id == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PRIORITY of the connection")
        if stop - start != 5:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")
        self._check_dependency(stream_id, data, start)
        self._empty_frames.charge(self.now)

    def _read_rst_stream(
        self, _flags: int, stream_id: int, _data: bytes, start: int, stop: int
    ) -> None:
        if stop - start != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has 4 bytes")
        if stream_id == 0 or stream_id > self._last_id:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late_frames.charge(self.now)
            return
        self.counters.streams_reset_by_peer += 1
        responded = stream.responded
        stream.discard()
        stream.on_reset()
        if not responded:
            self._reset_rate.charge(self.now)

    def _read_settings(
        self, flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        if stream_id != 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if (stop - start) % 6 or (flags & frames.ACK and start != stop):
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS size")
        self._setting_rate.charge(self.now)
        if flags & frames.ACK:
            return
        # Before what the new settings let go, so that the peer sees it come under them.
        self.send_control(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        for name, value in frames.SETTING.iter_unpack(data[start:stop]):
            self._apply_setting(name, value)

    def _apply_setting(self, name: int, value: int) -> None:
        if name == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        if name == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE range")
            # Larger frames than the default would let one stream hold the connection for longer.
        elif name == frames.INITIAL_WINDOW_SIZE:
            self._change_windows(value)

    def _change_windows(self, value: int) -> None:
        """Section 6.9.2: the windows of open streams move by the difference, maybe below zero."""
        if value > frames.MAX_WINDOW:
            raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
        change, self.peer_window = value - self.peer_window, value
        for stream in list(self.streams.values()):
            stream.send_window += change
            if stream.send_window > frames.MAX_WINDOW:
                raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "window too large")
            if change > 0 and stream.pending_size:
                self.enqueue(stream)

    def _read_push_promise(
        self, _flags: int, _stream_id: int, _data: bytes, _start: int, _stop: int
    ) -> None:
        raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _read_ping(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        if stream_id != 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if stop - start != 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "PING has 8 bytes")
        self._pings.charge(self.now)
        if not flags & frames.ACK:
            self.send_control(frames.frame(frames.PING, frames.ACK, 0, data[start:stop]))
        elif self._goaway_ping:
            self.stop_accepting()

    def _read_goaway(
        self, _flags: int, stream_id: int, _data: bytes, start: int, stop: int
    ) -> None:
        if stream_id != 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if stop - start < 8:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY too short")
        self.stop_accepting()

    def _read_window_update(
        self, _flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        if stop - start != 4:
            raise ConnectionFaultError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has 4 bytes")
        increment = frames.UINT32.unpack_from(data, start)[0] & 0x7FFFFFFF
        if increment < SMALL_UPDATE:
            self._updates.charge(self.now)
        if stream_id == 0:
            self._widen_connection(increment)
        else:
            self._widen_stream(stream_id, increment)

    def _widen_connection(self, increment: int) -> None:
        if increment == 0:
            raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        window = self.quota + self._reserve + increment
        if window > frames.MAX_WINDOW:
            raise ConnectionFaultError(ErrorCode.FLOW_CONTROL_ERROR, "window too large")
        # Into the reserve only: `take` makes quota of it, so one read writes one chunk at most.
        self._reserve += increment

    def _widen_stream(self, stream_id: int, increment: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self._last_id or not stream_id & 1:
                raise ConnectionFaultError(ErrorCode.PROTOCOL_ERROR, "window of an idle stream")
            return  # section 5.1: to be expected for a while after a stream has closed
        if increment == 0:
            raise StreamFaultError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFaultError(ErrorCode.FLOW_CONTROL_ERROR, "window too large")
        if stream.pending_size:
            self.enqueue(stream)


_READERS: Final = (
    Connection._read_data,
    Connection._read_headers,
    Connection._read_priority,
    Connection._read_rst_stream,
    Connection._read_settings,
    Connection._read_push_promise,
    Connection._read_ping,
    Connection._read_goaway,
    Connection._read_window_update,
    Connection._read_continuation,
)
"""By frame type. A tuple of functions, not of bound methods, which would be a reference cycle."""
