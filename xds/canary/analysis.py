"""The state machine of a canary with steps. Pure: times and what was seen are passed in.

| phase | what the control plane does | next |
|---|---|---|
| `running` | sets the percentage of the step, and judges the canary | the next step, `promoting`, `aborting` or `held` |
| `paused` | nothing: an operator has stopped the steps | `running`, by an operator |
| `held` | nothing: a step has failed, or somebody has changed the canary | `running`, by an operator |
| `promoting`, `aborting` | appends the revision that promotes or aborts | `promoted`, `aborted` |
| `promoted`, `aborted`, `ended` | nothing: the config has no such canary any more | |

The config is the truth: it says which canaries there are and what percentage they have. The state
says what the control plane means to do next. It is stored before the config is changed, so a
control plane that ends in between goes on where it was.
"""  # noqa: E501

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

from sluice.config.canary_steps import CanaryCriteria, CanaryStep
from sluice.config.models import Canary, Model
from sluice.config.values import format_duration
from sluice.contract.history import AUTHOR
from xds.canary import agreement
from xds.canary.figures import Seen
from xds.envoys.criteria import Figures, breach, milliseconds, percentage


class Phase(StrEnum):
    """What happens to a canary, see the module."""

    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    PROMOTING = "promoting"
    ABORTING = "aborting"
    PROMOTED = "promoted"
    ABORTED = "aborted"
    ENDED = "ended"


FINISHED: Final = frozenset({Phase.PROMOTED, Phase.ABORTED, Phase.ENDED})
STOPPED: Final = frozenset({Phase.PAUSED, Phase.HELD})
_DECIDED: Final = frozenset({Phase.PROMOTING, Phase.ABORTING})


@dataclass(frozen=True, slots=True)
class Plan:
    """A canary with steps, as the config has it. `percent` is None if the config does not set it.

    `digest` is equal for equal plans, whatever their percentage is.
    """

    version: str
    stable: str
    percent: float | None
    steps: tuple[CanaryStep, ...]
    criteria: CanaryCriteria
    holds: bool
    digest: str

    @classmethod
    def of(cls, model: Model, canary: Canary) -> Self:
        """The plan of a canary with steps."""
        plan = canary.model_dump_json(include={"version", "steps", "criteria", "on_failure"})
        digest = hashlib.sha256(f"{model.stable_version} {plan}".encode()).hexdigest()[:16]
        return cls(
            version=canary.version,
            stable=model.stable_version,
            percent=canary.percent if "percent" in canary.model_fields_set else None,
            steps=canary.steps,
            criteria=canary.criteria,
            holds=canary.on_failure == "hold",
            digest=digest,
        )

    def step_of(self, percent: float | None) -> int:
        """The last step with at most this percentage; the first if there is none."""
        reached = [n for n, step in enumerate(self.steps) if step.percent <= (percent or 0)]
        return reached[-1] if reached else 0


@dataclass(frozen=True, slots=True)
class State:
    """The state of one canary. `plan` is the digest of its plan.

    `percent` is the latest of the config that is known. `reason`, `author` and `at` (Unix seconds)
    are those of the latest decision. `baseline`: the figures of the stable version in the latest
    step in which it had enough requests.
    """

    plan: str
    phase: Phase
    step: int
    percent: float | None
    reason: str
    author: str
    at: float
    baseline: Figures | None = None
    appended: int | None = None
    revision: int = 0


