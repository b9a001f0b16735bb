"""The exception for bodies that cannot be converted."""

from extproc.problem import problem
from sluice.contract.reasons import STATUS, Reason


class ConversionError(Exception):
    """A body cannot be converted.

    `reason` determines the HTTP status (`sluice.contract.reasons`). `field` names the place in the
    body, such as `inputs[0].shape`. `retry_after` is in seconds; it is set if too many conversions
    are waiting.
    """

    def __init__(
        self, reason: Reason, field: str, detail: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(reason, field, detail)
        self.reason = reason
        self.field = field
        self.detail = detail
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.field}: {self.detail}"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.reason]

    def problem(self, request_id: str = "") -> bytes:
        """The problem document for the client (see `extproc.problem`)."""
        return problem(
            self.status, self.reason, self.detail, field=self.field, request_id=request_id
        )


def bad_model_response(detail: str) -> ConversionError:
    """The error for a model server's response that does not conform to its protocol."""
    return ConversionError(Reason.BAD_MODEL_RESPONSE, "response", detail)
