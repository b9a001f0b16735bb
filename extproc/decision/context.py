"""The state of one decision while its stages run."""

from dataclasses import dataclass

from extproc.auth import ANONYMOUS, Identity
from extproc.convert import Converter
from extproc.policy.compiled import ModelPolicy, Target
from sluice.contract.reasons import Reason


@dataclass(slots=True)
class DecisionContext:
    """The results of the stages that have run. Each stage adds its own."""

    model: ModelPolicy | None = None
    requested_version: bytes | None = None
    requested_by: Reason = Reason.STABLE
    """Where the client names the version: `version_header` or `version_path`."""
    identity: Identity = ANONYMOUS
    target: Target | None = None
    reason: Reason = Reason.STABLE
    canary: bool = False
    bucket: int | None = None
    operation: bytes | None = None
    """The operation of an Open Inference Protocol REST path; None on every other path."""
    video_cluster: str | None = None
    """The cluster of the video service, for its requests; None for all others."""
    converter: Converter | None = None