class Kind(StrEnum):
    """What a judgement says."""

    WAIT = "wait"
    MET = "met"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement and its reason."""

    kind: Kind
    reason: str


class Change(StrEnum):
    """How the config must be changed."""

    SET = "set"
    PROMOTE = "promote"
    ABORT = "abort"


def begin(plan: Plan, reason: str, author: str, at: float) -> State:
    """The state of a canary that begins, or continues with its present percentage."""
    step = plan.step_of(plan.percent)
    return State(plan.digest, Phase.RUNNING, step, plan.percent, reason, author, at)


def reconciled(
    state: State | None,
    plan: Plan | None,
    *,
    is_stable: bool,
    revision: int,
    at: float,
    is_rollback: bool = False,
) -> State | None:
    """The state after a look at the config of a revision, which anyone may have changed.

    `plan` is None if the version is no canary with steps. `is_stable`: whether it is the stable
    version. `is_rollback`: whether the revision is a rollback. A control plane that is behind sees
    a revision from before the state: it says nothing.
    """
    if state is not None and revision < state.revision:
        return state
    if plan is None:
        found = None if state is None else _without_plan(state, is_stable, revision, at)
    elif state is None:
        found = begin(plan, f"begins with revision {revision}", AUTHOR, at)
    elif state.phase in FINISHED and state.plan == plan.digest:
        reason = f"revision {revision} has the canary again, which was {state.phase} before"
        found = _stopped(state, plan, reason, at)
    elif state.plan != plan.digest:
        found = begin(plan, f"begins again: revision {revision} has another plan", AUTHOR, at)
        if state.phase is Phase.PAUSED:
            found = replace(found, phase=Phase.PAUSED)
    else:
        found = _with_percent(state, plan, revision, at, is_rollback)
    return None if found is None else replace(found, revision=revision)


def _without_plan(state: State, is_stable: bool, revision: int, at: float) -> State:
    if state.phase in FINISHED:
        return state
    if state.phase is Phase.PROMOTING and is_stable:
        return replace(state, phase=Phase.PROMOTED)
    if state.phase is Phase.ABORTING and not is_stable:
        return replace(state, phase=Phase.ABORTED)
    found = "has the version as the stable one" if is_stable else "has no steps for the version"
    reason = f"revision {revision} {found}"
    return replace(state, phase=Phase.ENDED, reason=reason, author=AUTHOR, at=at)


def _with_percent(state: State, plan: Plan, revision: int, at: float, is_rollback: bool) -> State:
    """The percentage may be that of the step, the one before it, or one that somebody has set."""
    target = plan.steps[state.step].percent
    undone = state.appended is not None and revision > state.appended
    if state.phase in STOPPED:
        return replace(state, percent=plan.percent)
    if state.phase in _DECIDED:
        reason = f"revision {revision} has the canary again"
        return _stopped(state, plan, reason, at) if undone else state
    if plan.percent == target:
        return replace(state, percent=target)
    if plan.percent is None and not (is_rollback or state.percent is None):
        # The config leaves the percentage to the steps: they go on.
        return replace(state, percent=None, appended=None) if undone else state
    if plan.percent is not None and plan.percent != state.percent:
        return _stopped(state, plan, f"revision {revision} has set {plan.percent:g} %", at)
    reason = f"revision {revision} has undone revision {state.appended}"
    return _stopped(state, plan, reason, at) if undone else state


def _stopped(state: State, plan: Plan, reason: str, at: float) -> State:
    return replace(
        state, phase=Phase.HELD, percent=plan.percent, reason=reason, author=AUTHOR, at=at
    )


def paused(state: State, author: str, reason: str, at: float) -> State:
    """The state after an operator has stopped the steps."""
    return replace(state, phase=Phase.PAUSED, author=author, reason=reason, at=at)


def resumed(state: State, plan: Plan, author: str, reason: str, at: float) -> State:
    """The state after an operator lets the steps go on, from the present percentage."""
    begun = begin(plan, reason, author, at)
    return replace(begun, baseline=state.baseline, revision=state.revision)


def wanted(state: State, plan: Plan) -> Change | None:
    """The change that the config needs; None if it is as it should be, or will be."""
    if state.appended is not None:
        return None
    if state.phase is Phase.PROMOTING:
        return Change.PROMOTE
    if state.phase is Phase.ABORTING:
        return Change.ABORT
    if state.phase is Phase.RUNNING and plan.percent != plan.steps[state.step].percent:
        return Change.SET
    return None


def judge(plan: Plan, state: State, seen: Seen) -> Verdict:
    """Judge a running step by what was seen since it began.

    A criterion that is not met fails at once, if there were enough requests. A step passes only
    after its duration.
    """
    step, criteria = plan.steps[state.step], plan.criteria
    if seen.gap:
        return Verdict(Kind.WAIT, seen.gap)
    if seen.is_open:
        return Verdict(Kind.FAIL, f"the breaker of {plan.version} is open")
    stable = _enough(plan, seen.stable) or state.baseline
    missing = _missing(plan, step.percent, seen, stable)
    failed = breach(criteria, seen.canary, stable, f"of {plan.stable}")
    failed = failed or agreement.disagreement(criteria, seen.copies)
    if failed is not None:
        return Verdict(Kind.FAIL, failed)
    figures = described(plan, seen)
    if seen.seconds < step.duration:
        return Verdict(Kind.WAIT, figures)
    if not missing:
        return Verdict(Kind.MET, figures)
    if seen.seconds >= step.duration + criteria.max_wait:
        waited = format_duration(step.duration + criteria.max_wait)
        return Verdict(Kind.FAIL, f"{missing} within {waited}")
    return Verdict(Kind.WAIT, f"waits: {missing}")


def advanced(plan: Plan, state: State, verdict: Verdict, seen: Seen, at: float) -> State:
    """The state after a judgement."""
    if verdict.kind is Kind.WAIT:
        return state
    percent = plan.steps[state.step].percent
    baseline = _enough(plan, seen.stable) or state.baseline
    decided = replace(state, author=AUTHOR, at=at, baseline=baseline, appended=None)
    if verdict.kind is Kind.FAIL:
        phase = Phase.HELD if plan.holds else Phase.ABORTING
        return replace(decided, phase=phase, reason=f"{percent:g} % failed: {verdict.reason}")
    reason = f"{percent:g} % passed: {verdict.reason}"
    if state.step + 1 < len(plan.steps):
        return replace(decided, step=state.step + 1, reason=reason)
    return replace(decided, phase=Phase.PROMOTING, reason=reason)


def described(plan: Plan, seen: Seen) -> str:
    """The figures of both versions, for operators."""
    copies = f"{agreement.described(seen.copies)}; " if plan.criteria.mirrors else ""
    return (
        f"{plan.version} {_figures(seen.canary)}; {plan.stable} {_figures(seen.stable)}; "
        f"{copies}in {format_duration(round(seen.seconds))}"
    )


def _figures(figures: Figures) -> str:
    p99 = "" if figures.p99 is None else f", p99 {milliseconds(figures.p99)}"
    return f"{figures.requests} requests, {percentage(figures.error_rate)} errors{p99}"


def _enough(plan: Plan, figures: Figures) -> Figures | None:
    """The figures, if there were enough requests."""
    return figures if figures.requests >= plan.criteria.min_requests else None


def _missing(plan: Plan, percent: float, seen: Seen, stable: Figures | None) -> str:
    """What a judgement still needs; empty if it needs nothing."""
    needed = plan.criteria.min_requests
    copies = agreement.missing_copies(plan.criteria, percent, seen.copies)
    if copies or percent == 0:
        # Without users, the canary is judged by copies only.
        return f"{plan.version} {copies}" if copies else ""
    if _enough(plan, seen.canary) is None:
        return f"{plan.version} has {seen.canary.requests} of {needed} requests"
    if plan.criteria.compares and stable is None:
        return f"{plan.stable} has {seen.stable.requests} of {needed} requests"
    compared = [seen.canary] if plan.criteria.max_p99_increase is None else [seen.canary, stable]
    if plan.criteria.needs_latency and any(each and each.p99 is None for each in compared):
        return "no latencies are reported"
    return ""
