"""The one exception that conversion raises, and the problem document a client gets for it."""

from extproc.problem import problem


class ConversionError(Exception):
    """A payload that cannot be converted, as the client is told.

    `status` is 400 (malformed), 413 (too large), 415 (not of a type that is taken here), 422
    (well-formed, and not what the model takes), 502 (the model server's answer cannot be read) or
    503 (too many conversions are waiting; `retry_after` seconds is then set).
    `reason` is machine-readable; `field` names the place, such as `inputs[0].shape`.
    """

    def __init__(
        self, status: int, reason: str, field: str, detail: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(status, reason, field, detail)
        self.status = status
        self.reason = reason
        self.field = field
        self.detail = detail
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.field}: {self.detail}"

    def problem(self, request_id: str = "") -> bytes:
        """What the client of this request is told (see `extproc.problem`)."""
        return problem(
            self.status, self.reason, self.detail, field=self.field, request_id=request_id
        )


def malformed(reason: str, field: str, detail: str) -> ConversionError:
    """400: the bytes are not what their type says."""
    return ConversionError(400, reason, field, detail)


def too_large(reason: str, field: str, detail: str) -> ConversionError:
    """413: a bound was crossed."""
    return ConversionError(413, reason, field, detail)


def unsupported(reason: str, field: str, detail: str) -> ConversionError:
    """415: a media type, or content coding, that is not taken here."""
    return ConversionError(415, reason, field, detail)


def unfitting(reason: str, field: str, detail: str) -> ConversionError:
    """422: well-formed, and not what the model declares."""
    return ConversionError(422, reason, field, detail)


def unreadable(detail: str) -> ConversionError:
    """502: the model server's answer is not what its protocol says."""
    return ConversionError(502, "bad_model_response", "response", detail)
