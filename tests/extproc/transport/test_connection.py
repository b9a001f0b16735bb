"""An HTTP/2 connection without sockets: rules of RFC 9113 that h2spec does not check."""

import pytest
from hpack import Decoder

from extproc.transport import TransportLimits
from extproc.transport.http2 import frames, streams
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.sender import WRITE_CHUNK

from .http2_peer import REQUEST, Frame, Peer, goaway_code, reset_codes, split_frames


def data(stream_id: int, content: bytes, *, end: bool = False) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, content)


def content(sent: list[Frame], stream_id: int) -> bytes:
    return b"".join(p for kind, _, i, p in sent if kind == frames.DATA and i == stream_id)


def test_responses_to_all_requests_of_one_read_share_one_write() -> None:
    peer = Peer()
    requests = [peer.request(i) + data(i, b"hello", end=True) for i in range(1, 21, 2)]
    peer.connection.receive_data(b"".join(requests), 0.0)
    output = peer.connection.take_output()
    assert output.count(b"hello") == 10
    assert peer.connection.take_output() == b""


@pytest.mark.parametrize("size", [1, 2, 7, 10, 1000])
def test_frames_may_arrive_in_any_pieces(size: int) -> None:
    peer = Peer(handshake=False)
    received = frames.PREFACE + frames.settings({}) + peer.request(1) + data(1, b"hello", end=True)
    for start in range(0, len(received), size):
        peer.connection.receive_data(received[start : start + size], 0.0)
    assert content(peer.read(), 1) == b"hello"
    assert peer.streams[1].events == ["request", "end"]


def test_padding_priority_and_continuation_do_not_change_the_request() -> None:
    peer = Peer()
    block = peer.block()
    flags = frames.PADDED | frames.PRIORITIZED
    first = frames.frame(frames.HEADERS, flags, 1, b"\x03" + bytes(5) + block[:2] + bytes(3))
    rest = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[2:])
    padded = frames.frame(frames.DATA, frames.PADDED, 1, b"\x04" + b"hello" + bytes(4))
    assert content(peer.send(first, rest, padded), 1) == b"hello"


def test_a_client_may_use_the_dynamic_table_before_it_has_our_settings() -> None:
    peer = Peer(handshake=False)
    first = peer.request(1, [*REQUEST, ("x", "indexed")])
    second = peer.request(3, [*REQUEST, ("x", "indexed")])
    assert len(second) < len(first)
    peer.send(frames.PREFACE + frames.settings({}), first, second)
    assert peer.streams[3].fields == peer.streams[1].fields


def test_trailers_end_a_request() -> None:
    peer = Peer()
    trailers = frames.frame(frames.HEADERS, 5, 1, peer.block([("a", "b")]))
    peer.send(peer.request(1), data(1, b"x"), trailers)
    assert peer.streams[1].events == ["request", "end"]


def test_the_first_header_block_sets_the_dynamic_table_to_size_0() -> None:
    """So a peer may set any HEADER_TABLE_SIZE, even 0 (RFC 7541 section 4.2)."""
    peer = Peer()
    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    sent = peer.send(peer.request(1), peer.request(3))
    blocks = [payload for kind, _, _, payload in sent if kind == frames.HEADERS]
    assert [list(decoder.decode(block)) for block in blocks] == [[(":status", "200")]] * 2


def test_content_waits_for_the_stream_window() -> None:
    peer = Peer()
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 3}))
    assert content(peer.send(peer.request(1), data(1, b"hello", end=True)), 1) == b"hel"
    assert content(peer.send(frames.window_update(1, 1)), 1) == b"l"
    sent = peer.send(frames.window_update(1, 100))
    assert content(sent, 1) == b"o"
    assert sent[-1][:3] == (frames.DATA, frames.END_STREAM, 1)
    assert not peer.connection.streams


def test_a_stream_window_may_become_negative_and_recovers() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.send(data(1, b"x" * 1000))
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 500}))
    assert peer.connection.streams[1].send_window == -500
    assert content(peer.send(data(1, b"wait")), 1) == b""
    assert content(peer.send(frames.window_update(1, 502)), 1) == b"wa"
    assert content(peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 600})), 1) == b"it"


