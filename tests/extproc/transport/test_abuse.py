"""Each limit against abuse: what crosses it closes the connection with the right code, is counted,
and what stays below it is served."""

import pytest

from extproc.transport import Rate, TransportLimits
from extproc.transport.http2 import frames
from extproc.transport.http2.errors import ErrorCode

from .http2_peer import REQUEST, Peer, goaway_code, reset_codes

CALM = ErrorCode.ENHANCE_YOUR_CALM
TIGHT = Rate(burst=10, per_second=1)
QUIET = [*REQUEST[:2], (":path", "/quiet"), REQUEST[3]]
WAITING = 100_000
"""More than the initial windows let go."""


def rst(stream_id: int) -> bytes:
    return frames.rst_stream(stream_id, ErrorCode.CANCEL)


def assert_closed(peer: Peer, written: list[tuple[int, int, int, bytes]], limit: str) -> None:
    assert goaway_code(written) == CALM
    assert peer.connection.closing
    assert peer.counters.abuse_closures == {limit: 1}
    assert not peer.connection.streams


def test_rapid_reset_of_unanswered_streams_closes_the_connection() -> None:
    peer = Peer()
    for number in range(1000):
        assert not peer.connection.closing
        peer.send(peer.request(2 * number + 1, QUIET), rst(2 * number + 1))
    written = peer.send(peer.request(2001, QUIET), rst(2001))
    assert_closed(peer, written, "resets")


def test_resets_of_answered_streams_are_free() -> None:
    peer = Peer(TransportLimits(resets=TIGHT))
    for stream_id in range(1, 2000, 2):
        peer.send(peer.request(stream_id), rst(stream_id))
    assert not peer.connection.closing
    assert peer.counters.streams_reset_by_peer == 1000


def test_resets_are_earned_back_with_time() -> None:
    peer = Peer(TransportLimits(resets=TIGHT))
    for stream_id in range(1, 200, 2):
        peer.now += 1.0
        peer.send(peer.request(stream_id, QUIET), rst(stream_id))
    assert not peer.connection.closing


def test_streams_that_the_peers_errors_make_us_reset_count_as_resets() -> None:
    peer = Peer(TransportLimits(resets=TIGHT))
    written = []
    for stream_id in range(1, 23, 2):
        written = peer.send(peer.request(stream_id, QUIET), frames.window_update(stream_id, 0))
    assert_closed(peer, written, "resets")
    assert peer.counters.protocol_errors == {"PROTOCOL_ERROR": 11}


def test_streams_over_the_limit_are_refused_and_then_count_as_resets() -> None:
    peer = Peer(TransportLimits(max_concurrent_streams=2, resets=TIGHT))
    written = peer.send(*(peer.request(stream_id, QUIET) for stream_id in range(1, 11, 2)))
    assert reset_codes(written) == dict.fromkeys([5, 7, 9], ErrorCode.REFUSED_STREAM)
    assert peer.counters.streams_refused == 3
    written = peer.send(*(peer.request(stream_id, QUIET) for stream_id in range(11, 29, 2)))
    assert_closed(peer, written, "resets")


@pytest.mark.parametrize("size", [0, 1, 100])
def test_endless_continuation_closes_the_connection(size: int) -> None:
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
    # Each byte refers to the entry of 3 kB that the first use has put into the table.
    bomb = block + bytes([0x80 | 62]) * 1000
    written = peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, bomb))
    assert_closed(peer, written, "max_header_list")


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
    peer.send(peer.request(1, QUIET))
    rate: Rate = getattr(TransportLimits(), limit)
    spent = 1 if limit == "settings" else 0  # the handshake's own
    peer.send(flood * (rate.burst - spent))
    assert not peer.connection.closing
    assert_closed(peer, peer.send(flood), limit)


def test_late_frames_are_forgiven_up_to_their_limit() -> None:
    peer = Peer(TransportLimits(late_frames=TIGHT))
    written = peer.send(peer.request(1, QUIET), frames.window_update(1, 0))
    assert reset_codes(written) == {1: ErrorCode.PROTOCOL_ERROR}
    late = frames.frame(frames.DATA, 0, 1, b"late")
    assert peer.send(late * 10) == []
    assert_closed(peer, peer.send(late), "late_frames")


def test_a_window_of_zero_holds_a_stream_for_a_limited_time() -> None:
    peer = Peer(TransportLimits(stall_timeout=60))
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 0}))
    peer.send(peer.request(1), frames.frame(frames.DATA, 0, 1, b"data"))
    peer.connection.tick(59.0)
    assert 1 in peer.connection.streams
    peer.now = 60.5
    peer.connection.tick(60.5)
    assert reset_codes(peer.read()) == {1: CALM}
    assert peer.accepted[1].told[-1] == "reset"
    assert peer.counters.abuse_closures == {"stall_timeout": 1}
    assert not peer.connection.closing


def test_a_socket_that_is_never_read_is_closed() -> None:
    peer = Peer(TransportLimits(stall_timeout=60, keepalive_interval=1000))
    peer.connection.pause()
    peer.send(peer.request(1), frames.frame(frames.DATA, 0, 1, b"data"))
    peer.connection.tick(60.5)
    assert_closed(peer, peer.read(), "stall_timeout")


def test_control_frames_do_not_pile_up_before_a_socket_that_is_not_read() -> None:
    peer = Peer()
    peer.connection.pause()
    ping = frames.frame(frames.PING, 0, 0, bytes(8))
    peer.send(ping * 3800)
    assert not peer.connection.closing
    assert_closed(peer, peer.send(ping * 200), "max_control_backlog")


@pytest.mark.parametrize("beginning", [b"", frames.PREFACE[:10], frames.PREFACE])
def test_a_slow_handshake_is_cut(beginning: bytes) -> None:
    peer = Peer(in_sync=False)
    peer.send(beginning)
    peer.connection.tick(9.9)
    assert not peer.connection.closing
    peer.connection.tick(10.1)
    assert_closed(peer, peer.read(), "handshake_timeout")


def test_a_header_block_that_dribbles_is_cut() -> None:
    peer = Peer()
    peer.now = 100.0
    peer.send(frames.frame(frames.HEADERS, 0, 1, b""))
    peer.connection.tick(110.1)
    assert_closed(peer, peer.read(), "handshake_timeout")


def test_a_peer_that_does_not_answer_the_keepalive_is_cut() -> None:
    peer = Peer()
    peer.connection.tick(30.1)
    assert [kind for kind, *_ in peer.read()] == [frames.PING]
    peer.connection.tick(50.0)
    assert not peer.connection.closing
    peer.connection.tick(50.2)
    assert_closed(peer, peer.read(), "keepalive_timeout")


def test_an_idle_connection_is_told_to_go_away() -> None:
    peer = Peer(TransportLimits(idle_timeout=100, keepalive_interval=1000))
    peer.connection.tick(100.1)
    assert goaway_code(peer.read()) == ErrorCode.NO_ERROR
    peer.send(frames.frame(frames.PING, frames.ACK, 0, b"goodbye\0"))
    assert peer.connection.drained
