"""Refusals that both the decision and the checks of bodies use."""

from extproc.decision.results import Refusal
from extproc.memory_budget import RETRY_AFTER
from sluice.contract.reasons import Reason

MISSING_MESSAGE = Refusal(Reason.MALFORMED_REQUEST, "the gRPC call has no message")
"""A server would wait for the message until the deadline, which would count as its failure."""

NO_WEBSOCKET = Refusal(Reason.MALFORMED_REQUEST, "this path has no WebSocket")
"""The refusal of an upgrade with a method that is allowed without the upgrade."""

MEMORY_EXHAUSTED = Refusal(
    Reason.MEMORY_EXHAUSTED,
    "the gateway has no memory left for the body",
    (("retry-after", str(RETRY_AFTER)),),
    rule="callout.max_memory",
)

MESSAGE_TOO_LARGE = Refusal(
    Reason.BODY_TOO_LARGE,
    "the body is larger than the memory of a gateway worker",
    rule="callout.max_memory",
)
"""A body that `requests.max_body` allows, but `callout.max_memory` does not."""

RESPONSE_TOO_LARGE = Refusal(
    Reason.RESPONSE_TOO_LARGE,
    "the model's response is larger than the memory of a gateway worker",
    rule="callout.max_memory",
)
"""The same for a response and `max_response`."""


def body_too_large(max_body: int, size: int | None = None) -> Refusal:
    """The refusal of a body over the model's limit. `size` is its declared length."""
    declared = "" if size is None else f": it has {size}"
    detail = f"the body is larger than {max_body} bytes{declared}"
    return Refusal(Reason.BODY_TOO_LARGE, detail, rule="max_body")
