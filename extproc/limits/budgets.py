"""The interface of budgets that limiters use, and budgets in the memory of one process."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from extproc.limits.arithmetic import Budget, Limit
from extproc.limits.ledger import Ledger


# Not frozen: a frozen instance takes longer to make, and every request makes several.
@dataclass(slots=True)
class BudgetState:
    """State of a budget for one request. `wait` and `reset` are microseconds from now.

    `unavailable`: the state is unknown, because the backend does not respond.
    """

    admits: bool
    remaining: int
    wait: int
    reset: int
    unavailable: bool = False


class Budgets(Protocol):
    """Budgets by key. A request fetches tokens, reads the state and then spends them.

    `now` is in microseconds, `cost` in tokens.
    """

    @property
    def available(self) -> bool | None:
        """Whether the backend responded to the latest exchange; None for budgets in memory."""

    @property
    def evictions(self) -> int:
        """Budgets of this process that were evicted to make room."""

    def fetch(self, now: int, limit: Limit, key: str, cost: int) -> Awaitable[None] | None:
        """Fetch missing tokens. Await the result, if any, before calling `state`."""

    def state(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        """Return the state. It admits a cost of 0 only if at least one token is left."""

    async def peek(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        """Return the state for a request that would take `cost` tokens, and take none."""

    def spend(self, now: int, limit: Limit, key: str, cost: int) -> None:
        """Spend tokens. Call it after a `state` that admits, without an `await` in between."""

    def drain(self, now: int, limit: Limit, key: str) -> None:
        """Spend all tokens that this process has. Call it after a `state` that does not admit."""


class LocalBudgets:
    """Budgets of one process. They are exact, and no request waits for them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @property
    def available(self) -> None:
        """None: there is no backend."""

    @property
    def evictions(self) -> int:
        return self._ledger.evictions

    def fetch(self, now: int, limit: Limit, key: str, cost: int) -> None:
        """Do nothing: all tokens are in this process."""

    def state(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        return _state(self._ledger.budget(now, limit, key), now, cost)

    async def peek(self, now: int, limit: Limit, key: str, cost: int) -> BudgetState:
        return _state(self._ledger.peek(now, limit, key), now, cost)

    def spend(self, now: int, limit: Limit, key: str, cost: int) -> None:
        self._ledger.budget(now, limit, key).take(now, cost)

    def drain(self, now: int, limit: Limit, key: str) -> None:
        budget = self._ledger.budget(now, limit, key)
        budget.take(now, budget.free(now))


def _state(budget: Budget, now: int, cost: int) -> BudgetState:
    free = budget.free(now)
    needed = max(1, cost)
    return BudgetState(free >= needed, free, budget.wait(now, needed), budget.reset(now))
