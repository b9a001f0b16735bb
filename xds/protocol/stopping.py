"""Runs the tasks of a stream until one of them ends, or until the server stops."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def until_stopping(stopping: asyncio.Event, *work: Coroutine[object, object, T]) -> T | None:
    """Run `work` until a part of it ends, and cancel the rest. None if the server stops first.

    Returns the result of the part that has ended, or raises its exception. Keeps no task, as the
    exception of one may hold a message.
    """
    tasks = [asyncio.create_task(each) for each in work]
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        results = [task.result() for task in tasks if task.done()]
        return results[0] if results else None
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)
        tasks.clear()
