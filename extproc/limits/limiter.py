"""Stage 7 of the decision: all rules that apply must admit a request, and only then it pays.

Judging and paying happen without awaiting in between, so several limits are taken together or not
at all; a refused request costs nobody anything.
"""

import asyncio
import math
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

from extproc.limits.arithmetic import Limit
from extproc.limits.leases import MICRO, Budgets, Standing
from extproc.limits.rules import RequestView, Rule, compile_rule
from sluice.config.limits import LimitRule

MAX_ROUNDS = 4
"""Fetches one request may await: the second when others took what the first brought."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the rule that is strictest for this request: the one that refuses for longest, else the

    one with the smallest part left. Without a rule (`rule` is None) nothing limits the request.
    `window` is the rule's period; times are whole seconds, rounded up. `unavailable`: refused
    because the backend is away and `fail: closed`, not because a limit is used up.
    """

    admitted: bool
    rule: str | None = None
    limit: int = 0
    remaining: int = 0
    reset_seconds: int = 0
    retry_after: int = 0
    window: int = 0
    unavailable: bool = False


UNLIMITED = Verdict(admitted=True)


@dataclass(slots=True)
class RuleCounts:
    """Totals of one rule for metrics, never reset. A shadow rule's refusals refused nothing."""

    admitted: int = 0
    refused: int = 0
    shadow_refused: int = 0
    unavailable: int = 0


@dataclass(frozen=True, slots=True)
class _Charge:
    rule: Rule
    limit: Limit
    key: str
    cost: int


class Limiter:
    """The rules of one policy over a backend's budgets, which outlive the policy."""

    def __init__(self, rules: Iterable[LimitRule], budgets: Budgets) -> None:
        self._rules = tuple(compile_rule(rule) for rule in rules)
        self._budgets = budgets
        self.counts = {rule.name: RuleCounts() for rule in self._rules}

    def check(self, now: float, view: RequestView) -> Verdict | Awaitable[Verdict]:
        """Judge a request at `now` (seconds), and charge it where it is admitted.

        At once, except where the first request for a key must wait for a backend.
        """
        charges = [
            _Charge(rule, rule.limit, rule.key(view), rule.cost(view))
            for rule in self._rules
            if rule.applies(view)
        ]
        if not charges:
            return UNLIMITED
        micros = int(now * MICRO)
        waiting = self._waiting(micros, charges)
        return self._later(micros, charges, waiting) if waiting else self._judge(micros, charges)

    def _waiting(self, now: int, charges: list[_Charge]) -> list[Awaitable[None]]:
        found = [self._budgets.ready(now, c.limit, c.key, c.cost) for c in charges]
        return [waiting for waiting in found if waiting is not None]

    async def _later(
        self, now: int, charges: list[_Charge], waiting: list[Awaitable[None]]
    ) -> Verdict:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(MAX_ROUNDS):
            await asyncio.gather(*waiting)
            at = now + int((loop.time() - started) * MICRO)
            waiting = self._waiting(at, charges)
            if not waiting:
                break
        return self._judge(at, charges)

    def _judge(self, now: int, charges: list[_Charge]) -> Verdict:
        standings = [
            (charge, self._budgets.standing(now, charge.limit, charge.key, charge.cost))
            for charge in charges
        ]
        enforced = [pair for pair in standings if not pair[0].rule.shadow]
        refusals = [pair for pair in enforced if not pair[1].admits]
        if refusals:
            charge, standing = max(refusals, key=lambda pair: pair[1].wait)
            counts = self.counts[charge.rule.name]
            counts.refused += 1
            counts.unavailable += standing.unavailable
            return _verdict(charge, standing, admitted=False)
        for charge, standing in standings:
            counts = self.counts[charge.rule.name]
            if standing.admits:
                self._budgets.spend(now, charge.limit, charge.key, charge.cost)
                counts.admitted += 1
            else:
                counts.shadow_refused += 1
        if not enforced:
            return UNLIMITED
        strictest = min(enforced, key=lambda pair: (pair[1].remaining - pair[0].cost)
                        / pair[0].limit.capacity)  # fmt: skip
        return _verdict(*strictest, admitted=True)


def _verdict(charge: _Charge, standing: Standing, *, admitted: bool) -> Verdict:
    paid = charge.cost if admitted else 0
    return Verdict(
        admitted=admitted,
        rule=charge.rule.name,
        limit=charge.limit.capacity,
        remaining=max(0, standing.remaining - paid),
        reset_seconds=math.ceil(standing.reset / MICRO),
        retry_after=0 if admitted else max(1, math.ceil(standing.wait / MICRO)),
        window=charge.rule.window,
        unavailable=standing.unavailable,
    )
