"""Sources of video: from bytes of uploads, cameras and files to sampled frames."""

from video.sources.byte_queue import ByteQueue
from video.sources.file import open_file
from video.sources.limits import ByteReader, SourceLimits
from video.sources.rtsp import Credentials, open_rtsp
from video.sources.sampling import Sampling
from video.sources.upload import open_upload

__all__ = [
    "ByteQueue",
    "ByteReader",
    "Credentials",
    "Sampling",
    "SourceLimits",
    "open_file",
    "open_rtsp",
    "open_upload",
]
