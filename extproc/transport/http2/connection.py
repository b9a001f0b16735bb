"""One HTTP/2 connection, server side: reads frames and enforces RFC 9113 and the abuse limits.

It owns no socket and no clock. The caller passes in received bytes and the time
(`receive_data`), writes what `take_output` returns, and calls `check_timeouts` regularly. The
layer above creates a `Stream` for each request (`open_stream`).
"""

from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from extproc.transport.counters import Counters
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import (
    AbuseError,
    ErrorCode,
    Http2ConnectionError,
    Http2StreamError,
)
from extproc.transport.http2.fields import check_regular
from extproc.transport.http2.header_blocks import Fields
from extproc.transport.http2.header_decoder import HeaderDecoder
from extproc.transport.http2.rate_bucket import RateBucket
from extproc.transport.http2.sender import WRITE_CHUNK, FrameSender
from extproc.transport.http2.streams import (
    CLOSED,
    ILLEGAL,
    NEXT_STATE,
    RECV_DATA,
    RECV_END,
    RECV_HEADERS,
    Stream,
)
from extproc.transport.limits import TransportLimits

Request = TypeVar("Request")

SMALL_WINDOW_UPDATE: Final = 256
"""A smaller increment is charged to `window_updates`. Larger ones need no charge: 2^31 / 256 of
them overflow the window unless the peer reads content."""

SKIPPED_RANGES: Final = 10
"""Ranges of skipped stream identifiers that are remembered, to detect identifiers that go back."""


class _PartialHeaderBlock(NamedTuple):
    """A header block whose END_HEADERS has not arrived yet."""

    stream_id: int
    flags: int
    parts: list[bytes]
    started_at: float


