"""Random input, and comparison with the `h2` and `hpack` libraries. FUZZ_INPUTS=n runs longer."""

import asyncio
import os
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.transport import Rate, TransportLimits
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import Http2ConnectionError, Http2StreamError
from extproc.transport.http2.fields import check_request
from extproc.transport.http2.header_blocks import Fields
from extproc.transport.http2.header_decoder import HeaderDecoder

from .fuzzing import Target, input_of
from .http2_peer import Peer

INPUTS = int(os.environ.get("FUZZ_INPUTS", "5000"))


def test_no_input_crashes_the_server_or_leaks_in_it() -> None:
    async def test() -> None:
        target = Target(asyncio.get_running_loop())
        for seed in range(INPUTS):
            try:
                target.check(input_of(seed))
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise
        counters = target.state.counters
        # The inputs reach the gRPC layer, the protocol checks and the abuse limits.
        assert counters.messages_sent > INPUTS // 10
        assert len(counters.protocol_errors) >= 5
        assert len(counters.abuse_closures) >= 2

    asyncio.run(test())


NAMES = st.sampled_from(["a", "b", "te", "x-long-name", "traceparent", "grpc-timeout"])
VALUES = st.sampled_from(["", "1", "trailers", "x" * 50, "y" * 3000])
REQUESTS = st.lists(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=5), max_size=12)
PSEUDO = [(":method", "POST", False), (":path", "/e", False), (":scheme", "http", False)]


