"""Each abuse limit: a peer above it gets ENHANCE_YOUR_CALM and is counted, a peer below it is
served."""

import pytest

from extproc.transport import Rate, TransportLimits
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode

from .http2_peer import REQUEST, Frame, Peer, goaway_code, reset_codes

CALM = ErrorCode.ENHANCE_YOUR_CALM
TIGHT = Rate(burst=10, per_second=1)
NO_RESPONSE = [*REQUEST[:2], (":path", "/quiet"), REQUEST[3]]
"""A request without a response."""


def rst(stream_id: int) -> bytes:
    return frames.rst_stream(stream_id, ErrorCode.CANCEL)


def assert_closed(peer: Peer, sent: list[Frame], limit: str) -> None:
    assert goaway_code(sent) == CALM
    assert peer.connection.closing
    assert peer.counters.abuse_closures == {limit: 1}
    assert not peer.connection.streams


def test_rapid_reset_of_streams_without_response_closes_the_connection() -> None:
    peer = Peer()
    for number in range(1000):
        assert not peer.connection.closing
        peer.send(peer.request(2 * number + 1, NO_RESPONSE), rst(2 * number + 1))
    sent = peer.send(peer.request(2001, NO_RESPONSE), rst(2001))
    assert_closed(peer, sent, "resets")


def test_resets_after_the_response_began_are_not_limited() -> None:
    peer = Peer(TransportLimits(resets=TIGHT))
    for stream_id in range(1, 2000, 2):
        peer.send(peer.request(stream_id), rst(stream_id))
    assert not peer.connection.closing
    assert peer.counters.streams_reset_by_peer == 1000


def test_the_reset_bucket_refills_with_time() -> None:
    peer = Peer(TransportLimits(resets=TIGHT))
    for stream_id in range(1, 200, 2):
        peer.now += 1.0
        peer.send(peer.request(stream_id, NO_RESPONSE), rst(stream_id))
    assert not peer.connection.closing


def test_stream_errors_of_the_peer_count_as_resets() -> None:
    peer = Peer(TransportLimits(resets=TIGHT))
    sent = []
    for stream_id in range(1, 23, 2):
        sent = peer.send(peer.request(stream_id, NO_RESPONSE), frames.window_update(stream_id, 0))
    assert_closed(peer, sent, "resets")
    assert peer.counters.protocol_errors == {"PROTOCOL_ERROR": 11}


def test_streams_above_the_concurrency_limit_are_refused_and_count_as_resets() -> None:
    peer = Peer(TransportLimits(max_concurrent_streams=2, resets=TIGHT))
    sent = peer.send(*(peer.request(stream_id, NO_RESPONSE) for stream_id in range(1, 11, 2)))
    assert reset_codes(sent) == dict.fromkeys([5, 7, 9], ErrorCode.REFUSED_STREAM)
    assert peer.counters.streams_refused == 3
    sent = peer.send(*(peer.request(stream_id, NO_RESPONSE) for stream_id in range(11, 29, 2)))
    assert_closed(peer, sent, "resets")


@pytest.mark.parametrize("size", [0, 1, 100])
def test_too_many_continuation_frames_close_the_connection(size: int) -> None:
    peer = Peer()
    peer.send(frames.frame(frames.HEADERS, 0, 1, peer.block()))
    piece = frames.frame(frames.CONTINUATION, 0, 1, bytes(size))
    assert not peer.send(piece * 31)
    assert_closed(peer, peer.send(piece), "max_continuations")


def test_a_large_header_block_closes_the_connection_before_it_is_decoded() -> None:
    peer = Peer()
    peer.send(frames.frame(frames.HEADERS, 0, 1, peer.block()))
    piece = frames.frame(frames.CONTINUATION, 0, 1, bytes(16_384))
    assert not peer.send(piece)
    assert_closed(peer, peer.send(piece), "max_header_list")


def test_an_hpack_bomb_closes_the_connection() -> None:
    peer = Peer()
    block = peer.block([*REQUEST, ("bomb", "x" * 3000)])
    # Each byte refers to the entry of 3 kB that `block` adds to the table.
    bomb = block + bytes([0x80 | 62]) * 1000
    sent = peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, bomb))
    assert_closed(peer, sent, "max_header_list")


