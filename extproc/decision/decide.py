"""The stages in their order.

A new one joins `STAGES`: a function over policy, request and draft that returns a refusal or None,
and one that tells in words what it found.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from extproc.decision import authenticate, authorize, canary, convert, route, validate
from extproc.decision.request import Request
from extproc.decision.results import Admission, Draft, Refusal
from extproc.policy.compiled import Policy

Decision = Admission | Refusal

Decide = Callable[[Policy, Request], Decision]
"""`decide`, or what does the same and takes note of it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a decision, and its explanation."""

    name: str
    run: Callable[[Policy, Request, Draft], Refusal | None]
    tell: Callable[[Request, Draft], str]


STAGES = (
    Stage("validate", validate.validate, validate.tell),
    Stage("authenticate", authenticate.authenticate, authenticate.tell),
    Stage("authorize", authorize.authorize, authorize.tell),
    Stage("route", route.route, route.tell),
    Stage("canary", canary.canary, canary.tell),
    Stage("convert", convert.convert, convert.tell),
)

_RUN = tuple((stage.name, stage.run) for stage in STAGES)


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage made of a request."""

    stage: str
    passed: bool
    why: str


def decide(policy: Policy, request: Request) -> Decision:
    """Admit a request to a version, or refuse it. Free of I/O; time is `request.now`."""
    draft = Draft()
    for stage, run in _RUN:
        refusal = run(policy, request, draft)
        if refusal is not None:
            return replace(refusal, stage=stage, subject=draft.identity.subject)
    return _admitted(draft)


def timed(
    policy: Policy, request: Request, clock: Callable[[], int]
) -> tuple[list[tuple[str, int]], Decision]:
    """The same, with every stage that ran and how long that took, in the clock's units."""
    draft = Draft()
    times: list[tuple[str, int]] = []
    began = clock()
    for stage, run in _RUN:
        refusal = run(policy, request, draft)
        ended = clock()
        times.append((stage, ended - began))
        began = ended
        if refusal is not None:
            return times, replace(refusal, stage=stage, subject=draft.identity.subject)
    return times, _admitted(draft)


def explain(policy: Policy, request: Request) -> tuple[list[StageReport], Decision]:
    """The same, with a report of every stage that ran."""
    draft = Draft()
    reports: list[StageReport] = []
    for stage in STAGES:
        refusal = stage.run(policy, request, draft)
        if refusal is not None:
            why = f"{refusal.status} {refusal.reason}: {refusal.detail}"
            return [*reports, StageReport(stage.name, passed=False, why=why)], refusal
        reports.append(StageReport(stage.name, passed=True, why=stage.tell(request, draft)))
    return reports, _admitted(draft)


def _admitted(draft: Draft) -> Admission:
    assert draft.route is not None
    assert draft.target is not None
    return Admission(
        draft.target,
        draft.reason,
        draft.canary,
        draft.identity.subject,
        draft.route.max_body,
        draft.converter,
        draft.identity,
    )
