"""The result of a decision: an admission or a refusal."""

import dataclasses
from dataclasses import dataclass

from extproc.auth import ANONYMOUS, Identity
from extproc.convert import Converter
from extproc.policy.compiled import Target
from sluice.contract.reasons import STATUS, Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """The client gets an error response, and the request does not reach a model.

    `unknown_key_issuer` is set if the issuer's key set does not have the key that the token names.
    A new fetch of the key set may change the decision.

    The last fields are for logs and metrics; text is empty if it is unknown or does not apply:
    `stage` refused the request, because of `rule` (a limit rule or a config key). `subject` is the
    caller, `version` the chosen version, and `field` the place in the body that is not valid.
    `cause` says why credentials are refused.
    """

    reason: Reason
    detail: str
    headers: tuple[tuple[str, str], ...] = ()
    unknown_key_issuer: str | None = None
    stage: str = dataclasses.field(default="", compare=False)
    subject: str = dataclasses.field(default="", compare=False)
    cause: str = dataclasses.field(default="", compare=False)
    rule: str = dataclasses.field(default="", compare=False)
    version: str = dataclasses.field(default="", compare=False)
    field: str = dataclasses.field(default="", compare=False)

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
    identity: Identity = dataclasses.field(default=ANONYMOUS, compare=False)
    video_cluster: str | None = None
    """The cluster of the video service, which gets the request in place of `target`. It sends the
    frames as requests of their own, on which the gateway decides again."""
    limit_headers: tuple[tuple[str, str], ...] = ()
    """Response headers with the state of the limits that apply to the request."""


Decision = Admission | Refusal
