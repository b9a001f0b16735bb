"""What the store keeps of a stage: its Envoys."""

import asyncio

import pytest

from xds.delivery.stage_record import StageRecord
from xds.rollout.stage import StageView
from xds.sources.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def view(begun: int | None, *nodes: str) -> StageView:
    return StageView("v", begun, begun, 0.1, nodes, 1.0)


async def written(record: StageRecord, begun: int, *nodes: str) -> None:
    """Wait until the record has these Envoys."""
    async with asyncio.timeout(60):
        while await record.nodes(begun) != frozenset(nodes):
            pass  # each read lets other tasks run


async def test_the_store_keeps_the_envoys_of_all_control_planes() -> None:
    store = SqliteStore()
    one, two = StageRecord(store), StageRecord(store)
    tasks = [asyncio.create_task(each.run()) for each in (one, two)]
    one.on_stage(view(7, "a"))
    await written(two, 7, "a")
    two.on_stage(view(7, "b"))
    await written(one, 7, "a", "b")
    assert await one.nodes(6) == frozenset()
    one.on_stage(view(8, "c"))
    await written(two, 8, "c")
    assert await one.nodes(7) == frozenset()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()
