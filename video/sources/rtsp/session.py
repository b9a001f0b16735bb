"""A session with a camera: describes, sets up and plays one video (RFC 2326)."""

import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sluice.contract.video import VideoReason
from video.source import SourceError
from video.sources.rtsp.authentication import Authorizer, Credentials
from video.sources.rtsp.connection import Connection
from video.sources.rtsp.messages import Response
from video.sources.rtsp.rtp import PacketOrder, empty_report, receiver_report
from video.sources.rtsp.sdp import Media, read_videos

Transport = Literal["tcp", "udp"]

REPORT_INTERVAL: Final = 5.0
_DEFAULT_TIMEOUT: Final = 60.0
"""Seconds after which a camera ends a session without requests (12.37)."""

_MAX_CHANNEL, _MAX_PORT = 0xFF, 0xFFFF

_EMPTY_RTP: Final = b"\x80" + bytes(11)


@dataclass(frozen=True, slots=True)
class Channels:
    """Where the packets of the video come and reports go.

    Channels on the connection of the messages, or with UDP 0 for RTP and 1 for RTCP. `ports` are
    those of the camera.
    """

    rtp: int
    rtcp: int
    ports: tuple[int | None, int | None] = (None, None)


class Session:
    """One video that plays. Raises SourceError and Closed."""

    def __init__(self, connection: Connection, url: str, credentials: Credentials | None) -> None:
        self._connection = connection
        self._url = url
        self._credentials = credentials
        self._own = secrets.randbits(32)
        self._next_request = self._next_report = 0.0
        self._keep_alive = _DEFAULT_TIMEOUT / 2

    def describe(self) -> Media:
        """The first video of the camera in a codec that is supported."""
        response = self._request("DESCRIBE", self._url, {"Accept": "application/sdp"})
        base = response.header("content-base") or response.header("content-location") or self._url
        videos, self._url = read_videos(response.body.decode("utf-8", "replace"), base.strip())
        if not videos:
            raise SourceError(VideoReason.NO_VIDEO, "the camera has no video")
        for media in videos:
            if media.codec is not None:
                media.control = media.control or self._url
                return media
        names = ", ".join(sorted({media.encoding[:20] or "unknown" for media in videos}))
        message = f"the camera sends {names!r}: set it to H.264, H.265 or JPEG"
        raise SourceError(VideoReason.UNSUPPORTED_CODEC, message)

    def set_up(self, media: Media, transport: Transport) -> Channels:
        """Agree on the transport of the video."""
        if transport == "tcp":
            wanted = "RTP/AVP/TCP;unicast;interleaved=0-1"
        else:
            port = self._connection.open_media()
            wanted = f"RTP/AVP;unicast;client_port={port}-{port + 1}"
        response = self._request("SETUP", media.control, {"Transport": wanted})
        session, _, options = response.header("session").partition(";")
        self._connection.session = session.strip() or None
        timeout = re.search(r"timeout\s*=\s*(\d{1,6})", options)
        if timeout is not None:
            self._keep_alive = max(1.0, int(timeout[1]) / 2)
        answer = response.header("transport")
        if transport == "tcp":
            return Channels(*(_pair(answer, "interleaved", _MAX_CHANNEL) or (0, 1)))
        return Channels(0, 1, _pair(answer, "server_port", _MAX_PORT) or (None, None))

    def play(self, channels: Channels) -> None:
        """Start the video."""
        if channels.ports[0] is not None:
            # A firewall then lets the packets of the camera pass.
            self._connection.send_media(0, channels.ports[0], _EMPTY_RTP)
            self._connection.send_media(1, channels.ports[1], empty_report(self._own))
        self._request("PLAY", self._url, {"Range": "npt=0.000-"})
        self._next_request = time.monotonic() + self._keep_alive

    def keep_alive(self, channels: Channels, source: int | None, order: PacketOrder) -> None:
        """Send what tells the camera that the video is still received, if it is time."""
        now = time.monotonic()
        if now >= self._next_request:
            self._next_request = now + self._keep_alive
            self._connection.send("OPTIONS", self._url, {})
        if now >= self._next_report and source is not None:
            self._next_report = now + REPORT_INTERVAL
            report = receiver_report(self._own, source, order)
            self._connection.send_media(channels.rtcp, channels.ports[1], report)

    def tear_down(self) -> None:
        """End the video, without waiting for the answer."""
        self._connection.send("TEARDOWN", self._url, {})

    def _request(self, method: str, url: str, headers: Mapping[str, str]) -> Response:
        """A successful response. Answers a challenge once, and one with a new nonce."""
        response = self._connection.request(method, url, headers)
        for _ in range(2):
            if response.status != 401:
                break
            self._authorize(response)
            response = self._connection.request(method, url, headers)
        if not 200 <= response.status < 300:
            raise _failure(method, response.status)
        return response

    def _authorize(self, response: Response) -> None:
        """Read a challenge. Raises SourceError if the credentials were refused."""
        challenges = response.headers.get("www-authenticate", [])
        if self._credentials is None:
            raise SourceError(VideoReason.WRONG_CREDENTIALS, "the camera needs credentials")
        stale = any(re.search(r'stale\s*=\s*"?true', each, re.IGNORECASE) for each in challenges)
        if self._connection.authorizer is not None and not stale:
            raise _failure("", 401)
        authorizer = Authorizer(self._credentials, lambda: secrets.token_hex(8))
        if not authorizer.accept(challenges):
            message = "the camera wants a way of authentication that is not supported"
            raise SourceError(VideoReason.WRONG_CREDENTIALS, message)
        self._connection.authorizer = authorizer


_FAILURES: Final = {
    401: (VideoReason.WRONG_CREDENTIALS, "the camera refuses the credentials"),
    403: (VideoReason.WRONG_CREDENTIALS, "the camera refuses access with these credentials"),
    404: (VideoReason.STREAM_NOT_FOUND, "the camera has no such stream: check the path of the URL"),
    461: (VideoReason.UNREACHABLE, "the camera does not support this transport: set the other one"),
}


def _failure(method: str, status: int) -> SourceError:
    """The error for a response."""
    if 300 <= status < 400:
        message = "the camera redirects to another URL, which is not followed: write that URL"
        return SourceError(VideoReason.UNREACHABLE, message)
    reason, message = _FAILURES.get(
        status, (VideoReason.UNREACHABLE, f"the camera answers {method} with status {status}")
    )
    return SourceError(reason, message)


def _pair(transport: str, name: str, maximum: int) -> tuple[int, int] | None:
    """Two numbers of a Transport header. The second is optional. None for larger numbers."""
    found = re.search(rf"{name}\s*=\s*(\d{{1,5}})(?:-(\d{{1,5}}))?", transport)
    if found is None:
        return None
    first = int(found[1])
    second = int(found[2]) if found[2] else first + 1
    return (first, second) if max(first, second) <= maximum else None
