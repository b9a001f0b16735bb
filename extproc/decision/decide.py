"""The stages in their order.

A stage is a function over policy, request and context that returns a refusal or None, and a second
function that explains in words what the first one found. New stages join `STAGES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from extproc.decision import authenticate, authorize, canary, convert, route, validate
from extproc.decision.request import Request
from extproc.decision.results import Admission, DecisionContext, Refusal
from extproc.policy.compiled import Policy

Decision = Admission | Refusal

Decide = Callable[[Policy, Request], Decision]
"""`decide`, or what does the same and takes note of it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a decision, and its explanation."""

    name: str
    run: Callable[[Policy, Request, DecisionContext], Refusal | None]
    tell: Callable[[Request, DecisionContext], str]


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
    context = DecisionContext()
    for stage, run in _RUN:
        refusal = run(policy, request, context)
        if refusal is not None:
            return replace(refusal, stage=stage, subject=context.identity.subject)
    return _admitted(context)


def timed(
    policy: Policy, request: Request, clock: Callable[[], int]
) -> tuple[list[tuple[str, int]], Decision]:
    """The same, with every stage that ran and how long that took, in the clock's units."""
    context = DecisionContext()
    times: list[tuple[str, int]] = []
    began = clock()
    for stage, run in _RUN:
        refusal = run(policy, request, context)
        ended = clock()
        times.append((stage, ended - began))
        began = ended
        if refusal is not None:
            return times, replace(refusal, stage=stage, subject=context.identity.subject)
    return times, _admitted(context)


def explain(policy: Policy, request: Request) -> tuple[list[StageReport], Decision]:
    """The same, with a report of every stage that ran."""
    context = DecisionContext()
    reports: list[StageReport] = []
    for stage in STAGES:
        refusal = stage.run(policy, request, context)
        if refusal is not None:
            why = f"{refusal.status} {refusal.reason}: {refusal.detail}"
            return [*reports, StageReport(stage.name, passed=False, why=why)], refusal
        reports.append(StageReport(stage.name, passed=True, why=stage.tell(request, context)))
    return reports, _admitted(context)


def _admitted(context: DecisionContext) -> Admission:
    assert context.route is not None
    assert context.target is not None
    return Admission(
        context.target,
        context.reason,
        context.canary,
        context.identity.subject,
        context.route.max_body,
        context.converter,
        context.identity,
    )
