"""Cameras that behave, and cameras that do not."""

import socket
import threading
import time
from dataclasses import replace

import pytest

from sluice.contract.video import VideoReason
from tests.video.sources.rtsp.camera import (
    SDP,
    Answer,
    Request,
    camera,
    film,
    interleaved,
    response,
)
from tests.video.sources.rtsp.packets import packets
from tests.video.sources.samples import LIMITS, encoded, failure, pixels, upload
from video.source import FrameSource, SourceError
from video.sources import Credentials, Sampling, SourceLimits, open_rtsp
from video.sources.rtsp.connection import MAX_HELD_BYTES, Connection

PASSWORD = "secret-password"
QUICK = replace(LIMITS, idle_timeout=0.2)


def _open(
    url: str,
    credentials: Credentials | None = None,
    rate: float | None = None,
    limits: SourceLimits = LIMITS,
) -> FrameSource:
    return open_rtsp(url, "tcp", credentials, Sampling(rate), limits)


def _stream(codec: str = "h264") -> bytes:
    return encoded(codec, form=codec, count=30)


@pytest.mark.parametrize(("codec", "encoding"), [("h264", "H264"), ("hevc", "H265")])
@pytest.mark.parametrize("rate", [None, 4.0])
def test_the_frames_are_those_of_the_film(codec: str, encoding: str, rate: float | None) -> None:
    stream = _stream(codec)
    with camera(film(packets(stream, codec), encoding)) as served:
        source = _open(served.url, rate=rate)
        frames = list(source.frames())
    expected = list(upload(stream, codec, rate).frames())
    assert [each.number for each in frames] == [each.number for each in expected]
    assert [each.time for each in frames] == pytest.approx([each.time for each in expected])
    assert [pixels(each) for each in frames] == [pixels(each) for each in expected]
    assert source.counts.received == 30
    assert [each.method for each in served.requests[:3]] == ["DESCRIBE", "SETUP", "PLAY"]
    assert served.requests[1].url == f"{served.url}/track1"


def test_a_lost_packet_costs_frames_but_not_the_stream() -> None:
    sent = packets(_stream(), "h264")
    del sent[len(sent) // 2]
    with camera(film(sent)) as served:
        source = _open(served.url)
        frames = list(source.frames())
    counts = source.counts
    assert counts.received - counts.undecodable == len(frames)
    assert 10 < len(frames) <= 30


def _challenge(challenge: str, accepts: str) -> Answer:
    """A camera that wants an Authorization header with a text."""
    play = film(packets(_stream(), "h264"))

    def answer(request: Request) -> bytes | None:
        if accepts in request.headers.get("authorization", ""):
            return play(request)
        return response(request, 401, WWW_Authenticate=challenge)

    return answer


@pytest.mark.parametrize(
    ("challenge", "accepts"),
    [
        ('Basic realm="x"', "Basic dXNlcjpzZWNyZXQtcGFzc3dvcmQ="),
        ('Digest realm="x", nonce="n"', 'nonce="n"'),
        ('Digest realm="x", nonce="n", qop="auth", algorithm=SHA-256', "algorithm=SHA-256"),
    ],
)
def test_credentials_are_sent_when_the_camera_asks(challenge: str, accepts: str) -> None:
    with camera(_challenge(challenge, accepts)) as served:
        assert len(list(_open(served.url, Credentials("user", PASSWORD)).frames())) == 30
        url = served.url.replace("rtsp://", f"rtsp://user:{PASSWORD}@")
        assert len(list(_open(url).frames())) == 30
    assert "authorization" not in served.requests[0].headers
    assert all(PASSWORD not in f"{each.url}{each.headers}" for each in served.requests)


@pytest.mark.parametrize("credentials", [None, Credentials("user", PASSWORD)])
def test_refused_credentials_are_never_shown(credentials: Credentials | None) -> None:
    refusing = _challenge('Digest realm="x", nonce="n"', "never")
    with camera(refusing) as served, pytest.raises(SourceError) as error:
        list(_open(served.url, credentials).frames())
    assert error.value.reason is VideoReason.WRONG_CREDENTIALS
    assert PASSWORD not in f"{error.value} {credentials}"
    assert len(served.requests) == (1 if credentials is None else 2)


def test_a_redirect_is_not_followed() -> None:
    with (
        camera(film(packets(_stream(), "h264"))) as other,
        camera(lambda request: response(request, 302, Location=other.url)) as served,
    ):
        frames, reason = failure(_open(served.url, Credentials("user", PASSWORD)))
    assert (frames, reason) == ([], VideoReason.UNREACHABLE)
    assert not other.requests


def test_the_control_url_of_another_host_is_requested_from_the_camera() -> None:
    with camera(film(packets(_stream(), "h264"))) as other:
        sdp = SDP.replace("track1", other.url)
        with camera(film(packets(_stream(), "h264"), sdp=sdp)) as served:
            assert len(list(_open(served.url).frames())) == 30
    assert not other.requests


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, VideoReason.WRONG_CREDENTIALS),
        (404, VideoReason.STREAM_NOT_FOUND),
        (453, VideoReason.UNREACHABLE),
        (503, VideoReason.UNREACHABLE),
    ],
)
def test_a_status_is_a_reason(status: int, reason: VideoReason) -> None:
    with camera(lambda request: response(request, status)) as served:
        assert failure(_open(served.url)) == ([], reason)


