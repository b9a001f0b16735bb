"""Refusals as clients see them: JSON problems (RFC 9457), or gRPC statuses for gRPC callers."""

import json
from http import HTTPStatus

from extproc.decision import Refusal
from extproc.rpc import StatusCode

MEDIA_TYPE = "application/problem+json"

_GRPC = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    405: StatusCode.UNIMPLEMENTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    415: StatusCode.INVALID_ARGUMENT,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    503: StatusCode.UNAVAILABLE,
}


def problem_body(refusal: Refusal, request_id: bytes | None = None) -> bytes:
    """The body, in UTF-8. `instance` is the request's id, which logs have too."""
    members: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(refusal.status).phrase,
        "status": refusal.status,
        "detail": refusal.detail,
        "reason": refusal.reason,
    }
    if request_id is not None:
        members["instance"] = f"urn:request:{request_id.decode('latin-1')}"
    return json.dumps(members).encode()


def grpc_status(refusal: Refusal) -> StatusCode:
    """The status for a caller that speaks gRPC (grpc/doc/http-grpc-status-mapping.md)."""
    return _GRPC.get(refusal.status, StatusCode.UNKNOWN)
