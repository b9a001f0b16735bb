"""From encoded pictures to sampled frames: presentation order, sampling, selection, decoding."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import av

from sluice.contract.video import VideoReason
from video.frame import DecodedImage, EncodedImage, Frame
from video.source import SourceCounts, SourceError
from video.sources.decoder import PictureDecoder, open_decoder
from video.sources.limits import SourceLimits, check_frame, check_time
from video.sources.pictures import PictureReader, Start, too_many_pixels
from video.sources.presentation import Picture, PresentationOrder
from video.sources.sampling import PresentationClock, Sampler, Sampling
from video.sources.selection import DecodeSelection

MAX_WAIT_FOR_START = 900
"""Pictures after which there must have been one at which decoding can start."""

DEFAULT_INTERVAL = 1 / 25
"""Seconds between two frames of a stream that says nothing about it, as FFmpeg assumes."""


@dataclass(slots=True)
class EncodedPacket:
    """One encoded picture of a container or a camera. Timestamps are in seconds."""

    packet: "av.Packet[av.VideoStream]"
    presented: float | None
    decoded: float | None
    captured: float
    arrived: float


class Analysis(Protocol):
    """Makes sampled frames from encoded pictures."""

    def feed(self, encoded: EncodedPacket) -> Iterator[Frame]:
        """Take the next picture in decoding order. Raises SourceError."""

    def end(self) -> Iterator[Frame]:
        """The frames that are left at the end of the video."""


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How the pictures of a stream are encoded.

    `interval` is the nominal time between two frames in seconds. `configuration` is that of the
    decoder. `decoding_times` says whether the container has them. `ahead` is for how many seconds
    before a frame is due all pictures are decoded as they arrive, so that a live frame does not
    wait for those that it depends on.
    """

    codec: str
    configuration: bytes | None = None
    interval: float = DEFAULT_INTERVAL
    decoding_times: bool = True
    ahead: float = 0.0


def open_analysis(
    stream: StreamFormat, sampling: Sampling, limits: SourceLimits, counts: SourceCounts
) -> Analysis:
    """The analysis for a codec. Raises SourceError for one that is not supported."""
    if stream.codec == "mjpeg":
        return ImageAnalysis(stream, sampling, limits, counts)
    if stream.codec not in ("h264", "hevc"):
        message = f"the video is encoded as {stream.codec}: encode it as H.264, H.265 or JPEG"
        raise SourceError(VideoReason.UNSUPPORTED_CODEC, message)
    return PictureAnalysis(stream, sampling, limits, counts)


class ImageAnalysis:
    """JPEG images, which are not decoded."""

    def __init__(
        self, stream: StreamFormat, sampling: Sampling, limits: SourceLimits, counts: SourceCounts
    ) -> None:
        self._clock = PresentationClock(stream.interval)
        self._sampler = Sampler(sampling)
        self._limits = limits
        self._counts = counts

    def feed(self, encoded: EncodedPacket) -> Iterator[Frame]:
        """The image, if it is sampled."""
        image = bytes(encoded.packet)
        times = encoded.presented, encoded.captured, encoded.arrived
        frame = self.sample(image, *times)
        if frame is not None:
            yield frame

    def sample(
        self, image: bytes, presented: float | None, captured: float, arrived: float
    ) -> Frame | None:
        """A frame for the next image, if it is sampled. Raises SourceError at a limit."""
        counts = self._counts
        counts.received += 1
        check_frame(self._limits, counts)
        time = self._clock.advance(presented)
        check_time(self._limits, time)
        if not self._sampler.sample(time):
            counts.skipped += 1
            return None
        return Frame(counts.received - 1, time, captured, arrived, EncodedImage(image))

    def end(self) -> Iterator[Frame]:
        """No image is left."""
        return iter(())


class PictureAnalysis:
    """H.264 and H.265."""

    def __init__(
        self, stream: StreamFormat, sampling: Sampling, limits: SourceLimits, counts: SourceCounts
    ) -> None:
        """Raises SourceError."""
        self._limits = limits
        self._counts = counts
        self._reader = PictureReader(stream.codec, stream.configuration, limits.max_pixels)
        self._order = PresentationOrder(
            sampling, limits, counts, stream.interval, decoding_times=stream.decoding_times
        )
        self._selection = DecodeSelection()
        self._decodes_all = sampling.rate is None
        self._ahead = stream.ahead
        context = open_decoder(stream.codec, stream.configuration, limits.max_pixels)
        self._decoder = PictureDecoder(context, self._order.lose)
        self._started = False
        self._leading_lost = False
        self._number, self._time = -1, 0.0
        """Those of the last frame that was given."""

    def feed(self, encoded: EncodedPacket) -> Iterator[Frame]:
        """Take the next picture, and give the frames that are ready."""
        self._counts.received += 1
        check_frame(self._limits, self._counts)
        header = self._reader.read(bytes(encoded.packet))
        picture = Picture(
            encoded.packet,
            self._counts.received - 1,
            header,
            encoded.presented,
            encoded.decoded,
            encoded.captured,
            encoded.arrived,
        )
        if not self._decodable(picture):
            self._order.skip()
            return
        reorder = self._reader.parameters.reorder if self._reader.parameters else None
        in_order = reorder == 0
        starts = header.start is Start.CLOSED or (header.start is Start.OPEN and in_order)
        self._order.add(picture, reorder, starts=starts)
        if self._decodes_all:
            yield from self._frames(self._decoder.decode(picture))
            return
        soon = self._order.due <= self._ahead or self._decoder.delays_sampled
        yield from self._decode(self._selection.add(picture, in_order=in_order, soon=soon))

    def end(self) -> Iterator[Frame]:
        """The frames that are left."""
        self._order.decide_all()
        yield from self._decode(self._selection.rest())
        yield from self._frames(self._decoder.drain())

    def _decodable(self, picture: Picture) -> bool:
        """Whether decoding has started, and so that this picture can be decoded."""
        header = picture.header
        if not self._started:
            can_start = header.start is not Start.NO or header.recovers
            if not can_start and not picture.packet.is_keyframe:
                if self._counts.received > MAX_WAIT_FOR_START:
                    message = f"none of the first {MAX_WAIT_FOR_START} frames is a key frame"
                    raise SourceError(VideoReason.BROKEN_VIDEO, message)
                return False
            self._started = True
            self._leading_lost = header.start is Start.OPEN
        elif header.start is not Start.NO:
            self._leading_lost = False
        return not (self._leading_lost and header.needs_earlier)

    def _decode(self, pictures: Iterator[Picture | None]) -> Iterator[Frame]:
        for picture in pictures:
            if picture is None:
                yield from self._frames(self._decoder.drain())
            else:
                yield from self._frames(self._decoder.decode(picture))

    def _frames(self, decoded: Iterator[tuple[Picture, av.VideoFrame]]) -> Iterator[Frame]:
        for picture, frame in decoded:
            if picture.sampled is None:
                self._order.decide(picture)
            if frame.width * frame.height > self._limits.max_pixels:
                raise too_many_pixels(frame.width, frame.height, self._limits.max_pixels)
            if picture.sampled:
                # Timestamps can contradict the order in which pictures are to be shown.
                self._number = max(self._number + 1, picture.number)
                self._time = max(self._time, picture.time)
                yield Frame(
                    self._number,
                    self._time,
                    picture.captured,
                    picture.arrived,
                    DecodedImage(frame),
                )
