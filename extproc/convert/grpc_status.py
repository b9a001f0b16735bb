"""Maps the gRPC status of a model server to an HTTP status and a problem document."""

from collections.abc import Mapping
from urllib.parse import unquote

from extproc.problem import problem
from sluice.contract.grpc import HTTP_STATUS, StatusCode

_MAX_MESSAGE = 1024
"""Maximum characters of a model server's message in the problem document."""

_MAX_DIGITS = 10
"""Digits of a status code. gRPC defines codes up to 16."""


def grpc_code(headers: Mapping[str, str]) -> int | None:
    """The `grpc-status` of a response: None if it is missing, UNKNOWN if it is not a number."""
    value = headers.get("grpc-status")
    if value is None:
        return None
    # int() raises ValueError for more than 4300 digits.
    if value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return int(value)
    return StatusCode.UNKNOWN


def grpc_problem(code: int, headers: Mapping[str, str], request_id: str) -> tuple[int, str, bytes]:
    """HTTP status, reason and problem document of a gRPC error.

    `grpc-message` is percent-encoded (gRPC over HTTP/2). A code that gRPC does not define counts as
    UNKNOWN, so the number of reasons is bounded.
    """
    known = StatusCode(code) if code in HTTP_STATUS else StatusCode.UNKNOWN
    status, reason = HTTP_STATUS[known], f"model_{known.name.lower()}"
    message = unquote(headers.get("grpc-message", ""), errors="replace")[:_MAX_MESSAGE]
    return status, reason, problem(status, reason, message, request_id=request_id)