@settings(max_examples=max(200, INPUTS // 50), deadline=None)
@given(REQUESTS, st.lists(st.integers(0, 11)))
def test_cached_header_blocks_equal_decoded_ones(
    requests: list[list[tuple[str, str, bool]]], repeats: list[int]
) -> None:
    """Blocks of a real encoder, some of them repeated."""
    encoder, reference = Encoder(), Decoder(1 << 20)
    ours: HeaderDecoder[Fields] = HeaderDecoder(lambda fields: fields, 1 << 20)
    blocks = [encoder.encode([*PSEUDO, *request]) for request in requests]
    blocks += [blocks[number] for number in repeats if number < len(blocks)]
    for block in blocks:
        assert _outcome(ours, block) == _reference(reference, block)


@settings(max_examples=max(300, INPUTS // 20), deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_random_header_blocks_give_the_same_result_as_hpack(
    blocks: list[bytes],
    twice: bool,
) -> None:
    reference = Decoder(1 << 20)
    ours: HeaderDecoder[Fields] = HeaderDecoder(lambda fields: fields, 1 << 20)
    start = b"\x83\x86\x84"  # POST, http, /
    for block in blocks * (1 + twice):
        expected = _reference(reference, start + block)
        assert _outcome(ours, start + block) == expected
        if expected == "connection":
            return


def _outcome(ours: HeaderDecoder[Fields], block: bytes) -> object:
    try:
        return ours.decode_request(block)[0]
    except Http2StreamError:
        return "stream"
    except Http2ConnectionError:
        return "connection"


def _reference(decoder: Decoder, block: bytes) -> object:
    try:
        fields = list(decoder.decode(block, raw=True))
        check_request(fields)
    except HPACKError:
        return "connection"
    except Http2StreamError:
        return "stream"
    return fields


ACTION = st.one_of(
    st.tuples(st.just("open"), st.booleans()),
    st.tuples(st.just("data"), st.integers(0, 40_000)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("reset"), st.just(0)),
    st.tuples(st.just("window"), st.sampled_from([0, 1, 100, 65_535, 1 << 20])),
    st.tuples(st.just("ping"), st.just(0)),
    st.tuples(st.just("read"), st.integers(1, 3000)),
    st.tuples(st.just("pause"), st.booleans()),
)


class Client:
    """A client on the `h2` library, connected in memory. h2 raises on frames that a server must not
    send."""

    def __init__(self) -> None:
        # A client with a window of 1 byte sends two small updates for each byte.
        limits = TransportLimits(window_updates=Rate(burst=1 << 20, per_second=0))
        self.peer = Peer(limits, handshake=False)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.sent: dict[int, bytes] = {}
        self.echoed: dict[int, bytes] = {}
        self.open: list[int] = []
        self.ended: set[int] = set()
        self.reset: set[int] = set()

    def exchange(self, read_size: int = 1 << 30) -> None:
        """Pass bytes both ways until neither side sends any."""
        while True:
            outgoing = self.h2.data_to_send()
            for start in range(0, len(outgoing), read_size):
                self.peer.connection.receive_data(outgoing[start : start + read_size], 0.0)
            incoming = b""
            while data := self.peer.connection.take_output():
                incoming += data
                if self.peer.connection.paused:
                    break
            if not outgoing and not incoming:
                return
            for event in self.h2.receive_data(incoming):
                self._handle(event)

    def _handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.echoed[event.stream_id] += event.data
            if event.flow_controlled_length:
                self.h2.increment_flow_control_window(event.flow_controlled_length)
                with suppress(h2.exceptions.StreamClosedError):
                    self.h2.increment_flow_control_window(
                        event.flow_controlled_length, event.stream_id
                    )
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        assert not isinstance(event, h2.events.ConnectionTerminated | h2.events.StreamReset)

    def act(self, action: str, value: int) -> None:
        stream_id = self.open[-1] if self.open else None
        if action == "open":
            self._open(bool(value))
        elif action == "window":
            self.exchange()  # h2 applies all unacknowledged settings at the first acknowledgement
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: value})
        elif action == "ping":
            self.h2.ping(b"12345678")
        elif action == "read":
            self.exchange(value)
        elif action == "pause":
            if value:
                self.peer.connection.pause_writing()
            else:
                self.peer.connection.resume_writing()
        elif stream_id is not None:
            self._act_on(stream_id, action, value)

    def _open(self, end_stream: bool) -> None:
        stream_id = self.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", "/echo")]
        self.h2.send_headers(stream_id, [*headers, (":authority", "a")], end_stream=end_stream)
        self.sent[stream_id] = self.echoed[stream_id] = b""
        if not end_stream:
            self.open.append(stream_id)

    def _act_on(self, stream_id: int, action: str, value: int) -> None:
        if action == "data":
            room = min(self.h2.local_flow_control_window(stream_id), 16_384, value)
            content = b"%08d" % value * (room // 8)
            self.h2.send_data(stream_id, content)
            self.sent[stream_id] += content
            return
        self.open.remove(stream_id)
        if action == "end":
            self.h2.end_stream(stream_id)
        else:
            self.h2.reset_stream(stream_id)
            self.reset.add(stream_id)

    def finish(self) -> None:
        if self.peer.connection.paused:
            self.peer.connection.resume_writing()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 24})
        for stream_id in self.open:
            self.h2.end_stream(stream_id)
        self.exchange()


@settings(max_examples=max(150, INPUTS // 50), deadline=None)
@given(st.lists(ACTION, max_size=40))
def test_a_client_on_the_h2_library_gets_its_content_echoed(actions: list[tuple[str, int]]) -> None:
    client = Client()
    for action, value in actions:
        client.act(action, value)
    client.finish()
    assert not client.peer.connection.closing
    for stream_id in client.sent.keys() - client.reset:
        assert client.echoed[stream_id] == client.sent[stream_id]
        assert stream_id in client.ended
    assert not client.peer.connection.streams


@pytest.mark.parametrize("kind", range(12))
@settings(max_examples=max(50, INPUTS // 100), deadline=None)
@given(st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))
def test_after_any_single_frame_the_connection_works_or_closes(
    kind: int, flags: int, stream_id: int, payload: bytes
) -> None:
    peer = Peer()
    peer.send(peer.request(1), frames.frame(kind, flags, stream_id, payload))
    if peer.connection.closing:
        return
    sent = peer.send(frames.frame(frames.PING, 0, 0, b"12345678"))
    if kind == frames.HEADERS and not flags & frames.END_HEADERS:
        assert peer.connection.closing  # the PING interrupts the header block
    else:
        assert (frames.PING, frames.ACK, 0, b"12345678") in sent
