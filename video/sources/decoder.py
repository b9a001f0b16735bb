"""Decodes pictures of one stream, and finds those that cannot be decoded."""

from collections.abc import Callable, Iterator

import av
from av.video.codeccontext import VideoCodecContext

from sluice.contract.video import VideoReason
from video.source import SourceError
from video.sources.presentation import Picture

MAX_BROKEN_RUN = 300
"""Pictures in a row without a decoded frame after which a source gives up."""

_MAX_OUTSTANDING = 64
"""Pictures in the decoder. Its buffer has at most 17."""


def open_decoder(codec: str, configuration: bytes | None, max_pixels: int) -> VideoCodecContext:
    """A decoder for one thread. It refuses larger frames before it allocates memory for them."""
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    if configuration:
        context.extradata = configuration
    # Each stream has a thread of its own. More threads would only add latency.
    context.thread_count = 1
    context.options = {"max_pixels": str(max_pixels)}
    return context


class PictureDecoder:
    """Decodes pictures, and gives each frame with its picture. `lose` gets the other pictures."""

    def __init__(self, context: VideoCodecContext, lose: Callable[[Picture], None]) -> None:
        self._context = context
        self._lose = lose
        self._outstanding: dict[int, Picture] = {}
        self._broken_run = 0

    @property
    def delays_sampled(self) -> bool:
        """Whether a sampled frame waits in the decoder for further pictures."""
        return any(each.sampled for each in self._outstanding.values())

    def decode(self, picture: Picture) -> Iterator[tuple[Picture, av.VideoFrame]]:
        """Decode the next picture. Raises SourceError after too many broken ones."""
        self._outstanding[picture.index] = picture
        if len(self._outstanding) > _MAX_OUTSTANDING:
            self._give_up(next(iter(self._outstanding)))
        packet = picture.packet
        # The decoder hands the timestamp on to the frame. Here it identifies the picture.
        packet.pts, packet.dts = picture.index, None
        self._broken_run += 1
        try:
            frames = self._context.decode(packet)
        except av.FFmpegError:
            self._give_up(picture.index)
            frames = []
        yield from self._frames(frames)
        if self._broken_run > MAX_BROKEN_RUN:
            message = f"{MAX_BROKEN_RUN} frames in a row cannot be decoded"
            raise SourceError(VideoReason.BROKEN_VIDEO, message)

    def drain(self) -> Iterator[tuple[Picture, av.VideoFrame]]:
        """The frames that wait in the decoder. The next picture must be one where it can start."""
        try:
            frames = self._context.decode(None)
        except av.FFmpegError:
            frames = []
        yield from self._frames(frames)
        for index in list(self._outstanding):
            self._give_up(index)
        self._context.flush_buffers()

    def _frames(self, frames: list[av.VideoFrame]) -> Iterator[tuple[Picture, av.VideoFrame]]:
        for frame in frames:
            picture = None if frame.pts is None else self._outstanding.pop(frame.pts, None)
            if picture is None:
                continue
            if frame.is_corrupt:
                self._lose(picture)
                continue
            self._broken_run = 0
            yield picture, frame

    def _give_up(self, index: int) -> None:
        """Lose a picture for which the decoder has no frame."""
        picture = self._outstanding.pop(index, None)
        if picture is not None:
            self._lose(picture)
