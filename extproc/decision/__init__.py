"""`decide(policy, request) -> Decision`: one pure function over one request's headers."""

from extproc.decision.decide import Decide, Decision, StageReport, decide, explain, timed
from extproc.decision.request import Request
from extproc.decision.results import Admission, Refusal
from sluice.contract.reasons import Reason

__all__ = [
    "Admission",
    "Decide",
    "Decision",
    "Reason",
    "Refusal",
    "Request",
    "StageReport",
    "decide",
    "explain",
    "timed",
]
