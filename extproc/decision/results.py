"""The result of a decision: an admission or a refusal."""

from dataclasses import dataclass, field

from extproc.auth import ANONYMOUS, Identity
from extproc.convert import Converter
from extproc.policy.compiled import Target
from sluice.contract.reasons import STATUS, Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """The client gets an error response, and the request does not reach a model.

    `unknown_key_issuer` is set if the issuer's key set does not have the key that the token names.
    A new fetch of the key set may change the decision. `stage` (the stage that refused),
    `subject` (if known) and `cause` (why credentials are refused) are for logs and metrics.
    """

    reason: Reason
    detail: str
    headers: tuple[tuple[str, str], ...] = ()
    unknown_key_issuer: str | None = None
    stage: str = field(default="", compare=False)
    subject: str = field(default="", compare=False)
    cause: str = field(default="", compare=False)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.reason]


@dataclass(frozen=True, slots=True)
class Admission:
    """The request goes to `target`. `reason` says why this version was chosen."""

    target: Target
    reason: Reason
    canary: bool
    subject: str
    max_body: int
    converter: Converter | None = None
    """Converts the body for the target; None if the body passes unchanged."""
    identity: Identity = field(default=ANONYMOUS, compare=False)
    limit_headers: tuple[tuple[str, str], ...] = ()
    """Response headers with the state of the limits that apply to the request."""


Decision = Admission | Refusal