class Connection(FrameSender[Stream], Generic[Request]):
    """The server's end of one connection.

    `parse_request` converts request fields for the layer above. Its results are cached by header
    block, so they must depend on the fields only. `open_stream` creates the stream of a request
    from a result of `parse_request`.
    """

    __slots__ = (
        "_decoder",
        "_drain_ping_pending",
        "_empty_frame_rate",
        "_keepalive_sent_at",
        "_last_accepted_id",
        "_last_read_at",
        "_last_stream_id",
        "_late_frame_rate",
        "_open_stream",
        "_opened_at",
        "_partial_block",
        "_ping_rate",
        "_preface_received",
        "_receive_window",
        "_reset_rate",
        "_settings_rate",
        "_skipped_ids",
        "_uncredited_size",
        "_unparsed",
        "_window_update_rate",
        "closing",
        "going_away",
    )

    def __init__(
        self,
        *,
        limits: TransportLimits,
        counters: Counters,
        parse_request: Callable[[Fields], Request],
        open_stream: Callable[["Connection[Request]", int, Request], Stream],
        on_output: Callable[[], None],
        now: float,
    ) -> None:
        super().__init__(limits, counters, on_output, now)
        self.closing = False
        """No more frames are read. Close the socket once the output is written."""
        self.going_away = False
        """Whether a GOAWAY without error was sent."""
        self._open_stream = open_stream
        self._decoder = HeaderDecoder(parse_request, limits.max_header_list)
        self._unparsed = b""
        self._preface_received = False
        """Whether the client's preface and the header of its first SETTINGS have arrived."""
        self._last_stream_id = 0
        self._last_accepted_id = frames.MAX_STREAM_ID
        """Streams with a higher identifier are refused."""
        self._skipped_ids: list[tuple[int, int]] = []
        self._partial_block: _PartialHeaderBlock | None = None
        self._receive_window = limits.connection_window
        self._uncredited_size = 0
        """Bytes of received DATA frames that no WINDOW_UPDATE has returned to the window yet."""
        self._opened_at = now
        self._last_read_at = now
        self._keepalive_sent_at: float | None = None
        self._drain_ping_pending = False
        self._reset_rate = RateBucket("resets", limits.resets, now)
        self._settings_rate = RateBucket("settings", limits.settings, now)
        self._ping_rate = RateBucket("pings", limits.pings, now)
        self._empty_frame_rate = RateBucket("empty_frames", limits.empty_frames, now)
        self._late_frame_rate = RateBucket("late_frames", limits.late_frames, now)
        self._window_update_rate = RateBucket("window_updates", limits.window_updates, now)
        self.output.append(
            frames.settings(
                {
                    frames.MAX_CONCURRENT_STREAMS: limits.max_concurrent_streams,
                    frames.INITIAL_WINDOW_SIZE: limits.stream_window,
                    frames.MAX_HEADER_LIST_SIZE: limits.max_header_list,
                }
            )
            + frames.window_update(0, limits.connection_window - frames.DEFAULT_WINDOW)
        )

    # Called by the owner of the socket.

    def receive_data(self, data: bytes, now: float) -> None:
        """Process bytes from the socket. Never raises: errors close the connection."""
        if self.closing:
            return
        self.now = self._last_read_at = now
        self._keepalive_sent_at = None
        self.flush_scheduled = True
        try:
            if self._preface_received:
                self._read_frames(data)
            else:
                self._read_preface(data)
            if self._uncredited_size >= self._receive_window // 2:
                self.send_control(frames.window_update(0, self._uncredited_size))
                self._uncredited_size = 0
            if self._control_backlog > self._limits.max_control_backlog:
                raise AbuseError("max_control_backlog")
        except Http2ConnectionError as error:
            self.fail(error)

    def fail(self, error: Http2ConnectionError) -> None:
        """Send GOAWAY with the error, and end every stream (section 5.4.1)."""
        if isinstance(error, AbuseError):
            self.counters.abuse(error.limit)
        else:
            self.counters.protocol_error(error.code.name)
        self.output.append(frames.goaway(self._last_stream_id, error.code, error.reason))
        self.connection_lost()

    def connection_lost(self) -> None:
        """End every stream, without sending frames."""
        self.closing = True
        self._unparsed = b""
        self._partial_block = None
        for stream in list(self.streams.values()):
            stream.discard()
            stream.on_reset()
        self._written += self._emitted
        self._emitted = []
        self._release_written()

    def go_away(self) -> None:
        """Begin a graceful shutdown (section 6.8).

        The first GOAWAY asks the peer to open no more streams, but new streams are still served.
        The ACK of the PING shows that the peer has read this GOAWAY. Then `stop_accepting` sends
        the GOAWAY with the last stream identifier.
        """
        if self.going_away or self.closing:
            return
        self.going_away = True
        self._drain_ping_pending = True
        self.emit(
            frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR, "going away")
            + frames.frame(frames.PING, 0, 0, frames.DRAIN_PING)
        )

    def stop_accepting(self) -> None:
        """Send the GOAWAY that names the last stream, and refuse later streams."""
        self.going_away = True
        self._drain_ping_pending = False
        if self._last_accepted_id == frames.MAX_STREAM_ID:
            self._last_accepted_id = self._last_stream_id
            self.emit(frames.goaway(self._last_stream_id, ErrorCode.NO_ERROR, "going away"))

    @property
    def drained(self) -> bool:
        """Whether a graceful shutdown is complete."""
        return self.going_away and not self.streams and not self._drain_ping_pending

    def check_timeouts(self, now: float) -> None:
        """Enforce the timeouts. Call it several times within the shortest timeout."""
        if self.closing:
            return
        self.now = now
        try:
            self._check_handshake(now)
            self._check_keepalive(now)
            self._check_stalls(now)
        except Http2ConnectionError as error:
            self.fail(error)
            self.schedule_flush()

    # Timeouts.

    def _check_handshake(self, now: float) -> None:
        """The preface and every header block must be complete within `handshake_timeout`."""
        since = self._opened_at if not self._preface_received else now
        if self._partial_block is not None:
            since = self._partial_block.started_at
        if now - since > self._limits.handshake_timeout:
            raise AbuseError("handshake_timeout")

    def _check_keepalive(self, now: float) -> None:
        limits = self._limits
        silent = now - self._last_read_at
        if self._keepalive_sent_at is not None:
            if now - self._keepalive_sent_at > limits.keepalive_timeout:
                raise AbuseError("keepalive_timeout")
        elif silent > limits.idle_timeout and not self.streams and not self.going_away:
            self.go_away()
        elif silent > limits.keepalive_interval:
            self._keepalive_sent_at = now
            self.emit(frames.frame(frames.PING, 0, 0, frames.KEEPALIVE_PING))

    def _check_stalls(self, now: float) -> None:
        limit = self._limits.stall_timeout
        for stream in list(self.streams.values()):
            if stream.blocked_since is not None and now - stream.blocked_since > limit:
                if self.paused:
                    raise AbuseError("stall_timeout")
                self.counters.abuse("stall_timeout")
                stream.reset(ErrorCode.ENHANCE_YOUR_CALM)
                stream.on_reset()

    # Frames.

    def _read_preface(self, data: bytes) -> None:
        data = self._unparsed + data
        size = len(frames.PREFACE)
        if not frames.PREFACE.startswith(data[:size]):
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 connection preface")
        if len(data) < size + frames.HEADER_SIZE:
            self._unparsed = data
            return
        word, flags, _ = frames.HEADER.unpack_from(data, size)
        if word & 0xFF != frames.SETTINGS or flags & frames.ACK:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "first frame is not SETTINGS")
        self._preface_received = True
        self._unparsed = b""
        self._read_frames(data[size:])

    def _read_frames(self, data: bytes) -> None:
        if self._unparsed:
            data = self._unparsed + data
            self._unparsed = b""
        position = 0
        size = len(data)
        unpack = frames.HEADER.unpack_from
        while size - position >= 9:
            word, flags, stream_id = unpack(data, position)
            if word > frames.LARGEST_WORD:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "frame too large")
            start = position + 9
            position = start + (word >> 8)
            if position > size:
                position = start - 9
                break
            kind = word & 0xFF
            if self._partial_block is not None and kind != frames.CONTINUATION:
                raise Http2ConnectionError(
                    ErrorCode.PROTOCOL_ERROR, "header block without END_HEADERS"
                )
            if kind < len(_FRAME_HANDLERS):
                try:
                    _FRAME_HANDLERS[kind](
                        self, flags, stream_id & 0x7FFFFFFF, data, start, position
                    )
                except Http2StreamError as error:
                    self._fail_stream(stream_id & 0x7FFFFFFF, error)
            else:
                self._empty_frame_rate.charge(self.now)  # section 5.5: unknown types are ignored
        if position < size:
            self._unparsed = data[position:]

    def _fail_stream(self, stream_id: int, error: Http2StreamError) -> None:
        self.counters.protocol_error(error.code.name)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._reset_rate.charge(self.now)
            self.send_reset(stream_id, error.code)
            return
        if not stream.responded:
            self._reset_rate.charge(self.now)
        stream.reset(error.code)
        stream.on_reset()

    def _handle_data(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        length = stop - start
        self._uncredited_size += length
        if self._uncredited_size > self._receive_window:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        if flags & frames.PADDED:
            start, stop = frames.without_padding(data, start, stop)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._handle_late_frame(stream_id)
            return
        if NEXT_STATE[stream.state][RECV_DATA] == ILLEGAL:
            raise Http2StreamError(ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        stream.receive_window -= length
        if stream.content_left >= 0:
            self._count_content(stream, stop - start, flags)
        if start != stop:
            if stream.receive_window < self.stream_window >> 1:
                self._check_receive_window(stream)
            stream.on_data(data, start, stop)
        elif not flags & frames.END_STREAM:
            self._empty_frame_rate.charge(self.now)
        if flags & frames.END_STREAM and stream.state != CLOSED:
            self._end_request(stream)

    def _check_receive_window(self, stream: Stream) -> None:
        if stream.receive_window < 0:
            raise Http2StreamError(ErrorCode.FLOW_CONTROL_ERROR, "stream window exceeded")
        stream.update_receive_window()

    def _count_content(self, stream: Stream, size: int, flags: int) -> None:
        """Section 8.1.1: the content must be as long as content-length says."""
        stream.content_left -= size
        if stream.content_left < 0 or (stream.content_left and flags & frames.END_STREAM):
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "content-length is wrong")

    def _end_request(self, stream: Stream) -> None:
        stream.state = NEXT_STATE[stream.state][RECV_END]
        stream.on_end()

    def _handle_headers(
        self, flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        if not stream_id & 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "HEADERS on an even stream")
        if flags & (frames.PADDED | frames.PRIORITIZED):
            start, stop = self._header_block_bounds(flags, stream_id, data, start, stop)
        block = data[start:stop]
        if flags & frames.END_HEADERS:
            self._handle_header_block(flags, stream_id, block)
        else:
            self._partial_block = _PartialHeaderBlock(stream_id, flags, [block], self.now)

    def _header_block_bounds(
        self, flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> tuple[int, int]:
        if flags & frames.PADDED:
            start, stop = frames.without_padding(data, start, stop)
        if flags & frames.PRIORITIZED:
            if stop - start < 5:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short")
            self._check_dependency(stream_id, data, start)
            start += 5
        return start, stop

    def _check_dependency(self, stream_id: int, data: bytes, start: int) -> None:
        """Priorities are not used (section 5.3), but a stream must not depend on itself."""
        if frames.UINT32.unpack_from(data, start)[0] & 0x7FFFFFFF == stream_id:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def _handle_continuation(
        self, flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        block = self._partial_block
        if block is None or block.stream_id != stream_id:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block.parts.append(data[start:stop])
        if len(block.parts) > self._limits.max_continuations:
            raise AbuseError("max_continuations")
        if sum(map(len, block.parts)) > self._limits.max_header_list:
            raise AbuseError("max_header_list")
        if flags & frames.END_HEADERS:
            self._partial_block = None
            self._handle_header_block(block.flags, stream_id, b"".join(block.parts))

    def _handle_header_block(self, flags: int, stream_id: int, block: bytes) -> None:
        """A complete header block: the header section of a new stream, or trailers."""
        if stream_id <= self._last_stream_id:
            self._handle_trailers(flags, stream_id, block)
            return
        if stream_id != self._last_stream_id + 2 and stream_id != 1:
            remembered = self._skipped_ids[1 - SKIPPED_RANGES :]
            self._skipped_ids = [*remembered, (self._last_stream_id, stream_id)]
        self._last_stream_id = stream_id
        request, length = self._decoder.decode_request(block)
        if (
            len(self.streams) >= self._limits.max_concurrent_streams
            or stream_id > self._last_accepted_id
        ):
            self._refuse_stream(stream_id)
            return
        self.counters.streams_opened += 1
        stream = self.streams[stream_id] = self._open_stream(self, stream_id, request)
        stream.state = NEXT_STATE[stream.state][RECV_HEADERS]
        stream.content_left = length
        ends = flags & frames.END_STREAM
        if ends and length > 0:
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "content-length is wrong")
        stream.on_request()
        if ends and stream.state != CLOSED:
            self._end_request(stream)

    def _refuse_stream(self, stream_id: int) -> None:
        """Section 5.1.2; the request was not processed, so the client may retry it."""
        self.counters.streams_refused += 1
        self._reset_rate.charge(self.now)
        self.send_reset(stream_id, ErrorCode.REFUSED_STREAM)

    def _handle_trailers(self, flags: int, stream_id: int, block: bytes) -> None:
        fields = self._decoder.decode_fields(block)
        stream = self.streams.get(stream_id)
        if stream is None:
            if any(low < stream_id < high for low, high in self._skipped_ids):
                raise Http2ConnectionError(
                    ErrorCode.PROTOCOL_ERROR, "stream identifier lower than the last one"
                )
            self._handle_late_frame(stream_id)
            return
        if NEXT_STATE[stream.state][RECV_HEADERS] == ILLEGAL:
            raise Http2StreamError(ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if not flags & frames.END_STREAM:
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")
        check_regular(fields)
        if stream.content_left > 0:
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "content-length is wrong")
        self._end_request(stream)

    def _handle_late_frame(self, stream_id: int) -> None:
        """A frame on an idle or closed stream (section 5.1); ignored on streams that we reset."""
        if stream_id > self._last_stream_id or not stream_id & 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "frame on an idle stream")
        if stream_id not in self._reset_streams:
            raise Http2ConnectionError(ErrorCode.STREAM_CLOSED, "frame on a closed stream")
        self._late_frame_rate.charge(self.now)

    def _handle_priority(
        self, _flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        if stream_id == 0:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if stop - start != 5:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is not 5 bytes")
        self._check_dependency(stream_id, data, start)
        self._empty_frame_rate.charge(self.now)

    def _handle_rst_stream(
        self, _flags: int, stream_id: int, _data: bytes, start: int, stop: int
    ) -> None:
        if stop - start != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is not 4 bytes")
        if stream_id == 0 or stream_id > self._last_stream_id:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late_frame_rate.charge(self.now)
            return
        self.counters.streams_reset_by_peer += 1
        responded = stream.responded
        stream.discard()
        stream.on_reset()
        if not responded:
            self._reset_rate.charge(self.now)

    def _handle_settings(
        self, flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        if stream_id != 0:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if (stop - start) % 6 or (flags & frames.ACK and start != stop):
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "invalid length of SETTINGS")
        self._settings_rate.charge(self.now)
        if flags & frames.ACK:
            return
        # The ACK is sent first, because applying the settings may send DATA that they allow.
        self.send_control(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        for name, value in frames.SETTING.iter_unpack(data[start:stop]):
            self._apply_setting(name, value)

    def _apply_setting(self, name: int, value: int) -> None:
        if name == frames.ENABLE_PUSH and value > 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is not 0 or 1")
        if name == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of range")
            self.frame_size = min(value, WRITE_CHUNK)
        elif name == frames.INITIAL_WINDOW_SIZE:
            self._apply_initial_window(value)

    def _apply_initial_window(self, value: int) -> None:
        """Section 6.9.2: the windows of open streams change by the difference, also below zero."""
        if value > frames.MAX_WINDOW:
            raise Http2ConnectionError(
                ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE out of range"
            )
        change, self.peer_initial_window = value - self.peer_initial_window, value
        for stream in list(self.streams.values()):
            stream.send_window += change
            if stream.send_window > frames.MAX_WINDOW:
                raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "window too large")
            if change > 0 and stream.pending_size:
                self.enqueue(stream)

    def _handle_push_promise(
        self, _flags: int, _stream_id: int, _data: bytes, _start: int, _stop: int
    ) -> None:
        raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _handle_ping(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        if stream_id != 0:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if stop - start != 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PING is not 8 bytes")
        self._ping_rate.charge(self.now)
        if not flags & frames.ACK:
            self.send_control(frames.frame(frames.PING, frames.ACK, 0, data[start:stop]))
        elif self._drain_ping_pending:
            self.stop_accepting()

    def _handle_goaway(
        self, _flags: int, stream_id: int, _data: bytes, start: int, stop: int
    ) -> None:
        if stream_id != 0:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if stop - start < 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY too short")
        self.stop_accepting()

    def _handle_window_update(
        self, _flags: int, stream_id: int, data: bytes, start: int, stop: int
    ) -> None:
        if stop - start != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is not 4 bytes")
        increment = frames.UINT32.unpack_from(data, start)[0] & 0x7FFFFFFF
        if increment < SMALL_WINDOW_UPDATE:
            self._window_update_rate.charge(self.now)
        if stream_id == 0:
            self._extend_connection_window(increment)
        else:
            self._extend_stream_window(stream_id, increment)

    def _extend_connection_window(self, increment: int) -> None:
        if increment == 0:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        window = self.write_quota + self._window_reserve + increment
        if window > frames.MAX_WINDOW:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "window too large")
        # Only `take_output` moves the reserve to the quota, so each write has at most one chunk.
        self._window_reserve += increment

    def _extend_stream_window(self, stream_id: int, increment: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self._last_stream_id or not stream_id & 1:
                raise Http2ConnectionError(
                    ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream"
                )
            return  # section 5.1: may arrive for a while after a stream has closed
        if increment == 0:
            raise Http2StreamError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise Http2StreamError(ErrorCode.FLOW_CONTROL_ERROR, "window too large")
        if stream.pending_size:
            self.enqueue(stream)


_FRAME_HANDLERS: Final = (
    Connection._handle_data,
    Connection._handle_headers,
    Connection._handle_priority,
    Connection._handle_rst_stream,
    Connection._handle_settings,
    Connection._handle_push_promise,
    Connection._handle_ping,
    Connection._handle_goaway,
    Connection._handle_window_update,
    Connection._handle_continuation,
)
"""Handlers by frame type. They are plain functions, because bound methods in the connection would
create a reference cycle."""