@pytest.mark.parametrize(
    ("sdp", "reason"),
    [
        (SDP.replace("{encoding}", "VP8"), VideoReason.UNSUPPORTED_CODEC),
        ("v=0\nm=audio 0 RTP/AVP 0\n", VideoReason.NO_VIDEO),
        ("", VideoReason.NO_VIDEO),
        ("\0\xff" * 100, VideoReason.NO_VIDEO),
    ],
)
def test_a_session_without_a_usable_video_is_refused(sdp: str, reason: VideoReason) -> None:
    with camera(film([], sdp=sdp)) as served:
        assert failure(_open(served.url)) == ([], reason)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 40_000, b"RTSP/1.0 OK\r\n\r\n", b""]
)
def test_a_server_that_is_no_camera_is_unreachable(answer: bytes) -> None:
    with camera(lambda _: answer) as served:
        assert failure(_open(served.url)) == ([], VideoReason.UNREACHABLE)


def test_a_camera_that_refuses_the_connection_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    frames, reason = failure(_open(f"rtsp://127.0.0.1:{port}/film"))
    assert (frames, reason) == ([], VideoReason.UNREACHABLE)


def test_a_camera_that_stalls_is_idle() -> None:
    with camera(film(packets(_stream(), "h264"), end=b"")) as served:
        frames, reason = failure(_open(served.url, limits=QUICK))
    assert len(frames) == 30
    assert reason is VideoReason.IDLE


def test_packets_that_complete_no_frame_do_not_keep_a_stream_alive() -> None:
    sent = [packets(_stream(), "h264")[0]] * 50

    def answer(request: Request) -> bytes | None:
        reply = film(sent)(request)
        return reply if request.method != "PLAY" else response(request) + interleaved(b"\x80" * 99)

    with camera(answer) as served:
        assert failure(_open(served.url, limits=QUICK)) == ([], VideoReason.IDLE)


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP", "PLAY"])
def test_a_flood_of_packets_in_place_of_an_answer_is_not_kept(method: str) -> None:
    flood = interleaved(bytes(60_000)) * (2 * MAX_HELD_BYTES // 60_000)
    answers = film([])

    def answer(request: Request) -> bytes | None:
        return flood if request.method == method else answers(request)

    with camera(answer) as served, pytest.raises(SourceError, match="instead of an answer"):
        list(_open(served.url).frames())


def test_packets_of_other_hosts_do_not_hold_up_a_source() -> None:
    read = []

    class Flood:
        def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
            read.append(size)
            assert len(read) < 10_000
            return b"x", ("192.0.2.1", 9)

    connection = Connection()
    with camera(film([])) as served:
        port = int(served.url.rpartition(":")[2].partition("/")[0])
        connection.connect("127.0.0.1", port)
        assert not connection._datagrams(0, Flood())  # type: ignore[arg-type]
        connection.release()


def test_channels_that_do_not_exist_are_not_used() -> None:
    play = film(packets(_stream(), "h264"))

    def answer(request: Request) -> bytes | None:
        if request.method != "SETUP":
            return play(request)
        return response(request, Session="5", Transport="RTP/AVP/TCP;interleaved=300-301")

    with camera(answer) as served:
        assert len(list(_open(served.url).frames())) == 30


def test_a_resolution_above_the_limit_is_refused() -> None:
    with camera(film(packets(_stream(), "h264"))) as served:
        frames, reason = failure(_open(served.url, limits=replace(LIMITS, max_pixels=100)))
    assert (frames, reason) == ([], VideoReason.TOO_MANY_PIXELS)


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP", "PLAY", "nothing"])
def test_close_ends_every_wait(method: str) -> None:
    play = film(packets(_stream(), "h264"), end=b"")
    reached = threading.Event()

    def answer(request: Request) -> bytes | None:
        if request.method == method:
            reached.set()
            return None
        if request.method == "PLAY":
            reached.set()
        return play(request)

    with camera(answer) as served:
        source = _open(served.url)
        thread = threading.Thread(target=lambda: list(source.frames()))
        thread.start()
        assert reached.wait(5)
        began = time.monotonic()
        source.close()
        source.close()
        thread.join(5)
        assert not thread.is_alive()
        assert time.monotonic() - began < 1


def test_a_source_that_was_closed_does_not_connect() -> None:
    with camera(film([])) as served:
        source = _open(served.url)
        source.close()
        assert not list(source.frames())
    assert not served.requests


@pytest.mark.parametrize(
    "url",
    ["http://h/", "rtsp:///x", "rtsp://h:99999/", "rtsp://h/\r\nX: y", "rtsp://h/a b", "", "x"],
)
def test_a_url_that_is_not_valid_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match="rtsp://HOST"):
        _open(url)


def test_a_camera_is_closed_while_no_dns_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = threading.Event(), threading.Event()

    def resolver(*_: object, **__: object) -> list[object]:
        asked.set()
        answers.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    source = _open("rtsp://camera.invalid/stream1")
    reading = threading.Thread(target=lambda: list(source.frames()))
    reading.start()
    assert asked.wait(10)
    source.close()
    reading.join(10)
    assert not reading.is_alive()
    answers.set()


def test_a_host_without_an_address_is_unreachable() -> None:
    with pytest.raises(SourceError, match=r"camera\.invalid: ") as raised:
        list(_open("rtsp://camera.invalid/stream1").frames())
    assert raised.value.reason is VideoReason.UNREACHABLE
