"""Counts decisions and measures their duration, and the duration of each stage for a sample."""

import time
from collections.abc import Callable

from extproc.decision import Decision, Refusal, Request, decide, decide_with_timings
from extproc.policy.compiled import Policy
from extproc.telemetry import catalog
from extproc.telemetry.metrics import CounterSeries, Metrics

STAGE_SAMPLE_INTERVAL = 64
"""The stages of one decision in this number are measured. Reading the clock costs as much as a
stage."""

ADMIT, REFUSE, PASS = "admit", "refuse", "pass"
ALL_STAGES = "all"


class DecisionMetrics:
    """Makes decisions and records them as metrics. `clock` returns nanoseconds."""

    def __init__(self, metrics: Metrics, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._metrics = metrics
        self._clock = clock
        self._made = 0
        self._counters: dict[tuple[str, str, str], CounterSeries] = {}
        self._admitted = metrics.histogram(catalog.DECISION_SECONDS, ADMIT)
        self._refused = metrics.histogram(catalog.DECISION_SECONDS, REFUSE)

    def decide(self, policy: Policy, request: Request) -> Decision:
        """Call `extproc.decision.decide`, and record its duration."""
        self._made += 1
        started = self._clock()
        if self._made % STAGE_SAMPLE_INTERVAL:
            decision = decide(policy, request)
        else:
            decision = self._decide_by_stage(policy, request)
        micros = (self._clock() - started) / 1000
        histogram = self._refused if type(decision) is Refusal else self._admitted
        histogram.observe(micros)
        return decision

    def record(self, decision: Decision) -> None:
        """Count the final decision on a request, after the breaker and the limits."""
        if isinstance(decision, Refusal):
            key = (decision.stage, REFUSE, decision.reason)
        else:
            key = (ALL_STAGES, ADMIT, decision.reason)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._metrics.counter(catalog.DECISIONS, *key)
        counter.add()
        if isinstance(decision, Refusal) and decision.cause:
            self._metrics.counter(catalog.CREDENTIALS_REFUSED, decision.cause).add()

    def _decide_by_stage(self, policy: Policy, request: Request) -> Decision:
        decision, timings = decide_with_timings(policy, request, self._clock)
        refused_by = decision.stage if isinstance(decision, Refusal) else None
        for stage, nanoseconds in timings:
            verdict = REFUSE if stage == refused_by else PASS
            histogram = self._metrics.histogram(catalog.STAGE_SECONDS, stage, verdict)
            histogram.observe(nanoseconds / 1000)
        return decision
