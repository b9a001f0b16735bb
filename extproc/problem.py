"""Refusals as clients see them: JSON problems (RFC 9457), or gRPC statuses for gRPC callers."""

import orjson

from extproc.rpc import StatusCode

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""RFC 9110 section 15, whose names Python's `HTTPStatus` has from 3.13 on; 499 is nginx's."""

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


def problem(
    status: int, reason: str, detail: str, *, field: str = "", request_id: str = ""
) -> bytes:
    """A problem document (RFC 9457), in UTF-8, with the extension members `reason` and `field`.

    `field` names the place in the request that is wrong. `instance` is the request's id, which
    logs have too. Both are left out where they are empty.
    """
    members: dict[str, object] = {
        "type": "about:blank",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": _printable(detail),
        "reason": reason,
    }
    if field:
        members["field"] = _printable(field)
    if request_id:
        members["instance"] = f"urn:request:{request_id}"
    return orjson.dumps(members)


def grpc_status(status: int) -> StatusCode:
    """The status for a caller that speaks gRPC (grpc/doc/http-grpc-status-mapping.md)."""
    return _GRPC.get(status, StatusCode.UNKNOWN)


def _printable(text: str) -> str:
    # What a client sent can stand in a detail; lone surrogates have no JSON form.
    return text.encode(errors="replace").decode()
