"""Stage 7 of the decision: all rules that apply must admit a request, and only then it pays.

Judging and paying happen without awaiting in between, so several limits are taken together or not
at all; a refused request costs nobody anything.
"""

import math
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass

from extproc.limits.charges import Charge, until_ready, waiting
from extproc.limits.leases import MICRO, Budgets, BudgetState
from extproc.limits.rules import RequestView, Rule, compile_rule
from sluice.config.limits import LimitRule


@dataclass(slots=True)
class LimitVerdict:
    """Of the rule that is strictest for this request, of all that apply to it.

    That is the one that refuses for longest, else the one with the smallest part left. Without a
    rule (`rule` is None) nothing limits the request.
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


UNLIMITED = LimitVerdict(admitted=True)


@dataclass(slots=True)
class RuleCounts:
    """Totals of one rule for metrics, never reset. A shadow rule's refusals refused nothing."""

    admitted: int = 0
    refused: int = 0
    shadow_refused: int = 0
    unavailable: int = 0


class Limiter:
    """The rules of one policy over a backend's budgets, which outlive the policy."""

    def __init__(self, rules: Iterable[LimitRule], budgets: Budgets) -> None:
        self._rules = tuple(compile_rule(rule) for rule in rules)
        self._budgets = budgets
        self.counts = {rule.name: RuleCounts() for rule in self._rules}

    def keep_counts(self, counts: Mapping[str, RuleCounts]) -> None:
        """Go on counting from these, for rules of the same name."""
        self.counts |= {name: found for name, found in counts.items() if name in self.counts}

    def check(self, now: float, view: RequestView) -> LimitVerdict | Awaitable[LimitVerdict]:
        """Judge a request at `now` (seconds), and charge it where it is admitted.

        At once, except where the first request for a key must wait for a backend.
        """
        rules = [rule for rule in self._rules if rule.applies(view)]
        if not rules:
            return UNLIMITED
        charges = [Charge(rule.limit, rule.key(view), rule.cost(view)) for rule in rules]
        micros = int(now * MICRO)
        pending = waiting(self._budgets, micros, charges)
        if pending:
            return self._later(micros, rules, charges, pending)
        return self._judge(micros, rules, charges)

    async def _later(
        self, now: int, rules: list[Rule], charges: list[Charge], pending: list[Awaitable[None]]
    ) -> LimitVerdict:
        now = await until_ready(self._budgets, now, charges, pending)
        return self._judge(now, rules, charges)

    def _judge(self, now: int, rules: list[Rule], charges: list[Charge]) -> LimitVerdict:
        budgets = self._budgets
        judged = [
            (rule, charge, budgets.standing(now, charge.limit, charge.key, charge.cost))
            for rule, charge in zip(rules, charges, strict=True)
        ]
        enforced = [each for each in judged if not each[0].shadow]
        refusals = [each for each in enforced if not each[2].admits]
        if refusals:
            rule, charge, standing = max(refusals, key=lambda each: each[2].wait)
            counts = self.counts[rule.name]
            counts.refused += 1
            counts.unavailable += standing.unavailable
            return _verdict(rule, charge, standing, admitted=False)
        for rule, charge, standing in judged:
            counts = self.counts[rule.name]
            if standing.admits:
                budgets.spend(now, charge.limit, charge.key, charge.cost)
                counts.admitted += 1
            else:
                counts.shadow_refused += 1
        if not enforced:
            return UNLIMITED
        return _verdict(*min(enforced, key=_part_left), admitted=True)


def _part_left(judged: tuple[Rule, Charge, BudgetState]) -> float:
    _, charge, standing = judged
    return (standing.remaining - charge.cost) / charge.limit.capacity


def _verdict(rule: Rule, charge: Charge, standing: BudgetState, *, admitted: bool) -> LimitVerdict:
    paid = charge.cost if admitted else 0
    return LimitVerdict(
        admitted=admitted,
        rule=rule.name,
        limit=charge.limit.capacity,
        remaining=max(0, standing.remaining - paid),
        reset_seconds=math.ceil(standing.reset / MICRO),
        retry_after=0 if admitted else max(1, math.ceil(standing.wait / MICRO)),
        window=rule.window,
        unavailable=standing.unavailable,
    )
