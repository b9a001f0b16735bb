"""Counts and times decisions, one in `SAMPLE` of them stage by stage; decides nothing itself."""

import time
from collections.abc import Callable

from extproc.decision import Decision, Refusal, Request, decide, decide_with_timings
from extproc.policy.compiled import Policy
from extproc.telemetry import catalog
from extproc.telemetry.metrics import CounterSeries, Metrics

SAMPLE = 64
"""Reading the clock around every stage costs as much as a stage: seldom is enough for a mean."""

ADMIT, REFUSE = "admit", "refuse"
ALL = "all"


class ObservedDecisions:
    """`decide` that takes note of itself. `clock` counts nanoseconds."""

    def __init__(self, metrics: Metrics, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._metrics = metrics
        self._clock = clock
        self._turn = 0
        self._counts: dict[tuple[str, str, str], CounterSeries] = {}
        self._admitted = metrics.timings(catalog.DECISION_SECONDS, ADMIT)
        self._refused = metrics.timings(catalog.DECISION_SECONDS, REFUSE)

    def decide(self, policy: Policy, request: Request) -> Decision:
        """As `extproc.decision.decide`, and timed."""
        self._turn += 1
        began = self._clock()
        if self._turn % SAMPLE:
            decision = decide(policy, request)
        else:
            decision = self._stage_by_stage(policy, request)
        micros = (self._clock() - began) / 1000
        timing = self._refused if type(decision) is Refusal else self._admitted
        timing.observe(micros)
        return decision

    def decided(self, decision: Decision) -> None:
        """Count what a request gets in the end."""
        if isinstance(decision, Refusal):
            key = (decision.stage, REFUSE, decision.reason)
        else:
            key = (ALL, ADMIT, decision.reason)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = self._metrics.count(catalog.DECISIONS, *key)
        count.add()

    def _stage_by_stage(self, policy: Policy, request: Request) -> Decision:
        decision, timings = decide_with_timings(policy, request, self._clock)
        refused_by = decision.stage if isinstance(decision, Refusal) else None
        for stage, nanoseconds in timings:
            verdict = REFUSE if stage == refused_by else "pass"
            series = self._metrics.timings(catalog.STAGE_SECONDS, stage, verdict)
            series.observe(nanoseconds / 1000)
        return decision
