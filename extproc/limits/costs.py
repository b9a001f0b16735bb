"""The costs of one request, and the wait for the tokens that are missing in this process."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from extproc.limits.arithmetic import MICROS_PER_SECOND, Limit
from extproc.limits.budgets import Budgets

MAX_FETCHES = 4
"""Fetches for one request. A second one is needed if other requests took the fetched tokens."""


@dataclass(slots=True)
class BudgetCost:
    """The tokens that a request takes from one budget."""

    limit: Limit
    key: str
    tokens: int


def fetch_missing(budgets: Budgets, now: int, costs: Sequence[BudgetCost]) -> list[Awaitable[None]]:
    """Fetch missing tokens. Returns the fetches to await, usually none."""
    fetches = [budgets.fetch(now, cost.limit, cost.key, cost.tokens) for cost in costs]
    return [fetch for fetch in fetches if fetch is not None]


async def wait_for_tokens(
    budgets: Budgets, now: int, costs: Sequence[BudgetCost], pending: list[Awaitable[None]]
) -> int:
    """Await `pending` and the fetches needed after it. Returns the time after the last one."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(MAX_FETCHES):
        await asyncio.gather(*pending)
        elapsed = int((loop.time() - started) * MICROS_PER_SECOND)
        pending = fetch_missing(budgets, now + elapsed, costs)
        if not pending:
            break
    return now + elapsed