def test_streams_take_turns_on_the_connection_window() -> None:
    peer = Peer(TransportLimits(max_control_backlog=1 << 20))
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20}))
    peer.send(peer.request(1), peer.request(3), peer.request(5))
    peer.send(data(1, b"x" * 16_384) * 4)  # the connection's 65,535 bytes and one more
    assert content(peer.send(data(3, b"3" * 16_384), data(5, b"5" * 16_384)), 3) == b""
    sent = peer.send(frames.window_update(0, 2 * 16_384 + 1))
    assert [i for kind, _, i, _ in sent if kind == frames.DATA] == [1, 3, 5]


def test_one_write_is_bounded_for_windows_of_any_size() -> None:
    peer = Peer()
    peer.send(
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}), frames.window_update(0, 1 << 30)
    )
    peer.send(peer.request(1))
    peer.connection.streams[1].write(bytes(4 * WRITE_CHUNK))
    written = 0
    while output := peer.connection.take_output():
        assert len(output) <= 2 * WRITE_CHUNK + 1000
        written += len(content(split_frames(output), 1))
    assert written == 4 * WRITE_CHUNK


def test_large_content_is_not_copied() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    large = memoryview(bytes(40_000))
    peer.connection.streams[1].write_buffers((b"head", large))
    buffers = peer.connection.take_buffers()
    parts = [b for b in buffers if isinstance(b, memoryview) and b.obj is large.obj]
    assert sum(map(len, parts)) == len(large)
    assert content(split_frames(b"".join(buffers)), 1) == b"head" + large


@pytest.mark.parametrize("size", [16_384, 20_000, 1 << 24 - 1])
def test_frames_are_as_large_as_the_peer_accepts(size: int) -> None:
    peer = Peer()
    peer.send(frames.settings({frames.MAX_FRAME_SIZE: size, frames.INITIAL_WINDOW_SIZE: 1 << 20}))
    peer.send(peer.request(1), frames.window_update(0, 1 << 20))
    peer.connection.streams[1].write(bytes(300_000))
    sizes = [len(payload) for kind, _, _, payload in peer.read() if kind == frames.DATA]
    assert max(sizes) == min(size, WRITE_CHUNK)
    assert sum(sizes) == 300_000


def test_buffers_are_retained_until_the_socket_has_accepted_their_end() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    stream = peer.connection.streams[1]
    stream.write(bytes(40_000))
    peer.connection.take_buffers()
    peer.connection.pause_writing()
    assert (stream.pending_size, stream.retained_size) == (0, 40_000)
    peer.connection.resume_writing()
    assert peer.connection.take_buffers() == []
    assert stream.retained_size == 0


@pytest.mark.parametrize("written", [True, False])
def test_a_stream_that_ends_retains_only_what_the_socket_may_still_read(written: bool) -> None:
    peer = Peer()
    peer.send(peer.request(1))
    stream = peer.connection.streams[1]
    stream.write_buffers((bytes(40_000), bytes(30_000)))  # the window has 65,535 bytes
    peer.connection.take_buffers()
    peer.connection.pause_writing()
    assert (stream.pending_size, stream.retained_size) == (70_000 - 65_535, 70_000)
    stream.reset(ErrorCode.CANCEL)
    assert stream.retained_size == 40_000
    if written:
        peer.connection.resume_writing()
        peer.connection.take_buffers()
    else:
        peer.connection.connection_lost()
    assert stream.retained_size == 0


def test_content_waits_while_the_socket_is_full() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.connection.pause_writing()
    assert content(peer.send(data(1, b"hello", end=True)), 1) == b""
    assert content(peer.send(peer.request(3), data(3, b"world")), 3) == b""
    peer.connection.resume_writing()
    sent = peer.read()
    assert content(sent, 1) == b"hello"
    assert content(sent, 3) == b"world"
    assert list(peer.connection.streams) == [3]


