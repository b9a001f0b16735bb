"""A bounded number of budgets in memory.

When the ledger is full, it evicts the budget that was unused for the longest time. If all tokens of
the budget are free, nothing is lost. Otherwise, the ledger keeps the time of its latest use. If the
key returns, its budget starts as if all tokens had been spent at that time. Evictions therefore
never admit more than the limit. They may admit less for a key that was evicted, and hardly ever for
another key.
"""

from collections import OrderedDict
from collections.abc import Sequence

from extproc.limits.arithmetic import Budget, LeaseGrant, LeaseRequest, Limit, new_budget
from extproc.limits.evicted_uses import EvictedUses


class Ledger:
    """Budgets by key. Limits of different algorithms or units must have different keys."""

    def __init__(self, max_keys: int) -> None:
        self.evictions = 0
        """Budgets evicted so far, of which not all tokens were free."""
        self.max_keys = max_keys
        self._budgets: OrderedDict[str, Budget] = OrderedDict()
        self._evicted = EvictedUses()

    def __len__(self) -> int:
        return len(self._budgets)

    def budget(self, now: int, limit: Limit, key: str) -> Budget:
        """Return the key's budget. It keeps its state if rate or burst have changed."""
        budget = self._budgets.get(key)
        if budget is None:
            while len(self._budgets) >= self.max_keys:
                self._evict(now)
            budget = self._budgets[key] = new_budget(limit, now, self._evicted.latest(key))
        else:
            self._budgets.move_to_end(key)
            budget.limit = limit
        return budget

    def peek(self, now: int, limit: Limit, key: str) -> Budget:
        """Return the key's budget, or a new one that is not kept. The caller must not change it."""
        budget = self._budgets.get(key)
        if budget is None:
            return new_budget(limit, now, self._evicted.latest(key))
        budget.limit = limit
        return budget

    def exchange(self, now: int, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Settle the requests in order, all at the same time."""
        return [
            self.budget(now, request.limit, request.key).exchange(now, request)
            for request in requests
        ]

    def _evict(self, now: int) -> None:
        key, evicted = self._budgets.popitem(last=False)
        if evicted.free(now) < evicted.limit.capacity:
            self._evicted.record(key, evicted.last_use())
            self.evictions += 1
