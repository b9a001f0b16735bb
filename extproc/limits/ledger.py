"""A bounded number of budgets in memory.

When the ledger is full, it evicts the budget that was unused for the longest time. A key that is
new to the ledger may be an evicted key, so its budget starts as if all tokens had been spent at the
latest use of any evicted budget. Evictions therefore never admit more than the limit. They admit
less if that use is so recent that the new budget would not be full again.
"""

from collections import OrderedDict
from collections.abc import Sequence

from extproc.limits.arithmetic import NEVER, Budget, LeaseGrant, LeaseRequest, Limit, new_budget


class Ledger:
    """Budgets by key. Limits of different algorithms or units must have different keys."""

    def __init__(self, max_keys: int) -> None:
        self.evictions = 0
        """Budgets evicted so far."""
        self.max_keys = max_keys
        self._budgets: OrderedDict[str, Budget] = OrderedDict()
        self._used_until = NEVER

    def __len__(self) -> int:
        return len(self._budgets)

    def budget(self, now: int, limit: Limit, key: str) -> Budget:
        """Return the key's budget. It keeps its state if rate or burst have changed."""
        budget = self._budgets.get(key)
        if budget is None:
            while len(self._budgets) >= self.max_keys:
                self._evict()
            budget = self._budgets[key] = new_budget(limit, now, self._used_until)
        else:
            self._budgets.move_to_end(key)
            budget.limit = limit
        return budget

    def exchange(self, now: int, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Settle the requests in order, all at the same time."""
        return [
            self.budget(now, request.limit, request.key).exchange(now, request)
            for request in requests
        ]

    def _evict(self) -> None:
        _, evicted = self._budgets.popitem(last=False)
        self._used_until = max(self._used_until, evicted.last_use())
        self.evictions += 1
