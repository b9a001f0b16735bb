"""The exception for bodies that cannot be converted, and the texts that quote a body in it."""

from collections.abc import Sequence

from extproc.problem import problem
from sluice.contract.reasons import STATUS, Reason

_MAX_FIELD = 160
_MAX_DETAIL = 320
"""Characters of an error's texts. Names of a declaration can be long too."""

_MAX_SIZES = 40
"""Sizes of a shape that an error quotes before it is cut."""


class ConversionError(Exception):
    """A body cannot be converted.

    `reason` determines the HTTP status (`sluice.contract.reasons`). `field` names the place in the
    body, such as `inputs[0].shape`. `retry_after` is in seconds; it is set if too many conversions
    are waiting.
    """

    def __init__(
        self, reason: Reason, field: str, detail: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = _printable(shortened(field, _MAX_FIELD))
        self.detail = shortened(detail, _MAX_DETAIL)
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


def _printable(field: str) -> str:
    """The place with `?` for characters of a client's name that need an escape in JSON or a log."""
    if field.isprintable():
        return field
    return "".join([each if each.isprintable() else "?" for each in field])


def shortened(text: str, size: int) -> str:
    """The text, cut to `size` characters."""
    return text if len(text) <= size else f"{text[: size - 3]}..."


def quoted(text: str) -> str:
    """The begin of a text as a literal, for an error. `repr` of a whole body takes long."""
    return f"{text[:40]!r}"


def shape_text(shape: Sequence[int]) -> str:
    """A shape for an error, cut to 80 characters."""
    return shortened(str(list(shape[:_MAX_SIZES])), 80)


def response_too_large(detail: str) -> ConversionError:
    """The error for a model server's response that takes too much memory to convert."""
    return ConversionError(Reason.RESPONSE_TOO_LARGE, "response", detail)


def bad_model_response(detail: str) -> ConversionError:
    """The error for a model server's response that does not conform to its protocol."""
    return ConversionError(Reason.BAD_MODEL_RESPONSE, "response", detail)
