"""Answers that Envoy gives by itself (local replies): their status, reason and text.

Two readers must agree: Envoy, whose `local_reply_config` writes the client's problem document, and
the callout, which reads `response_code_details` from the access log report. Both walk the same
rows, in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluice.contract.reasons import DECISION_REFUSALS, Reason

VIA_UPSTREAM: Final = "via_upstream"
"""`response_code_details` of a response that a model server gave."""

CALLOUT_DETAILS: Final = "sluice"
"""`response_code_details` of a response that the callout gave begin with this."""

_CALLOUT_PREFIX: Final = f"{CALLOUT_DETAILS}:"


def callout_details(reason: str, subject: str = "") -> str:
    """`response_code_details` of a refusal by the callout: the reason, and the subject if known."""
    return f"{_CALLOUT_PREFIX}{reason}:{subject}" if subject else f"{_CALLOUT_PREFIX}{reason}"


def split_callout_details(details: str) -> tuple[str, str] | None:
    """Reason and subject of a refusal by the callout; None for other details."""
    if not details.startswith(_CALLOUT_PREFIX):
        return None
    reason, _, subject = details.removeprefix(_CALLOUT_PREFIX).partition(":")
    return reason, subject


@dataclass(frozen=True, slots=True)
class LocalReply:
    """One row. It applies where `response_code_details` match and the status is not `unless`.

    `prefixes` are beginnings of the details and `contains` is a part of them
    (source/common/stream_info/utility.h, ResponseCodeDetailValues). `status` is what the client
    gets.
    """

    reason: Reason
    status: int
    detail: str
    prefixes: tuple[str, ...] = ()
    contains: str = ""
    unless: int | None = None

    def matches(self, details: str, status: int) -> bool:
        """Whether the row applies to a response with these details and this status."""
        if status == self.unless:
            return False
        if self.contains:
            return self.contains in details
        return details.startswith(self.prefixes)


LOCAL_REPLIES: Final = (
    LocalReply(
        Reason.RATE_LIMITED,
        429,
        "The gateway's request rate limit is exceeded.",
        ("local_rate_limited",),
    ),
    LocalReply(
        Reason.DECISION_UNAVAILABLE,
        503,
        "The gateway could not decide on this request.",
        ("ext_proc",),
    ),
    LocalReply(
        Reason.NO_HEALTHY_ENDPOINT,
        503,
        "No endpoint of the model is healthy.",
        ("no_healthy_upstream",),
    ),
    LocalReply(
        Reason.UNKNOWN_SERVICE, 503, "The model is not available here.", ("cluster_not_found",)
    ),
    LocalReply(
        Reason.OVERLOADED,
        503,
        "The model has as many requests as its connection pool allows.",
        contains="overflow",
    ),
    LocalReply(
        Reason.MODEL_TIMEOUT,
        504,
        "The model did not answer in time.",
        ("response_timeout", "upstream_per_try_timeout", "max_duration_timeout"),
    ),
    LocalReply(
        Reason.IDLE_TIMEOUT,
        504,
        "The model sent nothing for too long.",
        ("stream_idle_timeout",),
        # Envoy answers 408 where the client has not sent its whole request: not the model's doing.
        unless=408,
    ),
    LocalReply(
        Reason.MODEL_UNREACHABLE,
        503,
        "The connection to the model failed.",
        ("upstream_reset_before_response_started",),
    ),
)
"""Rows that apply by `response_code_details`. The first that matches counts."""

LOCAL_REPLIES_BY_STATUS: Final[Mapping[int, tuple[Reason, str]]] = {
    400: (Reason.BAD_REQUEST, "The request is not valid HTTP for this gateway."),
    403: (Reason.FORBIDDEN, "The gateway does not accept this request."),
    404: (Reason.NOT_FOUND, "There is nothing at this address."),
    408: (Reason.REQUEST_TIMEOUT, "The request was not sent in time."),
    413: (Reason.BODY_TOO_LARGE, "The body is too large."),
    426: (Reason.UPGRADE_REQUIRED, "The gateway expects another protocol."),
    431: (Reason.HEADERS_TOO_LARGE, "The request's headers are too large."),
    500: (Reason.GATEWAY_ERROR, "The gateway failed."),
    502: (Reason.BAD_GATEWAY, "The model's response is not valid HTTP."),
    503: (Reason.UNAVAILABLE, "The gateway cannot serve this request now."),
    504: (Reason.TIMEOUT, "There was no answer in time."),
}
"""Reason and text of local replies that no row of `LOCAL_REPLIES` names."""

GATEWAY_REASONS: Final = frozenset(
    {
        *DECISION_REFUSALS,
        Reason.DECISION_UNAVAILABLE,
        *(reason for reason, _ in LOCAL_REPLIES_BY_STATUS.values()),
    }
)
"""Reasons of responses that say nothing about the model server, even if it was called."""


def local_reply_reason(details: str, status: int) -> Reason:
    """The reason of a response that Envoy gave by itself, as its client reads it.

    A client that left gets no response; its reason is only in the log.
    """
    for reply in LOCAL_REPLIES:
        if reply.matches(details, status):
            return reply.reason
    if details.startswith("downstream"):
        return Reason.CLIENT_LEFT
    return LOCAL_REPLIES_BY_STATUS.get(status, (Reason.GATEWAY_ERROR, ""))[0]
