"""Decides which finished requests count as successes or failures of a version. Pure.

A version fails if it refuses or resets a connection, times out or responds with an error. Actions
of a client or of the gateway do not count: one client must not open the breaker for all others. A
response that the gateway cannot convert is the gateway's verdict, so it does not count either.
Before the request is complete, only a failed connection counts: every other failure may be the
server's reaction to a client that stops sending.
"""

from typing import Protocol

from sluice.contract.grpc import StatusCode
from sluice.contract.local_replies import GATEWAY_REASONS

CONNECTION_FLAGS = frozenset({"UF", "UH"})
"""Envoy's response flags of a version that cannot be reached. No client can cause them."""

RESET_FLAGS = frozenset({"UR"})
"""Resets by the server. Some servers reset a call when the client's own deadline has passed."""

DURATION_FLAGS = frozenset({"UT", "DT", "UMSDR"})
"""Timeouts of the whole response. A client can also cause them after the response has started: by
reading it slowly, or by a request for a long response."""

FAILURE_FLAGS = DURATION_FLAGS | RESET_FLAGS | {"UC", "LR", "UPE", "SI"}
"""Other response flags of a failed version: reset, protocol error or timeout.

URX (the retry limit) is not one of them: it comes with the flag or the status of the last attempt.
"""

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

SWITCHING_PROTOCOLS = 101
"""HTTP status of an accepted WebSocket."""

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


class ReportedProgress(Protocol):
    """How far a request got, as `extproc.telemetry.entry.Progress` describes it."""

    @property
    def request_received(self) -> bool:
        """Whether Envoy received the whole request."""

    @property
    def received_first(self) -> bool:
        """Whether Envoy received the whole request before the response began."""

    @property
    def response_started(self) -> bool:
        """Whether the server sent a part of its response."""

    @property
    def response_short(self) -> bool:
        """Whether the response is incomplete, although no client could hold it back."""


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


def succeeded(request: ReportedRequest, progress: ReportedProgress) -> bool | None:
    """Return whether the version succeeded; None if the request does not count."""
    if not request.version or not request.status:
        return None
    if request.status == SWITCHING_PROTOCOLS:
        # The end of a tunnel is no failure: servers close a WebSocket's connection to end it.
        return True
    flags = set(request.flags.split(","))
    if not flags.isdisjoint(CONNECTION_FLAGS):
        return False
    flags &= FAILURE_FLAGS
    if flags:
        return None if _client_may_cause(flags, request, progress) else False
    # No endpoint: the gateway refused the request, or the client left before it was sent.
    if not request.upstream or request.reason in GATEWAY_REASONS:
        return None
    if request.grpc.status:
        # Not the HTTP status: to a gRPC client of HTTP/1.1, Envoy sends 503 for every error.
        failed = _call_failed(request.grpc.status, request.grpc)
        received = progress.request_received
    else:
        failed = request.status >= 500
        received = progress.received_first
    # Servers also respond with an error to a client that does not send the rest of its request.
    return None if failed is None or (failed and not received) else not failed


def _client_may_cause(
    flags: set[str], request: ReportedRequest, progress: ReportedProgress
) -> bool:
    """Return whether a client may have caused these flags of `FAILURE_FLAGS`."""
    if not progress.request_received or (request.grpc.expired and flags <= RESET_FLAGS):
        return True
    # A status of 500 or above is from Envoy: the client has received nothing from the server.
    if not progress.response_started or request.status >= 500:
        return False
    # Some servers reset a connection on which the client does not read its response.
    return flags <= DURATION_FLAGS or not progress.response_short


def _call_failed(status: int, call: ReportedCall) -> bool | None:
    """Return whether a status other than OK is a failure; None if it does not count."""
    if status not in FAILURE_STATUSES:
        return None if status == StatusCode.CANCELLED else False
    if call.expired or (status in UNREADABLE_STATUSES and not call.validated):
        return None
    return True