@pytest.mark.parametrize(
    ("limit", "flood"),
    [
        ("settings", frames.settings({})),
        ("settings", frames.frame(frames.SETTINGS, frames.ACK, 0, b"")),
        ("pings", frames.frame(frames.PING, 0, 0, bytes(8))),
        ("pings", frames.frame(frames.PING, frames.ACK, 0, bytes(8))),
        ("empty_frames", frames.frame(frames.DATA, 0, 1, b"")),
        ("empty_frames", frames.frame(frames.DATA, frames.PADDED, 1, b"\x01\0")),
        ("empty_frames", frames.frame(frames.PRIORITY, 0, 1, bytes(5))),
        ("empty_frames", frames.frame(0x77, 0, 1, b"unknown")),
        ("window_updates", frames.window_update(0, 1)),
        ("window_updates", frames.window_update(1, 255)),
    ],
)
def test_a_flood_closes_the_connection(limit: str, flood: bytes) -> None:
    peer = Peer()
    peer.send(peer.request(1, NO_RESPONSE))
    rate: Rate = getattr(TransportLimits(), limit)
    already_sent = 1 if limit == "settings" else 0  # the handshake has sent one
    peer.send(flood * (rate.burst - already_sent))
    assert not peer.connection.closing
    assert_closed(peer, peer.send(flood), limit)


def test_late_frames_are_ignored_up_to_their_limit() -> None:
    peer = Peer(TransportLimits(late_frames=TIGHT))
    sent = peer.send(peer.request(1, NO_RESPONSE), frames.window_update(1, 0))
    assert reset_codes(sent) == {1: ErrorCode.PROTOCOL_ERROR}
    late = frames.frame(frames.DATA, 0, 1, b"late")
    assert peer.send(late * 10) == []
    assert_closed(peer, peer.send(late), "late_frames")


def test_a_stream_blocked_by_a_closed_window_is_reset_after_stall_timeout() -> None:
    peer = Peer(TransportLimits(stall_timeout=60))
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    peer.send(peer.request(1), frames.frame(frames.DATA, 0, 1, b"data"))
    peer.connection.check_timeouts(59.0)
    assert 1 in peer.connection.streams
    peer.now = 60.5
    peer.connection.check_timeouts(60.5)
    assert reset_codes(peer.read()) == {1: CALM}
    assert peer.streams[1].events[-1] == "reset"
    assert peer.counters.abuse_closures == {"stall_timeout": 1}
    assert not peer.connection.closing


def test_a_connection_whose_socket_is_never_read_is_closed() -> None:
    peer = Peer(TransportLimits(stall_timeout=60, keepalive_interval=1000))
    peer.connection.pause_writing()
    peer.send(peer.request(1), frames.frame(frames.DATA, 0, 1, b"data"))
    peer.connection.check_timeouts(60.5)
    assert_closed(peer, peer.read(), "stall_timeout")


def test_control_frames_for_a_full_socket_are_bounded() -> None:
    peer = Peer()
    peer.connection.pause_writing()
    ping = frames.frame(frames.PING, 0, 0, bytes(8))
    peer.send(ping * 3800)
    assert not peer.connection.closing
    assert_closed(peer, peer.send(ping * 200), "max_control_backlog")


@pytest.mark.parametrize("preface", [b"", frames.PREFACE[:10], frames.PREFACE])
def test_a_slow_handshake_closes_the_connection(preface: bytes) -> None:
    peer = Peer(handshake=False)
    peer.send(preface)
    peer.connection.check_timeouts(9.9)
    assert not peer.connection.closing
    peer.connection.check_timeouts(10.1)
    assert_closed(peer, peer.read(), "handshake_timeout")


def test_a_slow_header_block_closes_the_connection() -> None:
    peer = Peer()
    peer.now = 100.0
    peer.send(frames.frame(frames.HEADERS, 0, 1, b""))
    peer.connection.check_timeouts(110.1)
    assert_closed(peer, peer.read(), "handshake_timeout")


def test_a_peer_that_does_not_acknowledge_the_keepalive_loses_its_connection() -> None:
    peer = Peer()
    peer.connection.check_timeouts(30.1)
    assert [kind for kind, *_ in peer.read()] == [frames.PING]
    peer.connection.check_timeouts(50.0)
    assert not peer.connection.closing
    peer.connection.check_timeouts(50.2)
    assert_closed(peer, peer.read(), "keepalive_timeout")


def test_an_idle_connection_gets_goaway() -> None:
    peer = Peer(TransportLimits(idle_timeout=100, keepalive_interval=1000))
    peer.connection.check_timeouts(100.1)
    assert goaway_code(peer.read()) == ErrorCode.NO_ERROR
    peer.send(frames.frame(frames.PING, frames.ACK, 0, frames.DRAIN_PING))
    assert peer.connection.drained
