"""The queue between the event loop and the source thread."""

import asyncio
import threading
import time

import pytest

from sluice.contract.video import VideoReason
from video.source import SourceError
from video.sources import ByteQueue

pytestmark = pytest.mark.anyio


def _read_all(queue: ByteQueue, size: int) -> list[bytes]:
    return list(iter(lambda: queue.read(size), b""))


async def test_the_thread_reads_all_bytes_in_order_and_never_more_than_it_asks_for() -> None:
    queue = ByteQueue(idle_timeout=5)
    reading = asyncio.create_task(asyncio.to_thread(_read_all, queue, 7))
    for chunk in (b"a" * 20, b"", b"b", b"c" * 7):
        assert await queue.put(chunk)
    queue.end()
    parts = await reading
    assert b"".join(parts) == b"a" * 20 + b"b" + b"c" * 7
    assert max(map(len, parts)) == 7
    assert queue.received == 28


async def test_put_waits_while_the_queue_is_full() -> None:
    queue = ByteQueue(idle_timeout=5, capacity=10)
    assert await queue.put(b"x" * 10)
    putting = asyncio.create_task(queue.put(b"y"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not putting.done()
    assert queue.read(3) == b"xxx"
    assert await asyncio.wait_for(putting, 5)


async def test_a_read_without_bytes_ends_with_idle() -> None:
    queue = ByteQueue(idle_timeout=0.01)
    with pytest.raises(SourceError) as error:
        queue.read(1)
    assert error.value.reason is VideoReason.IDLE


async def test_a_failed_upload_fails_after_its_bytes() -> None:
    queue = ByteQueue(idle_timeout=5)
    await queue.put(b"abc")
    queue.fail(VideoReason.CLIENT_LEFT, "the client closed the connection")
    assert queue.read(10) == b"abc"
    with pytest.raises(SourceError, match="the client closed the connection"):
        queue.read(10)


async def test_close_ends_a_blocked_read_and_a_blocked_put() -> None:
    queue = ByteQueue(idle_timeout=60, capacity=10)
    reading = threading.Thread(target=_read_all, args=(queue, 10))
    reading.start()
    queue.close()
    reading.join(5)
    assert not reading.is_alive()
    assert not await queue.put(b"x")

    full = ByteQueue(idle_timeout=60, capacity=10)
    putting = asyncio.create_task(full.put(b"x" * 11))
    await asyncio.sleep(0)
    await asyncio.to_thread(full.close)
    assert not await asyncio.wait_for(putting, 5)


async def test_the_queue_is_fast_enough_for_many_cameras() -> None:
    queue = ByteQueue(idle_timeout=5)
    reading = asyncio.create_task(asyncio.to_thread(_read_all, queue, 1 << 16))
    began = time.monotonic()
    for _ in range(2000):
        await queue.put(bytes(1 << 14))
    queue.end()
    await reading
    assert time.monotonic() - began < 5
