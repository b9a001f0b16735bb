"""Stage of the decision: the limit rules.

A request is admitted if every rule that applies admits it; shadow rules only count. Only an
admitted request takes tokens. There is no `await` between the check and the spending of the tokens,
so no other request can take the same tokens.
"""

import math
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass

from extproc.limits.arithmetic import MICROS_PER_SECOND
from extproc.limits.budgets import Budgets, BudgetState
from extproc.limits.costs import BudgetCost, fetch_missing, wait_for_tokens
from extproc.limits.key_shares import KeyShares
from extproc.limits.rules import RequestView, Rule, compile_rule
from sluice.config.limits import LimitRule

DEFAULT_MAX_KEYS = 100_000


@dataclass(slots=True)
class LimitVerdict:
    """The verdict on a request, with the state of the strictest rule that applies to it.

    The strictest rule is the one that refuses for the longest time. If none refuses, it is the rule
    with the smallest share of its tokens left. `rule` is None if only shadow rules apply, or none.
    `window` is the time in which an empty budget fills up. Times are whole seconds, rounded up.
    `unavailable`: the request is refused because the backend does not respond and `fail` is
    `closed`, and not because a limit is reached.
    """

    admitted: bool
    rule: str | None = None
    limit: int = 0
    remaining: int = 0
    reset_seconds: int = 0
    retry_after: int = 0
    window: int = 0
    unavailable: bool = False


@dataclass(frozen=True, slots=True)
class RuleState:
    """The present state of a rule for a request that would take `cost` of its tokens.

    `admits` is whether the rule would admit the request. `retry_after` is in seconds, and 0 if it
    would. `unavailable` as in `LimitVerdict`.
    """

    name: str
    shadow: bool
    admits: bool
    unavailable: bool
    limit: int
    remaining: int
    cost: int
    retry_after: int


UNLIMITED = LimitVerdict(admitted=True)


@dataclass(slots=True)
class RuleCounts:
    """Requests of one rule, for metrics; never reset.

    `shadow_refused` requests were admitted. `unavailable` requests are a part of `refused`.
    """

    admitted: int = 0
    refused: int = 0
    shadow_refused: int = 0
    unavailable: int = 0


class Limiter:
    """The rules of one policy. The budgets outlive the policy."""

    def __init__(
        self,
        rules: Iterable[LimitRule],
        budgets: Budgets,
        max_keys: int = DEFAULT_MAX_KEYS,
        workers: int = 1,
    ) -> None:
        """`max_keys` is the number of budgets that each process, or the supervisor, keeps."""
        self._rules = tuple(compile_rule(rule) for rule in rules)
        chosen = sum(rule.client_chosen for rule in self._rules)
        self._shares = KeyShares(max_keys, chosen, workers)
        self._budgets = budgets
        self.counts = {rule.name: RuleCounts() for rule in self._rules}

    def keep_counts(self, counts: Mapping[str, RuleCounts]) -> None:
        """Continue the counts of rules with the same names."""
        self.counts |= {name: found for name, found in counts.items() if name in self.counts}

    def keep_shares(self, previous: "Limiter") -> None:
        """Continue the shares of clients. `previous` has the same budgets."""
        self._shares.keep(previous._shares)

    def check(self, now: float, view: RequestView) -> LimitVerdict | Awaitable[LimitVerdict]:
        """Check a request at `now` (seconds), and spend its tokens if it is admitted.

        Returns an awaitable only if tokens must be fetched from a store.
        """
        rules = [rule for rule in self._rules if rule.applies(view)]
        if not rules:
            return UNLIMITED
        micros = int(now * MICROS_PER_SECOND)
        costs = [
            BudgetCost(rule.limit, self._key(micros, rule, view), rule.cost(view)) for rule in rules
        ]
        pending = fetch_missing(self._budgets, micros, costs)
        if pending:
            return self._decide_later(micros, rules, costs, pending)
        return self._decide(micros, rules, costs)

    async def inspect(self, now: float, view: RequestView) -> list[RuleState]:
        """The states of the rules that apply to a request. Takes no tokens, and counts nothing."""
        micros = int(now * MICROS_PER_SECOND)
        found = []
        for rule in self._rules:
            if rule.applies(view):
                key, tokens = rule.key(view), rule.cost(view)
                if rule.client_chosen:
                    key = self._shares.current_key(micros, view.owner, rule, key)
                state = await self._budgets.peek(micros, rule.limit, key, tokens)
                found.append(_rule_state(rule, tokens, state))
        return found

    def _key(self, now: int, rule: Rule, view: RequestView) -> str:
        key = rule.key(view)
        return self._shares.key(now, view.owner, rule, key) if rule.client_chosen else key

    async def _decide_later(
        self, now: int, rules: list[Rule], costs: list[BudgetCost], pending: list[Awaitable[None]]
    ) -> LimitVerdict:
        now = await wait_for_tokens(self._budgets, now, costs, pending)
        return self._decide(now, rules, costs)

    def _decide(self, now: int, rules: list[Rule], costs: list[BudgetCost]) -> LimitVerdict:
        budgets = self._budgets
        checked = [
            (rule, cost, budgets.state(now, cost.limit, cost.key, cost.tokens))
            for rule, cost in zip(rules, costs, strict=True)
        ]
        enforced = [each for each in checked if not each[0].shadow]
        refusals = [each for each in enforced if not each[2].admits]
        if refusals:
            rule, cost, state = max(refusals, key=lambda each: each[2].wait)
            counts = self.counts[rule.name]
            counts.refused += 1
            counts.unavailable += state.unavailable
            return _verdict(rule, cost, state, admitted=False)
        for rule, cost, state in checked:
            counts = self.counts[rule.name]
            if state.admits:
                budgets.spend(now, cost.limit, cost.key, cost.tokens)
                counts.admitted += 1
            else:
                counts.shadow_refused += 1
        if not enforced:
            return UNLIMITED
        return _verdict(*min(enforced, key=_share_left), admitted=True)


def _share_left(checked: tuple[Rule, BudgetCost, BudgetState]) -> float:
    _, cost, state = checked
    return (state.remaining - cost.tokens) / cost.limit.capacity


def _verdict(rule: Rule, cost: BudgetCost, state: BudgetState, *, admitted: bool) -> LimitVerdict:
    spent = cost.tokens if admitted else 0
    return LimitVerdict(
        admitted=admitted,
        rule=rule.name,
        limit=cost.limit.capacity,
        remaining=max(0, state.remaining - spent),
        reset_seconds=math.ceil(state.reset / MICROS_PER_SECOND),
        retry_after=0 if admitted else _retry_after(state),
        window=rule.window,
        unavailable=state.unavailable,
    )


def _rule_state(rule: Rule, tokens: int, state: BudgetState) -> RuleState:
    return RuleState(
        name=rule.name,
        shadow=rule.shadow,
        admits=state.admits,
        unavailable=state.unavailable,
        limit=rule.limit.capacity,
        remaining=state.remaining,
        cost=tokens,
        retry_after=0 if state.admits else _retry_after(state),
    )


def _retry_after(state: BudgetState) -> int:
    return max(1, math.ceil(state.wait / MICROS_PER_SECOND))
