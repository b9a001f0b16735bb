"""A camera as a source of frames."""

import time
from collections.abc import Iterator
from typing import Final, cast
from urllib.parse import SplitResult, unquote, urlsplit

import av
from av.video.stream import VideoStream

from sluice.contract.video import VideoReason
from video.frame import Frame
from video.source import FrameSource, SourceCounts, SourceError
from video.sources.coded_video import (
    DEFAULT_INTERVAL,
    Analysis,
    EncodedPacket,
    StreamFormat,
    open_analysis,
)
from video.sources.limits import SourceLimits
from video.sources.rtsp.authentication import Credentials
from video.sources.rtsp.connection import Closed, Connection
from video.sources.rtsp.jpeg import JpegImages
from video.sources.rtsp.nal_units import NalUnits, Unit
from video.sources.rtsp.rtp import PacketOrder, RtpPacket, TimestampClock, is_bye, read_rtp
from video.sources.rtsp.sdp import Media
from video.sources.rtsp.session import Channels, Session, Transport
from video.sources.sampling import Sampling

DEFAULT_PORT: Final = 554

AHEAD: Final = 0.1
"""Seconds before a due frame from which all pictures are decoded as they arrive."""


def open_rtsp(
    url: str,
    transport: Transport,
    credentials: Credentials | None,
    sampling: Sampling,
    limits: SourceLimits,
) -> FrameSource:
    """A source of the frames of a camera. It connects when its frames are read.

    Credentials in the URL are used if there are no others. Raises SourceError for a URL that is
    not valid.
    """
    parts = _split(url)
    if parts.username is not None and credentials is None:
        credentials = Credentials(unquote(parts.username), unquote(parts.password or ""))
    if credentials is not None and not _is_printable(credentials.username + credentials.password):
        message = "the credentials contain control characters"
        raise SourceError(VideoReason.WRONG_CREDENTIALS, message)
    return RtspSource(parts, transport, credentials, sampling, limits)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "rtsp" and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not _is_printable(url) or " " in url:
        raise SourceError(VideoReason.UNREACHABLE, "the URL must be rtsp://HOST[:PORT]/PATH")
    return parts


def _is_printable(text: str) -> bool:
    return all(character >= " " and character != "\x7f" for character in text)


class RtspSource:
    """The frames of a camera. Implements FrameSource."""

    def __init__(
        self,
        url: SplitResult,
        transport: Transport,
        credentials: Credentials | None,
        sampling: Sampling,
        limits: SourceLimits,
    ) -> None:
        self.counts = SourceCounts()
        self._host = url.hostname or ""
        self._port = url.port or DEFAULT_PORT
        # The password must not get into a request line, nor into an error.
        self._url = url._replace(netloc=url.netloc.rpartition("@")[2], fragment="").geturl()
        self._transport: Transport = transport
        self._credentials = credentials
        self._sampling = sampling
        self._limits = limits
        self._connection = Connection()

    def close(self) -> None:
        """End `frames`. May be called from any thread."""
        self._connection.close()

    def frames(self) -> Iterator[Frame]:
        """The sampled frames. Ends when the camera says so. Raises SourceError."""
        try:
            yield from self._play()
        except Closed:
            return
        finally:
            self._connection.release()

    def _play(self) -> Iterator[Frame]:
        self._connection.connect(self._host, self._port)
        session = Session(self._connection, self._url, self._credentials)
        media = session.describe()
        analysis = open_analysis(_format_of(media), self._sampling, self._limits, self.counts)
        channels = session.set_up(media, self._transport)
        session.play(channels)
        receiver = _Receiver(media, channels, reorders=self._transport == "udp")
        try:
            yield from self._received(session, receiver, analysis)
        finally:
            session.tear_down()

    def _received(
        self, session: Session, receiver: "_Receiver", analysis: Analysis
    ) -> Iterator[Frame]:
        stall = self._limits.idle_timeout
        last = time.monotonic()
        while not receiver.ended:
            for data in self._connection.packets(last + stall):
                for unit in receiver.units(data.channel, data.data):
                    last = receiver.now
                    yield from self._analyse(unit, receiver, analysis)
            session.keep_alive(receiver.channels, receiver.source, receiver.order)
            if time.monotonic() > last + stall:
                message = f"the camera sent no frame for {stall:g} s"
                raise SourceError(VideoReason.IDLE, message)
        yield from analysis.end()

    def _analyse(self, unit: Unit, receiver: "_Receiver", analysis: Analysis) -> Iterator[Frame]:
        if unit.data is None:
            self.counts.received += 1
            self.counts.undecodable += 1
            return
        self.counts.bytes += len(unit.data)
        presented = receiver.clock.seconds(unit.timestamp)
        packet = cast("av.Packet[VideoStream]", av.Packet(unit.data))
        yield from analysis.feed(EncodedPacket(packet, presented, None, time.time(), receiver.now))


class _Receiver:
    """From packets to encoded pictures."""

    def __init__(self, media: Media, channels: Channels, *, reorders: bool) -> None:
        self.channels = channels
        self.order = PacketOrder(reorders=reorders)
        self.clock = TimestampClock(media.clock_rate)
        self.source: int | None = None
        self.ended = False
        """Whether the camera has said that the video ends."""
        self.now = 0.0
        self._payload_type = media.payload_type
        self._units = JpegImages() if media.codec == "mjpeg" else NalUnits(media.codec or "")

    def units(self, channel: int, data: bytes) -> Iterator[Unit]:
        """The pictures that a packet completes."""
        self.now = time.monotonic()
        if channel == self.channels.rtcp:
            self.ended = self.ended or is_bye(data)
        elif channel == self.channels.rtp:
            packet = read_rtp(data)
            if packet is not None and packet.payload_type == self._payload_type:
                yield from self._add(packet)

    def _add(self, packet: RtpPacket) -> Iterator[Unit]:
        self.source = packet.source
        for ordered in self.order.add(packet, self.now):
            yield from self._units.add(ordered)


def _format_of(media: Media) -> StreamFormat:
    rate = media.frame_rate
    interval = 1 / rate if rate and 1 <= rate <= 1000 else DEFAULT_INTERVAL
    return StreamFormat(
        media.codec or "",
        None if media.codec == "mjpeg" else media.configuration,
        interval,
        decoding_times=False,
        ahead=AHEAD,
    )
