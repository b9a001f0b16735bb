"""Opens an upload by its content type."""

from sluice.contract.video import VIDEO_TYPES, VideoReason
from video.source import FrameSource, SourceError
from video.sources.containers import DEMUXERS, ContainerSource
from video.sources.limits import ByteReader, SourceLimits
from video.sources.sampling import Sampling


def open_upload(
    reader: ByteReader, content_type: str, sampling: Sampling, limits: SourceLimits
) -> FrameSource:
    """A source of the frames of an upload. Raises SourceError for an unknown content type."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in DEMUXERS:
        return ContainerSource(reader, DEMUXERS[media_type], sampling, limits)
    message = f"content type {media_type!r} is not supported: send {', '.join(VIDEO_TYPES)}"
    raise SourceError(VideoReason.UNSUPPORTED_FORMAT, message)