def test_window_updates_are_sent_in_large_steps() -> None:
    peer = Peer(TransportLimits(stream_window=65_536, connection_window=131_072))
    peer.send(peer.request(1))
    updates = []
    for _ in range(16):
        sent = peer.send(data(1, b"x" * 8192))
        updates += [
            (stream_id, int.from_bytes(payload, "big"))
            for kind, _, stream_id, payload in sent
            if kind == frames.WINDOW_UPDATE
        ]
    assert sum(size for stream_id, size in updates if stream_id == 0) == 16 * 8192
    assert len(updates) <= 2 + 4


@pytest.mark.parametrize(("limit", "is_stream"), [("stream_window", True), (None, False)])
def test_content_beyond_a_window_is_a_flow_control_error(
    limit: str | None, *, is_stream: bool
) -> None:
    if is_stream:
        peer = Peer(TransportLimits(stream_window=65_535))
        peer.send(peer.request(1))
        peer.connection.streams[1].unread_size = 65_535  # the layer above has read nothing
        sent = peer.send(*[data(1, bytes(16_384))] * 4)
        assert reset_codes(sent) == {1: ErrorCode.FLOW_CONTROL_ERROR}
    else:
        peer = Peer(TransportLimits(stream_window=1 << 20, connection_window=65_535))
        peer.send(peer.request(1))
        sent = peer.send(*[data(1, bytes(16_384))] * 4)
        assert goaway_code(sent) == ErrorCode.FLOW_CONTROL_ERROR


def test_an_early_end_resets_the_stream_and_ignores_late_frames() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.connection.streams[1].end()
    assert reset_codes(peer.read()) == {1: ErrorCode.NO_ERROR}
    late = [data(1, b"late"), data(1, b"", end=True), frames.rst_stream(1, ErrorCode.CANCEL)]
    assert peer.send(*late) == []
    assert not peer.connection.closing


def test_a_graceful_shutdown_serves_open_streams_and_refuses_later_ones() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.connection.go_away()
    first = peer.read()
    assert first[0][3][:4] == frames.UINT32.pack(frames.MAX_STREAM_ID)
    peer.send(peer.request(3))  # was sent before the GOAWAY arrived
    last = peer.send(frames.frame(frames.PING, frames.ACK, 0, first[1][3]))
    assert last[0][3][:4] == frames.UINT32.pack(3)
    assert reset_codes(peer.send(peer.request(5))) == {5: ErrorCode.REFUSED_STREAM}
    assert not peer.connection.drained
    assert content(peer.send(data(1, b"a", end=True), data(3, b"b", end=True)), 3) == b"b"
    assert peer.connection.drained


def test_a_lost_connection_resets_every_stream() -> None:
    peer = Peer()
    peer.send(peer.request(1), peer.request(3))
    peer.connection.connection_lost()
    assert [peer.streams[i].events[-1] for i in (1, 3)] == ["reset", "reset"]
    assert peer.counters.streams_opened == peer.counters.streams_closed == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-Upper", "a"), ("bad name", "a"), ("a", "b\nc"), ("a", " b"), ("te", "gzip"), ("", "a")],
)
def test_a_malformed_field_resets_only_its_stream(name: str, value: str) -> None:
    peer = Peer()
    assert reset_codes(peer.send(peer.request(1, [*REQUEST, (name, value)]))) == {
        1: ErrorCode.PROTOCOL_ERROR
    }
    assert content(peer.send(peer.request(3), data(3, b"fine")), 3) == b"fine"


def test_the_state_table_closes_streams_as_in_rfc_9113() -> None:
    table = streams.NEXT_STATE
    opened = table[streams.IDLE][streams.RECV_HEADERS]
    assert table[table[opened][streams.RECV_END]][streams.SEND_END] == streams.CLOSED
    assert table[table[opened][streams.SEND_END]][streams.RECV_END] == streams.CLOSED
    assert all(row[streams.RESET] == streams.CLOSED for row in table)
    assert table[streams.HALF_CLOSED_REMOTE][streams.RECV_DATA] == streams.ILLEGAL
