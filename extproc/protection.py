"""The two stages of the decision that have state: the breaker and the limits.

They check requests that the earlier stages have admitted. They belong to a worker and not to a
policy: a new policy changes thresholds and rules, but keeps budgets and counts, unless the backend
or the window of a breaker changes.

During a staged rollout, two policies have limits of their own over the same budgets. The breakers
and the backend are those of the worker.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from extproc.breaker import Breaker, BreakerSummary
from extproc.breaker.outcomes import succeeded
from extproc.counter_table import CounterTable
from extproc.decision import Admission, Decision, Reason, Refusal
from extproc.limits import (
    Budgets,
    LeasedBudgets,
    Limiter,
    LimitVerdict,
    LocalBudgets,
    RequestView,
    RuleCounts,
    RuleState,
    limit_headers,
    open_budgets,
    steady_clock,
)
from extproc.limits.descriptor_limiter import DescriptorLimiter, DescriptorSettings
from extproc.limits.descriptors import DescriptorMatcher
from extproc.limits.leases import LeaseCounts
from extproc.limits.ledger import Ledger
from extproc.telemetry.entry import AccessLogEntry
from sluice.config.breaker import BreakerConfig
from sluice.config.limit_backend import LimitBackend
from sluice.config.limits import Limits
from sluice.contract.headers import CLIENT_ADDRESS
from sluice.contract.names import cluster_name

UPDATE_INTERVAL = 0.05
"""Seconds between two updates of the breakers. After a report that changes a state, one update in
the worker that got the report and one in each other worker may be necessary."""


@dataclass(frozen=True, slots=True)
class ProtectionSettings:
    """`broker` is the supervisor's socket for shared budgets; None if there is only one worker."""

    broker: Path | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True)
class PolicyLimits:
    """The limits of one policy. `limiter` is None without rules."""

    limits: Limits
    limiter: Limiter | None = None


@dataclass(frozen=True, slots=True)
class PreparedProtection:
    """The protection of a policy that is not in force yet. `staged`: None without a stage.

    Call either `Protection.commit` or `discard`, once, and before another policy is prepared.
    """

    in_force: PolicyLimits
    staged: PolicyLimits | None
    descriptors: DescriptorSettings
    budgets: Budgets
    backend: AsyncExitStack | None
    """Closes the new budgets; None if the policy keeps the budgets in force."""

    async def discard(self) -> None:
        """Close the backend that was opened for the policy, if any."""
        if self.backend is not None:
            await self.backend.aclose()


