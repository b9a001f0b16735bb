"""Decides which finished requests count as successes or failures of a version. Pure.

A version fails if it refuses or resets a connection, times out or responds with an error. Actions
of a client or of the gateway do not count: one client must not open the breaker for all others.
"""

from typing import Protocol

from sluice.contract.grpc import StatusCode
from sluice.contract.local_replies import GATEWAY_REASONS

FAILURE_FLAGS = frozenset({"UF", "UC", "UR", "LR", "UT", "URX", "UH", "UPE", "UMSDR", "DT"})
"""Envoy's response flags of a failed version: no connection, reset, protocol error or timeout."""

TIMEOUT_FLAGS = frozenset({"UT", "DT", "UMSDR"})
"""Timeouts, which a client can also cause by reading its response slowly."""

RESET_FLAGS = frozenset({"UR"})
"""Resets by the server. Some servers reset a call when the client's own deadline has passed."""

FAILURE_STATUSES = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
"""gRPC statuses of a failed version: those that correspond to an HTTP status of 500 or above.

UNIMPLEMENTED is not one of them, because the client chooses the method. Statuses such as NOT_FOUND
are responses of a version that works; CANCELLED says nothing about the version.
"""

UNREADABLE_STATUSES = frozenset({StatusCode.UNKNOWN, StatusCode.INTERNAL})
"""Failure statuses that a server also sends for a request message that it cannot parse."""


class ReportedCall(Protocol):
    """The end of a gRPC call, as `extproc.telemetry.entry.GrpcOutcome` describes it."""

    @property
    def status(self) -> int | None:
        """The server's status; None if it sent none."""

    @property
    def validated(self) -> bool:
        """Whether the callout has validated the request messages."""

    @property
    def expired(self) -> bool:
        """Whether the call ended after the client's own deadline, and not with OK."""


class ReportedRequest(Protocol):
    """The end of a request, as `extproc.telemetry.entry.RequestOutcome` describes it."""

    @property
    def status(self) -> int:
        """The HTTP status; 0 if the client got no response."""

    @property
    def flags(self) -> str:
        """Envoy's response flags, separated by commas."""

    @property
    def reason(self) -> str:
        """The reason of the admission, the refusal or the local reply."""

    @property
    def version(self) -> str:
        """The version; empty if none was chosen."""

    @property
    def upstream(self) -> str:
        """The endpoint's address; empty if the request reached none."""

    @property
    def grpc(self) -> ReportedCall:
        """The gRPC call of a gRPC client."""


def succeeded(request: ReportedRequest, *, response_started: bool) -> bool | None:
    """Return whether the version succeeded; None if the request does not count."""
    if not request.version or not request.status:
        return None
    flags = FAILURE_FLAGS.intersection(request.flags.split(","))
    if flags:
        # A status of 500 or above is from Envoy: the client has received nothing from the server.
        slow_client = response_started and request.status < 500 and flags <= TIMEOUT_FLAGS
        client_deadline = request.grpc.expired and flags <= RESET_FLAGS
        return None if slow_client or client_deadline else False
    # No endpoint: the gateway refused the request, or the client left before it was sent.
    if not request.upstream or request.reason in GATEWAY_REASONS:
        return None
    if request.grpc.status:
        # Not the HTTP status: to a gRPC client of HTTP/1.1, Envoy sends 503 for every error.
        return _call_succeeded(request.grpc.status, request.grpc)
    return request.status < 500


def _call_succeeded(status: int, call: ReportedCall) -> bool | None:
    """Do the same as `succeeded` for a call that the server ended with a status other than OK."""
    if status not in FAILURE_STATUSES:
        return None if status == StatusCode.CANCELLED else True
    if call.expired or (status in UNREADABLE_STATUSES and not call.validated):
        return None
    return False
