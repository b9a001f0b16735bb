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


def problem_members(status: int, reason: str, detail: str, field: str = "") -> dict[str, object]:
    """The members of a problem document; `error`, `reason` and `field` are our extension members.

    `error` is the text of an error response in the Open Inference Protocol and in the V1 protocol,
    whose clients read no other member. `field` names the place in the request that is wrong; it is
    omitted if it is empty.
    """
    phrase = title(status)
    members: dict[str, object] = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "detail": detail,
        "error": f"{field}: {detail}" if field else detail or phrase,
        "reason": reason,
    }
    if field:
        members["field"] = field
    return members
