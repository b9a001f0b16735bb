"""Videos in containers (MPEG-TS, MP4) and elementary streams (H.264, H.265), from a reader.

FFmpeg's demuxers read from a Python object and can open nothing else. No decoder runs while they
analyse the container.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from sluice.contract.video import VideoReason
from video.frame import Frame
from video.source import SourceCounts, SourceError
from video.sources.coded_video import (
    DEFAULT_INTERVAL,
    EncodedPacket,
    StreamFormat,
    open_analysis,
)
from video.sources.limits import MAX_FRAME_BYTES, ByteReader, LimitedReader, SourceLimits
from video.sources.mp4 import BoxReader
from video.sources.sampling import Sampling
from video.sources.spool import MAX_SPOOL_BYTES, spooled

DEMUXERS: Final = {
    "video/mp2t": "mpegts",
    "video/mp4": "mp4",
    "video/h264": "h264",
    "video/h265": "hevc",
    "video/hevc": "hevc",
}
"""FFmpeg's demuxers by media type."""

_BUFFER: Final = 64 << 10
_PROBE_BYTES: Final = 1 << 20
_MAX_STREAMS: Final = 24

_OPTIONS: Final = {
    # No protocol is allowed, and `_refuse` opens nothing else.
    "protocol_whitelist": "",
    # A decoder must not run before the limits are known.
    "codec_whitelist": "none",
    "probesize": str(_PROBE_BYTES),
    "analyzeduration": "1",
    "max_streams": str(_MAX_STREAMS),
}

_DEMUXER_OPTIONS: Final = {
    "mpegts": {"merge_pmt_versions": "1"},
    "mp4": {"ignore_editlist": "1", "ignore_chapters": "1", "enable_drefs": "0"},
}

_GENERATE_TIMESTAMPS: Final = 1
"""AVFMT_FLAG_GENPTS."""


def _refuse(*_: object) -> object:
    raise SourceError(VideoReason.BROKEN_VIDEO, "the video refers to another file")


class ContainerSource:
    """A video in a container. Implements FrameSource."""

    def __init__(
        self, reader: ByteReader, demuxer: str, sampling: Sampling, limits: SourceLimits
    ) -> None:
        self.counts = SourceCounts()
        self._reader = reader
        self._demuxer = demuxer
        self._sampling = sampling
        self._limits = limits
        self._closed = False

    def close(self) -> None:
        """End `frames`. May be called from any thread."""
        self._closed = True
        self._reader.close()

    def frames(self) -> Iterator[Frame]:
        """The sampled frames. Raises SourceError."""
        reader = LimitedReader(self._reader, self._limits, self.counts)
        try:
            yield from self._frames(reader)
        except SourceError:
            # The reader ended the video early, and the demuxer only saw its end.
            if not self._closed:
                reader.raise_failure()
                raise
            return
        if not self._closed:
            reader.raise_failure()

    def _frames(self, reader: LimitedReader) -> Iterator[Frame]:
        boxes = BoxReader(reader) if self._demuxer == "mp4" else None
        try:
            with ExitStack() as stack:
                container = self._open(boxes or reader, stack)
                yield from self._analyse(container, reader)
        except SourceError:
            if boxes is not None and boxes.failure is not None:
                raise boxes.failure from None
            raise
        if boxes is not None and boxes.failure is not None:
            raise boxes.failure

    def _open(self, reader: LimitedReader | BoxReader, stack: ExitStack) -> InputContainer:
        """Open the container, which `stack` closes. Raises SourceError."""
        file: object = reader
        if isinstance(reader, BoxReader):
            reader.start()
            if reader.media_first:
                limit = self._limits.max_bytes
                maximum = MAX_SPOOL_BYTES if limit is None else limit
                file = stack.enter_context(spooled(reader, maximum))
        options = {"format_whitelist": self._demuxer, **_OPTIONS}
        options |= _DEMUXER_OPTIONS.get(self._demuxer, {})
        try:
            container = av.open(
                file,
                "r",
                format=self._demuxer,
                options=options,
                buffer_size=_BUFFER,
                io_open=_refuse,
                metadata_errors="replace",
            )
        except av.FFmpegError as error:
            message = f"this is no video in the format {self._demuxer}: {error.strerror}"
            raise SourceError(VideoReason.BROKEN_VIDEO, message) from None
        stack.callback(container.close)
        # Without this, FFmpeg would buffer packets until it finds a timestamp.
        container.flags &= ~_GENERATE_TIMESTAMPS
        return container

    def _analyse(self, container: InputContainer, reader: LimitedReader) -> Iterator[Frame]:
        stream = _choose_stream(container)
        analysis = open_analysis(
            _format_of(stream, self._demuxer), self._sampling, self._limits, self.counts
        )
        for packet in self._packets(container, stream):
            reader.frame_ended()
            if packet.size > MAX_FRAME_BYTES:
                message = f"a frame is larger than {MAX_FRAME_BYTES >> 20} MiB"
                raise SourceError(VideoReason.BROKEN_VIDEO, message)
            seconds = float(packet.time_base)
            encoded = EncodedPacket(
                packet,
                None if packet.pts is None else packet.pts * seconds,
                None if packet.dts is None else packet.dts * seconds,
                reader.captured,
                reader.arrived,
            )
            yield from analysis.feed(encoded)
            if self._closed:
                return
        yield from analysis.end()
        if not self.counts.received:
            reader.raise_failure()
            raise SourceError(VideoReason.NO_VIDEO, "the video has no frame")

    def _packets(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator["av.Packet[VideoStream]"]:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    yield packet
        except av.FFmpegError as error:
            message = f"the container is broken: {error.strerror}"
            raise SourceError(VideoReason.BROKEN_VIDEO, message) from None


def _choose_stream(container: InputContainer) -> VideoStream:
    """The first video stream with a known codec. All others are discarded."""
    videos = container.streams.video
    if not videos:
        raise SourceError(VideoReason.NO_VIDEO, "the video has no video stream")
    chosen = next((each for each in videos if each.codec_context is not None), None)
    if chosen is None:
        raise SourceError(VideoReason.UNSUPPORTED_CODEC, "the codec of the video is unknown")
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = av.stream.Discard.all
    return chosen


def _format_of(stream: VideoStream, demuxer: str) -> StreamFormat:
    rate = stream.average_rate or stream.codec_context.framerate
    if demuxer in ("h264", "hevc"):
        # The demuxer assumes a rate. That of the parameter sets is better.
        rate = stream.codec_context.framerate or rate
    interval = float(1 / rate) if rate and 1 <= rate <= 1000 else DEFAULT_INTERVAL
    context = stream.codec_context
    return StreamFormat(context.name, context.extradata, interval)
