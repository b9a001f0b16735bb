"""What stages work on, and what comes out."""

from dataclasses import dataclass, field

from extproc.auth import ANONYMOUS, Identity
from extproc.convert import Converter
from extproc.policy.compiled import ModelPolicy, Target
from sluice.contract.reasons import STATUS, Reason


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request is answered with an error and goes nowhere.

    `refresh` names an issuer whose keys are worth fetching again before this is final. `stage` and
    `subject` are for logs and metrics: which stage refused, and whom, where that was known.
    """

    reason: Reason
    detail: str
    headers: tuple[tuple[str, str], ...] = ()
    refresh: str | None = None
    stage: str = field(default="", compare=False)
    subject: str = field(default="", compare=False)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.reason]


@dataclass(frozen=True, slots=True)
class Admission:
    """The request goes to `target`, because of `reason`."""

    target: Target
    reason: Reason
    canary: bool
    subject: str
    max_body: int
    converter: Converter | None = None
    """What the body must pass before it goes to the target."""
    identity: Identity = field(default=ANONYMOUS, compare=False)
    limits: tuple[tuple[str, str], ...] = ()
    """Headers that tell the client what is left of its limits."""


@dataclass(slots=True)
class DecisionContext:
    """A decision in the making: each stage adds what it found."""

    route: ModelPolicy | None = None
    asked_version: bytes | None = None
    asked_by: Reason = Reason.STABLE
    identity: Identity = ANONYMOUS
    target: Target | None = None
    reason: Reason = Reason.STABLE
    canary: bool = False
    bucket: int | None = None
    operation: bytes | None = None
    """What the Open Inference Protocol's path asks for; None on a path of the model's own."""
    converter: Converter | None = None
