"""Refusals that both the decision and the checks of bodies use."""

from extproc.decision.request import Request
from extproc.decision.results import Refusal
from extproc.memory_budget import RETRY_AFTER
from sluice.contract.headers import CONTENT_LENGTH
from sluice.contract.reasons import Reason
from sluice.printable import printable

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


_MAX_QUOTED = 90
"""Characters of a header that a detail quotes."""

_MAX_LENGTH_DIGITS = 19
"""Maximum digits of `content-length`, without zeros in front of more digits: enough for a signed
64-bit integer."""


def body_too_large(max_body: int, size: int | None = None, rule: str = "max_body") -> Refusal:
    """The refusal of a body over the limit `rule`. `size` is its declared length."""
    declared = "" if size is None else f": it has {size}"
    detail = f"the body is larger than {max_body} bytes{declared}"
    return Refusal(Reason.BODY_TOO_LARGE, detail, rule=rule)


def check_length(max_body: int, request: Request, rule: str = "max_body") -> Refusal | None:
    """The refusal of a request whose declared length exceeds the limit `rule`, or is no length."""
    length = request.headers.get(CONTENT_LENGTH)
    if length is None:
        return None
    if len(length) > _MAX_LENGTH_DIGITS:
        length = length.lstrip(b"0") or b"0"
    if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
        return Refusal(Reason.MALFORMED_REQUEST, "content-length is not a number of bytes")
    size = int(length)
    return body_too_large(max_body, size, rule) if size > max_body else None


def method_not_allowed(allow: str) -> Refusal:
    """The refusal of a method. `allow` is the value of the header with the allowed ones."""
    detail = f"the allowed methods are {allow}"
    return Refusal(Reason.METHOD_NOT_ALLOWED, detail, (("allow", allow),))


def unsupported_media_type(what: str, content_type: bytes | None, accepted: str) -> Refusal:
    """The refusal of a media type. `what` accepts the types `accepted`, which become `accept` (RFC
    9110 section 15.5.16).
    """
    came = "a body without content-type"
    if content_type is not None:
        came = f"'{printable(content_type.decode('latin-1'), _MAX_QUOTED)}'"
    detail = f"{what} does not accept {came}; it accepts {printable(accepted, _MAX_QUOTED)}"
    return Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, detail, (("accept", accepted),))
