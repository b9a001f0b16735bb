"""Waits for the first of several events."""

import asyncio
from collections.abc import Awaitable


async def ends_first(first: Awaitable[object], *others: Awaitable[object]) -> bool:
    """Await all until one ends, and cancel the others. Returns whether `first` has ended.

    A task that must go on is given as `asyncio.shield(task)`. Raises the exception of one that has
    ended.
    """
    tasks = [asyncio.ensure_future(each) for each in (first, *others)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return tasks[0] in done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
