"""A finished request, as the access log and the metrics show it.

An entry contains no credentials: its path has no query, and of the request headers it contains only
the user agent, the request id, the trace id and headers that Sluice set.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sluice.contract.names import Placement

MAX_OUTCOMES = 10_000
"""Maximum entries of caches that are keyed by outcome. The addresses of model servers and the
policies change, so the number of outcomes has no natural limit."""


class GrpcOutcome(NamedTuple):
    """How the call of a gRPC client ended.

    `status`: the model server's status; None if the model server sent none.
    `validated`: the callout has validated the request messages.
    `expired`: the call failed, and only after the client's deadline had passed.
    """

    status: int | None
    validated: bool
    expired: bool


NO_GRPC_OUTCOME = GrpcOutcome(None, validated=False, expired=False)


class Progress(NamedTuple):
    """How far a request and its response got.

    `request_received`: Envoy received the whole request.
    `received_first`: Envoy received the whole request before the response began.
    `response_started`: the model server sent at least a part of its response.
    `response_short`: the response is incomplete, and so short that Envoy buffers all of it. A
    client that does not read cannot be the reason.
    """

    request_received: bool
    received_first: bool
    response_started: bool
    response_short: bool


@dataclass(frozen=True, slots=True, eq=False)
class RequestOutcome:
    """The part of an entry that is the same for many requests. Such requests share one object.

    `placement` is where the request was decided. `admission` is the reason of its admission, also
    if it failed later. `cause` says why credentials were refused. `rule` is the limit rule or the
    config key that refused the request. Text is empty if it is unknown.
    """

    method: str
    protocol: str
    status: int
    flags: str
    reason: str
    model: str
    version: str
    canary: bool
    upstream: str
    grpc: GrpcOutcome = NO_GRPC_OUTCOME
    placement: Placement | Literal[""] = ""
    admission: str = ""
    cause: str = ""
    rule: str = ""
    grpc_error: int | None = None
    """HTTP status that stands for the error of a gRPC call; its own status is 200."""


class AccessLogEntry(NamedTuple):
    """One finished request.

    If the request did not get far enough for a field, text is empty and `upstream_us` is None.
    `start_ns` is the start time in nanoseconds since the epoch. `details` are the place in the body
    that is not valid, the detail of another refusal, or Envoy's `response_code_details` of a
    request that Envoy ended.
    """

    outcome: RequestOutcome
    progress: Progress
    start_ns: int
    duration_us: int
    upstream_us: int | None
    request_bytes: int
    response_bytes: int
    details: str
    path: str
    subject: str
    request_id: str
    user_agent: str
    trace_id: str
