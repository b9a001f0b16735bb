"""Problem documents (RFC 9457), the body of every refusal by the callout or by Envoy."""

from http import HTTPStatus
from typing import Final

MEDIA_TYPE: Final = "application/problem+json"

_TITLES = {413: "Content Too Large", 422: "Unprocessable Content", 499: "Client Closed Request"}
"""Titles that `HTTPStatus` lacks: RFC 9110 renamed 413 and 422 (in Python from 3.13), and nginx
defines 499."""


def title(status: int) -> str:
    """The title of an HTTP status (RFC 9110 section 15)."""
    if status in _TITLES:
        return _TITLES[status]
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def problem_members(status: int, reason: str, detail: str) -> dict[str, object]:
    """The members that every problem document has; `reason` is our extension member."""
    return {
        "type": "about:blank",
        "title": title(status),
        "status": status,
        "detail": detail,
        "reason": reason,
    }
