"""Runs the stages of a decision in order.

A stage has three functions. `run` reads the policy, the request and the context, adds its result to
the context, and returns a refusal or None. `reads` declares which parts of a request `run` reads.
`explain` explains the result of `run` in words.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

from extproc.decision import authenticate, authorize, canary, convert, route, validate
from extproc.decision.context import DecisionContext
from extproc.decision.reads import Reads
from extproc.decision.request import Request
from extproc.decision.results import Admission, Decision, Refusal
from extproc.policy.compiled import Policy


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a decision."""

    name: str
    run: Callable[[Policy, Request, DecisionContext], Refusal | None]
    reads: Callable[[Policy], Reads]
    explain: Callable[[DecisionContext], str]


STAGES = (
    Stage("validate", validate.run, validate.reads, validate.explain),
    Stage("authenticate", authenticate.run, authenticate.reads, authenticate.explain),
    Stage("authorize", authorize.run, authorize.reads, authorize.explain),
    Stage("route", route.run, route.reads, route.explain),
    Stage("canary", canary.run, canary.reads, canary.explain),
    Stage("convert", convert.run, convert.reads, convert.explain),
)

_RUN = tuple((stage.name, stage.run) for stage in STAGES)


@dataclass(frozen=True, slots=True)
class StageReport:
    """The result of one stage, in words."""

    stage: str
    passed: bool
    explanation: str


def declared_reads(policy: Policy) -> Reads:
    """The parts of a request that decisions with this policy may read."""
    return reduce(operator.or_, (stage.reads(policy) for stage in STAGES))


def decide(policy: Policy, request: Request) -> Decision:
    """Admit a request to a version, or refuse it. Does no I/O; the time is `request.now`."""
    context = DecisionContext()
    for stage, run in _RUN:
        refusal = run(policy, request, context)
        if refusal is not None:
            return _refusal(refusal, stage, context)
    return _admission(context)


def decide_with_timings(
    policy: Policy, request: Request, clock: Callable[[], int]
) -> tuple[Decision, list[tuple[str, int]]]:
    """Decide as `decide` does, and measure the duration of each stage that ran with `clock`."""
    context = DecisionContext()
    timings: list[tuple[str, int]] = []
    started = clock()
    for stage, run in _RUN:
        refusal = run(policy, request, context)
        ended = clock()
        timings.append((stage, ended - started))
        started = ended
        if refusal is not None:
            return _refusal(refusal, stage, context), timings
    return _admission(context), timings


def explain(policy: Policy, request: Request) -> tuple[Decision, list[StageReport]]:
    """Decide as `decide` does, and report on each stage that ran."""
    context = DecisionContext()
    reports: list[StageReport] = []
    for stage in STAGES:
        refusal = stage.run(policy, request, context)
        if refusal is not None:
            explanation = f"{refusal.status} {refusal.reason}: {refusal.detail}"
            reports.append(StageReport(stage.name, passed=False, explanation=explanation))
            return _refusal(refusal, stage.name, context), reports
        explanation = stage.explain(context)
        reports.append(StageReport(stage.name, passed=True, explanation=explanation))
    return _admission(context), reports


def _refusal(refusal: Refusal, stage: str, context: DecisionContext) -> Refusal:
    """The refusal of a stage, with what the stages before it have found."""
    version = "" if context.target is None else context.target.version
    return replace(refusal, stage=stage, subject=context.identity.subject, version=version)


def _admission(context: DecisionContext) -> Admission:
    model = context.model
    assert model is not None
    assert context.target is not None
    max_body = model.max_body if context.video_cluster is None else model.max_video
    assert max_body is not None
    return Admission(
        context.target,
        context.reason,
        context.canary,
        context.identity.subject,
        max_body,
        context.converter,
        context.identity,
        context.video_cluster,
    )
