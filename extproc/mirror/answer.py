"""An answer of a model server."""

from collections.abc import Mapping
from dataclasses import dataclass

from extproc.breaker.outcomes import FAILURE_STATUSES
from sluice.contract.grpc import StatusCode
from sluice.contract.headers import GRPC_STATUS


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. `headers` have lower-case names, and those of trailers too.

    The body of a gRPC response has its length prefix.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def grpc_status(self) -> int | None:
        """The status of a gRPC call; None for another response."""
        text = self.headers.get(GRPC_STATUS)
        if text is None:
            return None
        return int(text) if text.isdecimal() and len(text) < 4 else StatusCode.UNKNOWN

    @property
    def failed(self) -> bool:
        """Whether the version has failed, as the breaker defines it."""
        return self.status >= 500 or self.grpc_status in FAILURE_STATUSES

    @property
    def ok(self) -> bool:
        """Whether the response has a result."""
        return self.status < 300 and self.grpc_status in (None, StatusCode.OK)
