"""Why a request for frames failed, from the gRPC status of the gateway or of the model server."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sluice.contract.grpc import StatusCode
from sluice.contract.video import VideoReason
from sluice.printable import printable

MAX_DETAIL: Final = 300
"""Characters of a message of another server in an event."""

MAX_RETRY_AFTER: Final = 300.0
"""Seconds. A longer `retry-after` is longer than any deadline."""

_MESSAGE_TOO_LARGE: Final = "received message larger than max"
"""Text of grpcio for a response above the limit of the client, with RESOURCE_EXHAUSTED."""

_ENDS_STREAM: Final = {
    StatusCode.UNAUTHENTICATED: VideoReason.CREDENTIALS_EXPIRED,
    StatusCode.PERMISSION_DENIED: VideoReason.FORBIDDEN,
    StatusCode.NOT_FOUND: VideoReason.UNKNOWN_MODEL,
}
"""Statuses that all further frames would get, too."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why frames have no result. `detail` is printable and bounded."""

    reason: VideoReason
    detail: str
    ends_stream: bool = False
    may_pass: bool = False
    """Whether a retry may succeed."""
    retry_after: float | None = None
    """Seconds after which the server asks for a retry."""


class InferenceError(Exception):
    """A request for frames failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


def failure_of(
    code: StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]]
) -> Failure:
    """The failure for a gRPC status.

    `metadata`: the headers and trailers of the response; none if there was no response.
    """
    fields = dict(metadata)
    detail = printable(details, MAX_DETAIL)
    if (reason := _ENDS_STREAM.get(code)) is not None:
        return Failure(reason, detail, ends_stream=True)
    if code is StatusCode.DEADLINE_EXCEEDED:
        return Failure(VideoReason.DEADLINE, "the model did not answer in time")
    retry_after = _seconds(fields.get("retry-after"))
    if code is StatusCode.RESOURCE_EXHAUSTED and _MESSAGE_TOO_LARGE not in details.lower():
        return Failure(VideoReason.REFUSED, detail, may_pass=True, retry_after=retry_after)
    if code is StatusCode.UNAVAILABLE:
        reason = VideoReason.MODEL_UNAVAILABLE if fields else VideoReason.GATEWAY_UNREACHABLE
        return Failure(reason, detail, may_pass=True, retry_after=retry_after)
    return Failure(VideoReason.MODEL_FAILED, detail or code.name)


def deadline_passed() -> Failure:
    """The failure of frames whose time is over before they are sent."""
    return Failure(VideoReason.DEADLINE, "the time of the frame was over before it was sent")


def _seconds(value: str | bytes | None) -> float | None:
    """The seconds of `retry-after` (RFC 9110 section 10.2.3). A date is ignored."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:10]), MAX_RETRY_AFTER)
