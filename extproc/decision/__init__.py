"""`decide(policy, request) -> Decision`: a pure function of the policy and a request's headers."""

from extproc.decision.decide import (
    StageReport,
    decide,
    decide_with_timings,
    declared_reads,
    explain,
)
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Admission, Decision, Refusal
from sluice.contract.reasons import Reason

__all__ = [
    "Admission",
    "Decision",
    "Reads",
    "Reason",
    "Refusal",
    "Request",
    "StageReport",
    "decide",
    "decide_with_timings",
    "declared_reads",
    "explain",
]
