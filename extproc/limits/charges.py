"""The charges of one request, and the wait until all its budgets can be judged together."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from extproc.limits.arithmetic import MICROS_PER_SECOND, Limit
from extproc.limits.budgets import Budgets

MAX_FETCHES = 4
"""Fetches for one request. A second one is needed where other requests took the fetched tokens."""


@dataclass(slots=True)
class Charge:
    """`cost` tokens of one budget."""

    limit: Limit
    key: str
    cost: int


def fetch_missing(budgets: Budgets, now: int, charges: Sequence[Charge]) -> list[Awaitable[None]]:
    """Fetch the tokens that are missing; usually there are none. Returns what to await."""
    fetches = [budgets.fetch(now, charge.limit, charge.key, charge.cost) for charge in charges]
    return [fetch for fetch in fetches if fetch is not None]


async def wait_for_tokens(
    budgets: Budgets, now: int, charges: Sequence[Charge], pending: list[Awaitable[None]]
) -> int:
    """Await the fetches of `fetch_missing`, and those needed after them. Returns the time then."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(MAX_FETCHES):
        await asyncio.gather(*pending)
        elapsed = int((loop.time() - started) * MICROS_PER_SECOND)
        pending = fetch_missing(budgets, now + elapsed, charges)
        if not pending:
            break
    return now + elapsed
