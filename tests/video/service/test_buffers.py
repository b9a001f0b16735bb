"""Buffers between a stream and a client: bounded, in order, and with an end."""

import asyncio

import pytest

from protos.video_pb2 import AnalysisResult, Summary, Watched
from video.service.buffers import UploadBuffer, WatchBuffer

pytestmark = pytest.mark.anyio


def event(number: int) -> AnalysisResult:
    return AnalysisResult(frame=number)


def numbers(events: list[AnalysisResult]) -> list[int]:
    return [each.frame for each in events]


async def test_an_upload_is_not_ready_while_its_client_does_not_read() -> None:
    buffer = UploadBuffer(max_events=2)
    buffer.put(event(0), None)
    assert buffer.ready()
    buffer.put(event(1), None)
    assert not buffer.ready()
    waiting = asyncio.create_task(buffer.wait_ready())
    buffer.put(event(2), None)
    assert numbers(await buffer.next_events()) == [0, 1, 2]
    await asyncio.wait_for(waiting, 5)


async def test_an_upload_has_a_bound_on_bytes_too() -> None:
    buffer = UploadBuffer(max_bytes=100)
    buffer.put(AnalysisResult(id="x" * 200), None)
    assert not buffer.ready()
    await buffer.next_events()
    assert buffer.ready()


async def test_nothing_comes_after_the_summary() -> None:
    buffer = UploadBuffer()
    buffer.put(event(0), None)
    buffer.put(AnalysisResult(end=Summary()), None)
    assert len(await buffer.next_events()) == 2
    assert await buffer.next_events() == []


async def test_a_watcher_that_does_not_read_loses_the_oldest_events() -> None:
    buffer = WatchBuffer(max_events=3)
    for number in range(10):
        buffer.put(event(number), None)
        assert buffer.ready()
    assert numbers(await buffer.next_events()) == [7, 8, 9]
    assert buffer.dropped == 7


async def test_a_watcher_gets_a_large_event_also_if_it_is_over_the_bound() -> None:
    buffer = WatchBuffer(max_bytes=100)
    for number in range(3):
        buffer.put(AnalysisResult(frame=number, id="x" * 200), None)
    assert numbers(await buffer.next_events()) == [2]


async def test_a_watcher_gets_the_events_of_another_worker_also_after_a_summary() -> None:
    buffer = WatchBuffer()
    buffer.take(Watched(events=[event(0), AnalysisResult(frame=1, end=Summary()), event(2)]))
    assert numbers(await buffer.next_events()) == [0, 1, 2]
    buffer.close()
    assert await buffer.next_events() == []
