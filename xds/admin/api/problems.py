"""Refusals of the admin API: problem documents (RFC 9457) with a reason from one list."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from sluice.config import ConfigError, Problem
from sluice.contract.problem import MEDIA_TYPE, title

MAX_DETAIL: Final = 500
"""Characters of a detail. What it quotes of a request is much shorter."""


class Reason(StrEnum):
    """The machine-readable reason of a refusal."""

    MALFORMED_REQUEST = "malformed_request"
    INVALID_QUERY = "invalid_query"
    INVALID_BODY = "invalid_body"
    ROLE_REQUIRED = "role_required"
    NOT_FOUND = "not_found"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_CANARY = "unknown_canary"
    UNKNOWN_ENDPOINT = "unknown_endpoint"
    UNKNOWN_REVISION = "unknown_revision"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    REQUEST_TIMEOUT = "request_timeout"
    FILE_SOURCE = "file_source"
    NO_STEPS = "no_steps"
    CONFLICT = "conflict"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID_CONFIG = "invalid_config"
    INTERNAL_ERROR = "internal_error"
    EXPLAIN_UNAVAILABLE = "explain_unavailable"
    STRICT_UNAVAILABLE = "strict_unavailable"
    TOO_MANY_REQUESTS = "too_many_requests"
    STORE_UNAVAILABLE = "store_unavailable"


REASONS: Final[Mapping[Reason, tuple[int, str]]] = {
    Reason.MALFORMED_REQUEST: (400, "A header or the path is malformed, such as `If-Match`."),
    Reason.INVALID_QUERY: (400, "A query parameter is unknown, missing, repeated or invalid."),
    Reason.INVALID_BODY: (400, "The body does not have the documented form."),
    Reason.ROLE_REQUIRED: (403, "The operation or a query parameter needs another role."),
    Reason.NOT_FOUND: (404, "There is no such resource."),
    Reason.UNKNOWN_MODEL: (404, "The config has no such model."),
    Reason.UNKNOWN_VERSION: (404, "The model has no such version."),
    Reason.UNKNOWN_CANARY: (404, "The version is no canary of the model."),
    Reason.UNKNOWN_ENDPOINT: (404, "The version has no endpoint with this address."),
    Reason.UNKNOWN_REVISION: (404, "The history has no revision with this number."),
    Reason.METHOD_NOT_ALLOWED: (405, "The resource does not have this method; see `Allow`."),
    Reason.NOT_ACCEPTABLE: (406, "`Accept` names no media type in which the resource exists."),
    Reason.REQUEST_TIMEOUT: (408, "The body did not arrive in time."),
    Reason.FILE_SOURCE: (
        409,
        "The config comes from a file, so only the file can change it. Start the control plane with"
        " `--store` to change the config by API.",
    ),
    Reason.NO_STEPS: (409, "The canary has no steps that could be stopped or go on."),
    Reason.CONFLICT: (
        412,
        "The config has changed: `If-Match` names another revision than the head, whose number is "
        "the member `head`.",
    ),
    Reason.BODY_TOO_LARGE: (413, "The body is larger than 16 MiB."),
    Reason.UNSUPPORTED_MEDIA_TYPE: (
        415, "The body has another content type, or is encoded; see `Accept` of the response."
    ),
    Reason.INVALID_CONFIG: (422, "The config would not be valid; see the member `errors`."),
    Reason.INTERNAL_ERROR: (500, "The control plane failed; its log has the cause."),
    Reason.EXPLAIN_UNAVAILABLE: (
        503, "The control plane runs without the package `extproc`, which explains decisions."
    ),
    Reason.STRICT_UNAVAILABLE: (
        503, "The real Envoy cannot check the config: it is not installed here, or gave no verdict."
    ),
    Reason.TOO_MANY_REQUESTS: (
        503, "Too many requests, or too many large bodies, are in progress; try again later."
    ),
    Reason.STORE_UNAVAILABLE: (503, "The store of the history does not respond; try again later."),
}  # fmt: skip
"""The status of each reason, and when it is given."""


class ProblemError(Exception):
    """A refusal. `members`: further members of the document; `headers` of the response."""

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail
        self.members, self.headers = members or {}, headers

    def response(self) -> Response:
        """The response with the problem document."""
        status, _ = REASONS[self.reason]
        content = {
            "type": "about:blank",
            "title": title(status),
            "status": status,
            "detail": self.detail[:MAX_DETAIL],
            "reason": self.reason,
            **self.members,
        }
        return JSONResponse(content, status, self.headers, media_type=MEDIA_TYPE)


class ConfigErrorItem(BaseModel):
    """One error of a config.

    `pointer` is the JSON Pointer (RFC 6901) of the key in the whole config, `key` is its path as
    text. `line` is the line in the body, if the body is the whole config; otherwise null.
    """

    pointer: str
    line: int | None
    key: str
    detail: str


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457). `errors` comes with `invalid_config`, `head` with `conflict`."""

    type: str
    title: str
    status: int
    detail: str
    reason: str = Field(description="A reason of the list.")
    errors: list[ConfigErrorItem] | None = None
    head: int | None = Field(None, description="Number of the last revision.")


def invalid_config(error: ConfigError, *, lines: bool) -> ProblemError:
    """The refusal of a config that is not valid. `lines`: whether the body has the lines."""
    errors = [_item(problem, lines).model_dump() for problem in error.problems]
    return ProblemError(Reason.INVALID_CONFIG, _summary(error.problems), members={"errors": errors})


def _item(problem: Problem, lines: bool) -> ConfigErrorItem:
    line = problem.line if lines and problem.line else None
    return ConfigErrorItem(
        pointer=problem.pointer, line=line, key=problem.key, detail=problem.message
    )


def _summary(problems: Sequence[Problem]) -> str:
    first = problems[0]
    text = f"{first.key}: {first.message}" if first.key else first.message
    more = len(problems) - 1
    return f"{text} (and {more} more)" if more else text
