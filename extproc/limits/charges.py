"""What one request is to pay, and the wait until all of it can be judged at once."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from extproc.limits.arithmetic import Limit
from extproc.limits.leases import MICRO, Budgets

MAX_ROUNDS = 4
"""Fetches one request may await: the second when others took what the first brought."""


@dataclass(slots=True)
class Charge:
    """`cost` tokens of one budget."""

    limit: Limit
    key: str
    cost: int


def waiting(budgets: Budgets, now: int, charges: Sequence[Charge]) -> list[Awaitable[None]]:
    """What has to be awaited before the charges can be judged; usually nothing."""
    found = [budgets.ready(now, charge.limit, charge.key, charge.cost) for charge in charges]
    return [each for each in found if each is not None]


async def until_ready(
    budgets: Budgets, now: int, charges: Sequence[Charge], pending: list[Awaitable[None]]
) -> int:
    """Await what `waiting` found, and what it finds then, and return the time as it is after."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(MAX_ROUNDS):
        await asyncio.gather(*pending)
        passed = int((loop.time() - started) * MICRO)
        pending = waiting(budgets, now + passed, charges)
        if not pending:
            break
    return now + passed
