"""Why a call of a client is refused, as a status of HTTP and of gRPC."""

from collections.abc import Mapping
from typing import Final

from protos.video_pb2 import AnalysisResult
from sluice.contract.problem import problem_members
from sluice.contract.video import VideoReason

RETRY_AFTER: Final = 5
"""Seconds after which a client may try again while the service has no room."""

_STATUS: Final[Mapping[str, int]] = {
    VideoReason.UNSUPPORTED_FORMAT: 415,
    VideoReason.UNSUPPORTED_CODEC: 415,
    VideoReason.NO_VIDEO: 422,
    VideoReason.BROKEN_VIDEO: 422,
    VideoReason.TOO_MANY_PIXELS: 413,
    VideoReason.TOO_MANY_BYTES: 413,
    VideoReason.TOO_MANY_FRAMES: 413,
    VideoReason.TOO_LONG: 413,
    VideoReason.IDLE: 408,
    VideoReason.STOPPED: 503,
    VideoReason.CREDENTIALS_EXPIRED: 401,
    VideoReason.FORBIDDEN: 403,
    VideoReason.UNKNOWN_MODEL: 404,
}
"""Status of an upload that ends before its first result. Otherwise 500."""

_ENDS: Final = (
    VideoReason.CREDENTIALS_EXPIRED, VideoReason.FORBIDDEN, VideoReason.UNKNOWN_MODEL
)  # fmt: skip
"""Reasons of a failed frame with which the upload ends."""


class RefusedError(Exception):
    """A call is refused. `status`: of HTTP. `field`: the place in the request that is wrong."""

    def __init__(self, status: int, reason: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.field = field

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {"retry-after": str(RETRY_AFTER)} if self.status == 503 else {}

    @property
    def members(self) -> dict[str, object]:
        """The members of the problem document."""
        return problem_members(self.status, self.reason, self.detail, self.field)


def refused_upload(reason: str, detail: str) -> RefusedError:
    """The refusal of an upload that ends with this reason before its first result."""
    return RefusedError(_STATUS.get(reason, 500), reason, detail)


def check_first(event: AnalysisResult) -> None:
    """Raise RefusedError if the first event of an upload says that it has ended early."""
    if event.end.reason:
        raise refused_upload(event.end.reason, event.end.detail)
    if event.failure.reason in _ENDS:
        raise refused_upload(event.failure.reason, event.failure.detail)
