"""Refusals of the HTTP servers: responses with a problem document (RFC 9457)."""

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from sluice.contract.problem import MEDIA_TYPE, problem_members


def refusal(
    status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with a problem document."""
    members = problem_members(status, reason, detail)
    return JSONResponse(members, status, headers, media_type=MEDIA_TYPE)
