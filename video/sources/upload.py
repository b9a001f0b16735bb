"""Opens an upload by its content type."""

from typing import Final

from sluice.contract.video import VIDEO_TYPES, VideoReason
from sluice.media_types import parse_media_type
from video.source import FrameSource, SourceError
from video.sources.containers import DEMUXERS, ContainerSource
from video.sources.limits import ByteReader, SourceLimits
from video.sources.motion_jpeg import MotionJpegSource, MultipartImages, SequenceImages
from video.sources.sampling import Sampling

MAX_BOUNDARY: Final = 200
"""Characters. RFC 2046 allows 70, and some cameras write more."""

MAX_CONTENT_TYPE: Final = 1000
"""Characters. Over gRPC it comes in a message, and parsing takes time for each character."""

_MULTIPART: Final = ("multipart/x-mixed-replace", "multipart/mixed")
_SEQUENCES: Final = ("image/jpeg", "video/mjpeg", "video/x-motion-jpeg")


def open_upload(
    reader: ByteReader, content_type: str, sampling: Sampling, limits: SourceLimits
) -> FrameSource:
    """A source of the frames of an upload. Raises SourceError for an unsupported content type."""
    if len(content_type) > MAX_CONTENT_TYPE:
        message = f"the content type has more than {MAX_CONTENT_TYPE} characters"
        raise SourceError(VideoReason.UNSUPPORTED_FORMAT, message)
    media = parse_media_type(content_type)
    if media.name in DEMUXERS:
        return ContainerSource(reader, DEMUXERS[media.name], sampling, limits)
    if media.name in _SEQUENCES:
        return MotionJpegSource(reader, SequenceImages(), sampling, limits)
    if media.name in _MULTIPART:
        images = MultipartImages(_boundary(media.parameters.get("boundary", "")))
        return MotionJpegSource(reader, images, sampling, limits)
    message = f"content type {media.name[:80]!r} is no video: send {', '.join(VIDEO_TYPES)}"
    raise SourceError(VideoReason.UNSUPPORTED_FORMAT, message)


def _boundary(boundary: str) -> str:
    """Check the boundary of a multipart body. Raises SourceError."""
    if not boundary.isascii() or not 0 < len(boundary.strip("-")) <= MAX_BOUNDARY:
        message = f"the content type needs a boundary of 1 to {MAX_BOUNDARY} ASCII characters"
        raise SourceError(VideoReason.UNSUPPORTED_FORMAT, message)
    return boundary
