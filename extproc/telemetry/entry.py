"""A finished request, as the access log and the metrics show it.

An entry holds no credentials: it has no request header except those that Sluice set, and its path
has no query.
"""

from dataclasses import dataclass
from typing import NamedTuple

MAX_OUTCOMES = 10_000
"""Bound of caches that are keyed by outcome. An outcome of a refusal contains its subject, so their
number has no natural bound."""


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


@dataclass(frozen=True, slots=True, eq=False)
class RequestOutcome:
    """The part of an entry that many requests share. Requests that end alike share one object."""

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


@dataclass(slots=True)
class AccessLogEntry:
    """One finished request.

    Text is empty and `upstream_us` is None if the request did not get that far. `start_seconds` and
    `start_micros` are the start time since the epoch.
    """

    outcome: RequestOutcome
    start_seconds: int
    start_micros: int
    path: str
    subject: str
    request_bytes: int
    response_bytes: int
    duration_us: int
    upstream_us: int | None
    request_id: str
    user_agent: str
    trace_id: str
