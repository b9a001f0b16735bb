"""Reasons for which a video stream or the analysis of a frame fails."""

from enum import StrEnum
from typing import Final

VIDEO_TYPES: Final = (
    "image/jpeg",
    "multipart/mixed",
    "multipart/x-mixed-replace",
    "video/h264",
    "video/h265",
    "video/hevc",
    "video/mjpeg",
    "video/mp2t",
    "video/mp4",
    "video/x-motion-jpeg",
)
"""Media types of uploads, without parameters. `image/jpeg` is a sequence of JPEG images."""


MAX_REPORTED: Final = 2000
"""Streams in a report of a worker: all cameras of a config, and as many uploads."""


class VideoReason(StrEnum):
    """Machine-readable reasons of the video service."""

    # Why a source delivers no (more) frames.
    UNREACHABLE = "unreachable"
    WRONG_CREDENTIALS = "wrong_credentials"
    STREAM_NOT_FOUND = "stream_not_found"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNSUPPORTED_CODEC = "unsupported_codec"
    NO_VIDEO = "no_video"
    BROKEN_VIDEO = "broken_video"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_FRAMES = "too_many_frames"
    TOO_LONG = "too_long"
    IDLE = "idle"
    CLIENT_LEFT = "client_left"
    STOPPED = "stopped"

    # Why a frame has no result.
    BROKEN_FRAME = "broken_frame"
    DEADLINE = "deadline"
    MODEL_FAILED = "model_failed"
    MODEL_UNAVAILABLE = "model_unavailable"
    REFUSED = "refused"
    GATEWAY_UNREACHABLE = "gateway_unreachable"

    # Why a whole stream ends: the gateway refuses its requests.
    CREDENTIALS_EXPIRED = "credentials_expired"
    FORBIDDEN = "forbidden"
    UNKNOWN_MODEL = "unknown_model"

    # Why a call of a client is refused.
    INVALID_OPTION = "invalid_option"
    NOT_ACCEPTABLE = "not_acceptable"
    NOT_THROUGH_GATEWAY = "not_through_gateway"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_STREAM = "unknown_stream"
    OTHER_REPLICA = "other_replica"
    TOO_MANY_UPLOADS = "too_many_uploads"
    TOO_MANY_WATCHERS = "too_many_watchers"
    NOT_READY = "not_ready"

    INTERNAL_ERROR = "internal_error"


class DropReason(StrEnum):
    """Why a sampled frame was not analysed."""

    OVERLOAD = "overload"
    """Inference was slower than the source, and a newer frame replaced it."""
    SINK = "sink"
    """The buffer of a sink was full."""
    END = "end"
    """The stream ended before the frame got a slot."""
