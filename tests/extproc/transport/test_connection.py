"""The HTTP/2 engine without sockets: what RFC 9113 asks of a server beyond what h2spec checks."""

import pytest
from hpack import Decoder

from extproc.transport import TransportLimits
from extproc.transport.http2 import frames, streams
from extproc.transport.http2.connection import WRITE_CHUNK
from extproc.transport.http2.errors import ErrorCode

from .http2_peer import REQUEST, Peer, goaway_code, reset_codes


def data(stream_id: int, content: bytes, *, end: bool = False) -> bytes:
    return frames.frame(frames.DATA, frames.END_STREAM if end else 0, stream_id, content)


def content(written: list[tuple[int, int, int, bytes]], stream_id: int) -> bytes:
    return b"".join(p for kind, _, i, p in written if kind == frames.DATA and i == stream_id)


def test_all_answers_to_one_read_are_one_write() -> None:
    peer = Peer()
    requests = [peer.request(i) + data(i, b"hello", end=True) for i in range(1, 21, 2)]
    peer.connection.receive(b"".join(requests), 0.0)
    output = peer.connection.take()
    assert output.count(b"hello") == 10
    assert peer.connection.take() == b""


@pytest.mark.parametrize("size", [1, 2, 7, 10, 1000])
def test_frames_may_arrive_in_any_pieces(size: int) -> None:
    peer = Peer(in_sync=False)
    sent = frames.PREFACE + frames.settings({}) + peer.request(1) + data(1, b"hello", end=True)
    for start in range(0, len(sent), size):
        peer.connection.receive(sent[start : start + size], 0.0)
    assert content(peer.read(), 1) == b"hello"
    assert peer.accepted[1].told == ["request", "end"]


def test_padding_priority_and_continuation_change_nothing() -> None:
    peer = Peer()
    block = peer.block()
    flags = frames.PADDED | frames.PRIORITIZED
    first = frames.frame(frames.HEADERS, flags, 1, b"\x03" + bytes(5) + block[:2] + bytes(3))
    rest = frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[2:])
    padded = frames.frame(frames.DATA, frames.PADDED, 1, b"\x04" + b"hello" + bytes(4))
    assert content(peer.send(first, rest, padded), 1) == b"hello"


def test_a_dynamic_table_may_be_used_before_our_settings_are_acknowledged() -> None:
    peer = Peer(in_sync=False)
    first = peer.request(1, [*REQUEST, ("x", "indexed")])
    second = peer.request(3, [*REQUEST, ("x", "indexed")])
    assert len(second) < len(first)
    peer.send(frames.PREFACE + frames.settings({}), first, second)
    assert peer.accepted[3].fields == peer.accepted[1].fields


def test_trailers_end_a_request() -> None:
    peer = Peer()
    trailers = frames.frame(frames.HEADERS, 5, 1, peer.block([("a", "b")]))
    peer.send(peer.request(1), data(1, b"x"), trailers)
    assert peer.accepted[1].told == ["request", "end"]


def test_the_first_header_block_gives_up_the_dynamic_table() -> None:
    """So a peer may set any HEADER_TABLE_SIZE, even none (RFC 7541 section 4.2)."""
    peer = Peer()
    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    written = peer.send(peer.request(1), peer.request(3))
    blocks = [payload for kind, _, _, payload in written if kind == frames.HEADERS]
    assert [list(decoder.decode(block)) for block in blocks] == [[(":status", "200")]] * 2


def test_content_waits_for_the_stream_window_and_then_goes_on() -> None:
    peer = Peer()
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 3}))
    assert content(peer.send(peer.request(1), data(1, b"hello", end=True)), 1) == b"hel"
    assert content(peer.send(frames.window_update(1, 1)), 1) == b"l"
    written = peer.send(frames.window_update(1, 100))
    assert content(written, 1) == b"o"
    assert written[-1][:3] == (frames.DATA, frames.END_STREAM, 1)
    assert not peer.connection.streams


def test_a_window_may_become_negative_and_recovers() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.send(data(1, b"x" * 1000))
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 500}))
    assert peer.connection.streams[1].send_window == -500
    assert content(peer.send(data(1, b"wait")), 1) == b""
    assert content(peer.send(frames.window_update(1, 502)), 1) == b"wa"
    assert content(peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 600})), 1) == b"it"


def test_streams_share_the_connection_window_in_turn() -> None:
    peer = Peer(TransportLimits(max_control_backlog=1 << 20))
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20}))
    peer.send(peer.request(1), peer.request(3), peer.request(5))
    peer.send(data(1, b"x" * 16_384) * 4)  # the connection's 65,535 bytes and one more
    assert content(peer.send(data(3, b"3" * 16_384), data(5, b"5" * 16_384)), 3) == b""
    written = peer.send(frames.window_update(0, 2 * 16_384 + 1))
    assert [i for kind, _, i, _ in written if kind == frames.DATA] == [1, 3, 5]


