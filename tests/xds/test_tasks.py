"""The control plane ends with the error of the task that fails first, or at a signal."""

import asyncio

import pytest

from xds.sources.store.store import StoreError
from xds.tasks import EndedError, run_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def forever() -> None:
    await asyncio.Event().wait()


async def nothing() -> None:
    """Ends at once."""


async def test_the_error_of_a_task_in_a_group_is_raised_as_it_is() -> None:
    async def fail() -> None:
        raise StoreError("the store is gone")

    async def group() -> None:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(forever())
            outer.create_task(fail())

    other = asyncio.create_task(forever())
    with pytest.raises(StoreError, match="the store is gone"):
        await run_until(asyncio.Event(), [other, asyncio.create_task(group())], nothing)
    assert other.cancelled()


async def test_a_task_that_ends_before_the_signal_is_an_error_with_its_name() -> None:
    tasks = [
        asyncio.create_task(forever(), name="rollout"),
        asyncio.create_task(nothing(), name="HTTP server"),
    ]
    with pytest.raises(EndedError, match="HTTP server has ended"):
        await run_until(asyncio.Event(), tasks, nothing)
    assert tasks[0].cancelled()


async def test_the_signal_ends_requests_and_then_the_tasks() -> None:
    stop, ended = asyncio.Event(), []
    task = asyncio.create_task(forever())

    async def end() -> None:
        ended.append(task.done())

    stop.set()
    await run_until(stop, [task], end)
    assert ended == [False]
    assert task.cancelled()
