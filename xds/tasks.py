"""The tasks of the control plane run until a signal. If one ends before, all of them end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class EndedError(Exception):
    """A task has ended before the signal, without an error of its own."""


async def run_until(
    stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]], end: Callable[[], Awaitable[None]]
) -> None:
    """Wait for the stop signal, and call `end`. Then the tasks are cancelled.

    If a task ends before the signal, raises its exception, or EndedError with its name.
    """
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if (error := task.exception()) is not None:
                raise _first(error)
        if not stop.is_set():
            names = ", ".join(sorted(task.get_name() for task in done))
            raise EndedError(f"{names} has ended unexpectedly")
        await end()
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)


def _first(error: BaseException) -> BaseException:
    """The first error of a group, which a TaskGroup makes of an error in one of its tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