def test_one_write_is_bounded_however_large_the_windows() -> None:
    peer = Peer()
    peer.send(
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}), frames.window_update(0, 1 << 30)
    )
    peer.send(peer.request(1))
    peer.connection.streams[1].write(bytes(4 * WRITE_CHUNK))
    written = 0
    while output := peer.connection.take():
        assert len(output) <= 2 * WRITE_CHUNK + 1000
        written += len(content(split_output(output), 1))
    assert written == 4 * WRITE_CHUNK


def split_output(output: bytes) -> list[tuple[int, int, int, bytes]]:
    from .http2_peer import split

    return split(output)


def test_a_full_socket_holds_content_back_until_it_has_room() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.connection.pause()
    assert content(peer.send(data(1, b"hello", end=True)), 1) == b""
    assert content(peer.send(peer.request(3), data(3, b"world")), 3) == b""
    peer.connection.resume()
    written = peer.read()
    assert content(written, 1) == b"hello"
    assert content(written, 3) == b"world"
    assert list(peer.connection.streams) == [3]


def test_content_is_credited_in_large_steps() -> None:
    peer = Peer(TransportLimits(stream_window=65_536, connection_window=131_072))
    peer.send(peer.request(1))
    updates = []
    for _ in range(16):
        written = peer.send(data(1, b"x" * 8192))
        updates += [
            (stream_id, int.from_bytes(payload, "big"))
            for kind, _, stream_id, payload in written
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
        peer.connection.streams[1].held = 65_535  # the layer above has used nothing
        written = peer.send(*[data(1, bytes(16_384))] * 4)
        assert reset_codes(written) == {1: ErrorCode.FLOW_CONTROL_ERROR}
    else:
        peer = Peer(TransportLimits(stream_window=1 << 20, connection_window=65_535))
        peer.send(peer.request(1))
        written = peer.send(*[data(1, bytes(16_384))] * 4)
        assert goaway_code(written) == ErrorCode.FLOW_CONTROL_ERROR


def test_an_early_end_asks_the_client_to_stop_and_forgives_what_was_under_way() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.connection.streams[1].end()
    assert reset_codes(peer.read()) == {1: ErrorCode.NO_ERROR}
    late = [data(1, b"late"), data(1, b"", end=True), frames.rst_stream(1, ErrorCode.CANCEL)]
    assert peer.send(*late) == []
    assert not peer.connection.closing


def test_a_graceful_end_serves_what_is_under_way_and_refuses_the_rest() -> None:
    peer = Peer()
    peer.send(peer.request(1))
    peer.connection.go_away()
    first = peer.read()
    assert first[0][3][:4] == frames.UINT32.pack(frames.MAX_STREAM_ID)
    peer.send(peer.request(3))  # had crossed the GOAWAY
    last = peer.send(frames.frame(frames.PING, frames.ACK, 0, first[1][3]))
    assert last[0][3][:4] == frames.UINT32.pack(3)
    assert reset_codes(peer.send(peer.request(5))) == {5: ErrorCode.REFUSED_STREAM}
    assert not peer.connection.drained
    assert content(peer.send(data(1, b"a", end=True), data(3, b"b", end=True)), 3) == b"b"
    assert peer.connection.drained


def test_a_lost_connection_tells_every_stream() -> None:
    peer = Peer()
    peer.send(peer.request(1), peer.request(3))
    peer.connection.lost()
    assert [peer.accepted[i].told[-1] for i in (1, 3)] == ["reset", "reset"]
    assert peer.counters.streams_opened == peer.counters.streams_closed == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-Upper", "a"), ("bad name", "a"), ("a", "b\nc"), ("a", " b"), ("te", "gzip"), ("", "a")],
)
def test_a_malformed_header_resets_its_stream_only(name: str, value: str) -> None:
    peer = Peer()
    assert reset_codes(peer.send(peer.request(1, [*REQUEST, (name, value)]))) == {
        1: ErrorCode.PROTOCOL_ERROR
    }
    assert content(peer.send(peer.request(3), data(3, b"fine")), 3) == b"fine"


def test_the_state_table_ends_where_the_rfc_says() -> None:
    table = streams.NEXT_STATE
    opened = table[streams.IDLE][streams.RECV_HEADERS]
    ends = (streams.RECV_END, streams.SEND_END)
    assert table[table[opened][ends[0]]][ends[1]] == streams.CLOSED
    assert table[table[opened][ends[1]]][ends[0]] == streams.CLOSED
    assert all(row[streams.RESET] == streams.CLOSED for row in table)
    assert table[streams.HALF_CLOSED_REMOTE][streams.RECV_DATA] == streams.ILLEGAL
