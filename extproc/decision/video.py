"""Checks the requests for the video service: uploads, and watchers of streams.

A part of the stage `validate`. No byte of a video passes the callout, so only a declared length is
compared with the limit; the video service counts.
"""

import re
from typing import Final

from extproc.decision.context import DecisionContext
from extproc.decision.refusals import (
    MISSING_MESSAGE,
    NO_WEBSOCKET,
    check_length,
    method_not_allowed,
    unsupported_media_type,
)
from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.policy.compiled import ModelPolicy
from sluice.contract import names, paths
from sluice.contract.reasons import Reason
from sluice.contract.video import VIDEO_TYPES
from sluice.media_types import GRPC, is_grpc, media_type_name

UPLOAD: Final = paths.VIDEO_OPERATION.encode()

_PREFIX: Final = paths.VIDEO_GRPC_PREFIX.encode()
_METHODS: Final = frozenset((paths.VIDEO_ANALYZE.encode(), paths.VIDEO_WATCH.encode()))
_WATCH: Final = re.compile(UPLOAD + rb"/[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""The operation of watchers: streams have names as `sluice.config.values.Name`."""

_TYPES: Final = frozenset(each.encode() for each in VIDEO_TYPES)
_ACCEPTED: Final = ", ".join(VIDEO_TYPES)

_NO_VIDEO: Final = Refusal(Reason.MALFORMED_REQUEST, "the body is empty: send a video")
_BODY: Final = Refusal(Reason.MALFORMED_REQUEST, "this request must not have a body")
_ONLY_GRPC: Final = Refusal(
    Reason.UNSUPPORTED_MEDIA_TYPE,
    "this path accepts only gRPC calls: the content type must be application/grpc",
    (("accept", GRPC),),
)


def is_method_path(path: bytes) -> bool:
    """Whether the path is one of the video service in gRPC."""
    return path.startswith(_PREFIX)


def is_method(path: bytes) -> bool:
    """Whether the path is one of a method that clients may call."""
    return path.removeprefix(_PREFIX) in _METHODS


def is_operation(operation: bytes, version: bytes | None) -> bool:
    """Whether an operation of a model is one of the video service. `version`: that in the path.

    The config says which version analyses a stream, so the path of a watcher names none.
    """
    return operation == UPLOAD or (version is None and _WATCH.fullmatch(operation) is not None)


def check_call(model: ModelPolicy, request: Request, context: DecisionContext) -> Refusal | None:
    """Check a gRPC call of the video service."""
    assert model.max_video is not None
    context.video_cluster = names.VIDEO_GRPC_CLUSTER
    if request.method != b"POST":
        return method_not_allowed("POST")
    if not is_grpc(request.headers.get("content-type", b"")):
        return _ONLY_GRPC
    if not request.has_body:
        return MISSING_MESSAGE
    return check_length(model.max_video, request, _LIMIT)


def check_request(
    model: ModelPolicy, operation: bytes, request: Request, context: DecisionContext
) -> Refusal | None:
    """Check an upload or a watcher."""
    assert model.max_video is not None
    context.video_cluster = names.VIDEO_CLUSTER
    allowed = b"POST" if operation == UPLOAD else b"GET"
    if request.method != allowed:
        return method_not_allowed(allowed.decode())
    if request.is_websocket:
        return NO_WEBSOCKET
    if operation != UPLOAD:
        return _BODY if request.has_body else None
    if not request.has_body:
        return _NO_VIDEO
    return check_length(model.max_video, request, _LIMIT) or _check_media_type(request)


_LIMIT: Final = "video.max_bytes"


def _check_media_type(request: Request) -> Refusal | None:
    content_type = request.headers.get("content-type")
    if content_type is not None:
        media_type = media_type_name(content_type.decode("latin-1")).encode("latin-1")
        if media_type in _TYPES:
            return None
    return unsupported_media_type("the video", content_type, _ACCEPTED)
