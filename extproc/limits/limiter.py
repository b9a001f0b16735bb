"""Stage of the decision: the limit rules.

All rules that apply must admit a request, and only then does it pay. Between judging and paying,
nothing is awaited, so a request pays all rules or none, and a refused request pays nothing.
"""

import math
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass

from extproc.limits.arithmetic import MICROS_PER_SECOND
from extproc.limits.budgets import Budgets, BudgetState
from extproc.limits.charges import Charge, fetch_missing, wait_for_tokens
from extproc.limits.rules import RequestView, Rule, compile_rule
from sluice.config.limits import LimitRule


@dataclass(slots=True)
class LimitVerdict:
    """The verdict on a request, with the state of the strictest rule that applies to it.

    The strictest rule is the one that refuses for longest, or else the one with the smallest share
    left. `rule` is None where no rule limits the request. `window` is the rule's period. Times are
    whole seconds, rounded up. `unavailable`: the request is refused because the backend does not
    respond and `fail` is `closed`, and not because a limit is reached.
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
    """Requests of one rule, for metrics; never reset. `shadow_refused` ones were admitted."""

    admitted: int = 0
    refused: int = 0
    shadow_refused: int = 0
    unavailable: int = 0


class Limiter:
    """The rules of one policy. The budgets outlive the policy."""

    def __init__(self, rules: Iterable[LimitRule], budgets: Budgets) -> None:
        self._rules = tuple(compile_rule(rule) for rule in rules)
        self._budgets = budgets
        self.counts = {rule.name: RuleCounts() for rule in self._rules}

    def keep_counts(self, counts: Mapping[str, RuleCounts]) -> None:
        """Continue the counts of rules with the same names."""
        self.counts |= {name: found for name, found in counts.items() if name in self.counts}

    def check(self, now: float, view: RequestView) -> LimitVerdict | Awaitable[LimitVerdict]:
        """Judge a request at `now` (seconds), and charge it if it is admitted.

        The verdict must be awaited only where tokens must be fetched from a store.
        """
        rules = [rule for rule in self._rules if rule.applies(view)]
        if not rules:
            return UNLIMITED
        charges = [Charge(rule.limit, rule.key(view), rule.cost(view)) for rule in rules]
        micros = int(now * MICROS_PER_SECOND)
        pending = fetch_missing(self._budgets, micros, charges)
        if pending:
            return self._judge_later(micros, rules, charges, pending)
        return self._judge(micros, rules, charges)

    async def _judge_later(
        self, now: int, rules: list[Rule], charges: list[Charge], pending: list[Awaitable[None]]
    ) -> LimitVerdict:
        now = await wait_for_tokens(self._budgets, now, charges, pending)
        return self._judge(now, rules, charges)

    def _judge(self, now: int, rules: list[Rule], charges: list[Charge]) -> LimitVerdict:
        budgets = self._budgets
        judged = [
            (rule, charge, budgets.state(now, charge.limit, charge.key, charge.cost))
            for rule, charge in zip(rules, charges, strict=True)
        ]
        enforced = [each for each in judged if not each[0].shadow]
        refusals = [each for each in enforced if not each[2].admits]
        if refusals:
            rule, charge, state = max(refusals, key=lambda each: each[2].wait)
            counts = self.counts[rule.name]
            counts.refused += 1
            counts.unavailable += state.unavailable
            return _verdict(rule, charge, state, admitted=False)
        for rule, charge, state in judged:
            counts = self.counts[rule.name]
            if state.admits:
                budgets.spend(now, charge.limit, charge.key, charge.cost)
                counts.admitted += 1
            else:
                counts.shadow_refused += 1
        if not enforced:
            return UNLIMITED
        return _verdict(*min(enforced, key=_share_left), admitted=True)


def _share_left(judged: tuple[Rule, Charge, BudgetState]) -> float:
    _, charge, state = judged
    return (state.remaining - charge.cost) / charge.limit.capacity


def _verdict(rule: Rule, charge: Charge, state: BudgetState, *, admitted: bool) -> LimitVerdict:
    paid = charge.cost if admitted else 0
    return LimitVerdict(
        admitted=admitted,
        rule=rule.name,
        limit=charge.limit.capacity,
        remaining=max(0, state.remaining - paid),
        reset_seconds=math.ceil(state.reset / MICROS_PER_SECOND),
        retry_after=0 if admitted else max(1, math.ceil(state.wait / MICROS_PER_SECOND)),
        window=rule.window,
        unavailable=state.unavailable,
    )
