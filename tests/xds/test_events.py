"""Events are numbered, kept up to a bound, and read without a wait for slow readers."""

import asyncio

import pytest

from xds.events import Event, Events, MissedError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def read(events: Events, after: int, count: int) -> list[Event]:
    found: list[Event] = []
    async for event in events.after(after):
        found.append(event)
        if len(found) == count:
            break
    return found


async def test_a_reader_gets_old_and_new_events_in_order() -> None:
    events = Events(lambda: 5.0)
    events.emit("node", node="a")
    reader = asyncio.create_task(read(events, 0, 3))
    await asyncio.sleep(0)
    events.emit("nack", node="a")
    events.emit("node", node="b")
    found = await reader
    assert [(each.number, each.kind, each.at) for each in found] == [
        (1, "node", 5.0), (2, "nack", 5.0), (3, "node", 5.0)
    ]  # fmt: skip
    assert found[2].data == {"node": "b"}
    assert [each.number for each in await read(events, 2, 1)] == [3]


async def test_a_reader_that_is_too_slow_misses_events() -> None:
    events = Events(capacity=3)
    for _ in range(5):
        events.emit("node")
    assert (events.oldest, events.last) == (3, 5)
    assert [each.number for each in await read(events, 2, 3)] == [3, 4, 5]
    with pytest.raises(MissedError):
        await read(events, 1, 1)


async def test_a_reader_falls_behind_while_it_reads() -> None:
    events = Events(capacity=3)
    events.emit("node")
    stream = events.after(0)
    assert (await anext(stream)).number == 1
    for _ in range(4):
        events.emit("node")
    with pytest.raises(MissedError):
        await anext(stream)


async def test_readers_end_after_the_last_event() -> None:
    events = Events()
    waiting = asyncio.create_task(_all(events))
    await asyncio.sleep(0)
    events.emit("node")
    events.close()
    assert await waiting == await _all(events) == [1]


async def _all(events: Events) -> list[int]:
    return [event.number async for event in events.after(0)]


async def test_each_reader_gets_every_event() -> None:
    events = Events()
    readers = [asyncio.create_task(read(events, 0, 2)) for _ in range(5)]
    await asyncio.sleep(0)
    events.emit("node")
    events.emit("node")
    assert [len(each) for each in await asyncio.gather(*readers)] == [2] * 5