class RequestProtection:
    """The two stages for the requests on which one policy decides.

    `monotonic` is the breaker's clock, in seconds. All workers of the machine share it.
    """

    def __init__(
        self, breaker: Breaker, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self.breaker = breaker
        self.clock = clock
        self.monotonic = monotonic
        self.limiter: Limiter | None = None
        self._limits = Limits()

    def use(self, limits: PolicyLimits) -> None:
        """Put the limits of a policy in force."""
        self.limiter = limits.limiter
        self._limits = limits.limits

    def admit(
        self, admission: Admission, headers: Mapping[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        """Apply the breaker and the limits to an admitted request."""
        refusal = self.check_breaker(admission)
        if refusal is not None:
            return refusal
        if self.limiter is None:
            return admission
        view = request_view(admission, headers, has_body=has_body)
        verdict = self.limiter.check(self.clock(), view)
        if isinstance(verdict, LimitVerdict):
            return self._decide(admission, verdict)
        return self._decide_later(admission, verdict)

    def check_breaker(self, admission: Admission) -> Refusal | None:
        """Return the breaker's refusal, if any. It depends only on the version.

        A request to the video service needs no version: each frame passes the breaker itself, and
        the end of a video says nothing about a version.
        """
        if admission.video_cluster is not None:
            return None
        verdict = self.breaker.admit(self.monotonic(), admission.target.cluster, random.random())  # noqa: S311
        if verdict.admitted:
            return None
        retry = (("retry-after", str(max(1, round(verdict.retry_after)))),)
        detail = f"too many requests to version {admission.target.version} have failed"
        return _refusal(Reason.BREAKER_OPEN, detail, retry, "breaker", admission)

    async def inspect(
        self, cluster: str, view: RequestView
    ) -> tuple[BreakerSummary | None, list[RuleState]]:
        """The present state of the breaker of a version, and of the rules that apply to a request.

        Takes no tokens, admits no probe and counts nothing.
        """
        rules = [] if self.limiter is None else await self.limiter.inspect(self.clock(), view)
        return self.breaker.summary(self.monotonic(), cluster), rules

    async def _decide_later(
        self, admission: Admission, verdict: Awaitable[LimitVerdict]
    ) -> Decision:
        return self._decide(admission, await verdict)

    def _decide(self, admission: Admission, verdict: LimitVerdict) -> Decision:
        headers = tuple(limit_headers(verdict, describe=self._limits.headers))
        if verdict.admitted:
            return replace(admission, limit_headers=headers) if headers else admission
        if verdict.unavailable:
            reason, detail = Reason.LIMITS_UNAVAILABLE, "the backend of the limits does not respond"
        else:
            reason, detail = Reason.RATE_LIMITED, f"the limit {verdict.rule} is exceeded"
        return _refusal(reason, detail, headers, "limit", admission, rule=verdict.rule or "")


class Protection(RequestProtection):
    """Breaker and limits of a worker, for the requests of the policy in force.

    `staged`: those for the requests of the staged policy. Without a stage, it has the same limits.
    """

    def __init__(
        self,
        table: CounterTable,
        settings: ProtectionSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(Breaker(table, {}), steady_clock(), monotonic)
        self.staged = RequestProtection(self.breaker, self.clock, monotonic)
        self._settings = settings
        self._in_force: Collection[str] = frozenset()
        """The clusters of the policy in force."""
        self.budgets: Budgets = LocalBudgets(Ledger(LimitBackend().max_keys))
        self.descriptor_limiter = DescriptorLimiter(
            DescriptorSettings(DescriptorMatcher({}), self.budgets)
        )
        self._backend: AsyncExitStack | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def prepare(self, limits: Limits, staged: Limits | None = None) -> PreparedProtection:
        """Run all steps for a policy that can fail. Changes nothing that is in force.

        `staged`: the limits of the staged policy, if any. Of these, only the rules take effect.
        Raises ValueError with a message for operators.
        """
        new_backend = self._backend is None or limits.backend != self._limits.backend
        async with AsyncExitStack() as stack:
            budgets = self.budgets
            if new_backend:
                budgets = await stack.enter_async_context(
                    open_budgets(limits.backend, self.clock, self._settings.broker)
                )
            limiter = self._new_limiter(limits, budgets, limits.backend)
            of_stage = None
            if staged is not None:
                same = staged.rules == limits.rules
                of_stage = PolicyLimits(
                    staged, limiter if same else self._new_limiter(staged, budgets, limits.backend)
                )
            matcher = DescriptorMatcher(limits.domains)
            descriptors = DescriptorSettings(matcher, budgets, limits.near_limit, limits.headers)
            backend = stack.pop_all() if new_backend else None
        in_force = PolicyLimits(limits, limiter)
        return PreparedProtection(in_force, of_stage, descriptors, budgets, backend)

    def _new_limiter(
        self, limits: Limits, budgets: Budgets, backend: LimitBackend
    ) -> Limiter | None:
        if not limits.rules:
            return None
        return Limiter(limits.rules, budgets, backend.max_keys, self._settings.workers)

    def commit(
        self,
        prepared: PreparedProtection,
        breakers: Mapping[str, BreakerConfig],
        of_stage: Mapping[str, BreakerConfig] = MappingProxyType({}),
    ) -> None:
        """Put the whole policy in force. Call it on the event loop. It cannot fail.

        `breakers` has the name of each version's cluster, and `of_stage` those of the staged
        policy. A version has one breaker: that of the policy in force, if both have the version.
        """
        self.breaker.configure({**of_stage, **breakers})
        self._in_force = frozenset(breakers)
        self.breaker.update(self.monotonic())
        self._use(prepared)
        self.budgets = prepared.budgets
        self.descriptor_limiter.settings = prepared.descriptors
        if prepared.backend is not None:
            replaced, self._backend = self._backend, prepared.backend
            if replaced is not None:
                closing = asyncio.create_task(replaced.aclose())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def _use(self, prepared: PreparedProtection) -> None:
        """Use the limits of the policies, which keep the counts and the shares of clients."""
        counts = self.rule_counts
        in_force, staged = prepared.in_force, prepared.staged or prepared.in_force
        if in_force.limiter is not None:
            in_force.limiter.keep_counts(counts)
            if self.limiter is not None and prepared.backend is None:
                in_force.limiter.keep_shares(self.limiter)
            counts = {**counts, **in_force.limiter.counts}
        if staged.limiter is not None and staged.limiter is not in_force.limiter:
            # Both count the requests of a rule that both have in the same place. Shares cannot be
            # in two limiters.
            staged.limiter.keep_counts(counts)
            before = self.staged.limiter
            if before is not None and before is not self.limiter and prepared.backend is None:
                staged.limiter.keep_shares(before)
        self.use(in_force)
        self.staged.use(staged)

    async def close(self) -> None:
        """Return all leased tokens, and close the backend."""
        if self._backend is not None:
            await self._backend.aclose()
        if self._closing:
            await asyncio.wait(self._closing)

    @property
    def rule_counts(self) -> Mapping[str, RuleCounts]:
        """Verdicts of each rule of both policies. A rule that is removed loses its counts."""
        limiters = (self.staged.limiter, self.limiter)
        return {
            rule: counts
            for limiter in limiters
            if limiter is not None
            for rule, counts in limiter.counts.items()
        }

    @property
    def backend_counts(self) -> LeaseCounts | None:
        """Exchanges with the backend; None if the budgets are in this process."""
        return self.budgets.counts if isinstance(self.budgets, LeasedBudgets) else None

    def record(self, entries: Sequence[AccessLogEntry]) -> None:
        """Count finished requests for the breaker."""
        self._record(entries, frozenset())

    def record_staged(self, entries: Sequence[AccessLogEntry]) -> None:
        """Count finished requests of staged Envoys.

        What is wrong with the staged config must not open the breakers of the one in force.
        """
        self._record(entries, self._in_force)

    def _record(self, entries: Sequence[AccessLogEntry], ignored: Container[str]) -> None:
        """Count finished requests, except those to clusters that are ignored."""
        now = self.monotonic()
        endings = Counter((entry.outcome, entry.progress) for entry in entries)
        for (outcome, progress), count in endings.items():
            ok = succeeded(outcome, progress)
            if ok is not None:
                cluster = cluster_name(outcome.model, outcome.version)
                if cluster not in ignored:
                    self.breaker.record(now, cluster, ok, count)
        self.breaker.update_if_due(now)

    def failing(self) -> Set[str]:
        """Update the breakers, and return the clusters whose breaker is not closed."""
        self.breaker.update(self.monotonic())
        return self.breaker.not_closed

    async def update_breakers(self) -> NoReturn:
        """Update the states of the breakers periodically, also without requests."""
        while True:
            await asyncio.sleep(UPDATE_INTERVAL)
            self.breaker.update(self.monotonic())


def _refusal(
    reason: Reason,
    detail: str,
    headers: tuple[tuple[str, str], ...],
    stage: str,
    admission: Admission,
    *,
    rule: str = "",
) -> Refusal:
    """The refusal of a request that the stages of the decision have admitted."""
    return Refusal(
        reason,
        detail,
        headers,
        stage=stage,
        subject=admission.subject,
        rule=rule,
        version=admission.target.version,
    )


def request_view(
    admission: Admission, headers: Mapping[str, bytes], *, has_body: bool
) -> RequestView:
    """Return the parts of a request that limit rules use."""
    identity, target = admission.identity, admission.target
    length = headers.get("content-length")
    return RequestView(
        subject=identity.subject or None,
        groups=identity.groups,
        claims=identity.claim_values,
        model=target.model,
        version=target.version,
        model_type=target.model_type,
        headers={name: value.decode("latin-1") for name, value in headers.items()},
        client_address=headers.get(CLIENT_ADDRESS, b"").decode("latin-1"),
        body_size=int(length) if length is not None else None if has_body else 0,
    )
