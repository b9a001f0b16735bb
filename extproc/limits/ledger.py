"""Budgets in memory, a bounded number of them, without forgetting in anybody's favour.

When the table is full, the budget unused for longest makes room. Its past is then unknown, so a
budget that is new to the ledger starts as if it had been used up until the latest time at which a
forgotten one was in use: the promise of `arithmetic` holds whatever is evicted, and costs nothing
while the table is large enough for the keys of one unit of time.
"""

from collections import OrderedDict
from collections.abc import Sequence

from extproc.limits.arithmetic import NEVER, Budget, LeaseGrant, LeaseRequest, Limit, budget


class Ledger:
    """Budgets by key. A key must not be used with limits of different algorithms or units."""

    def __init__(self, max_keys: int) -> None:
        self.evictions = 0
        """Budgets forgotten to make room."""
        self.max_keys = max_keys
        self._budgets: OrderedDict[str, Budget] = OrderedDict()
        self._used_until = NEVER

    def __len__(self) -> int:
        return len(self._budgets)

    def budget(self, now: int, limit: Limit, key: str) -> Budget:
        """The key's budget; a changed rate or burst takes effect on what is already there."""
        found = self._budgets.get(key)
        if found is None:
            while len(self._budgets) >= self.max_keys:
                self._evict()
            found = self._budgets[key] = budget(limit, now, self._used_until)
        else:
            self._budgets.move_to_end(key)
            found.limit = limit
        return found

    def exchange(self, now: int, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Settle requests one after the other, at one time."""
        return [self.budget(now, ask.limit, ask.key).exchange(now, ask) for ask in requests]

    def _evict(self) -> None:
        _, forgotten = self._budgets.popitem(last=False)
        self._used_until = max(self._used_until, forgotten.last_use())
        self.evictions += 1
