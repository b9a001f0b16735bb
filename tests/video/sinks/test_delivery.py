"""The delivery of events: in order, at least once, with bounds, and with an error that says why."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.video_pb2 import AnalysisResult
from tests.video.sinks.events import delivered, event, failing, until
from video.sinks.backoff import FIRST_DELAY, MAX_DELAY, MAX_RETRY_AFTER, Backoff
from video.sinks.delivery import Sink
from video.sinks.event_queue import MAX_MEMORY, MemoryQueue
from video.sinks.transport import DeliveryError, StoredEvent


class Receiver:
    """A receiver that can be down. It keeps what it gets."""

    max_events = 10
    max_bytes = 1000

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.attempts = 0
        self.up = asyncio.Event()
        self.failure: Exception | None = None
        self.closed = False

    @property
    def received(self) -> list[str]:
        return [each for batch in self.batches for each in batch]

    def encode(self, result: AnalysisResult) -> bytes:
        return result.SerializeToString()

    async def send(self, batch: Sequence[StoredEvent]) -> None:
        self.attempts += 1
        if self.failure is not None:
            raise self.failure
        await self.up.wait()
        self.batches.append([each.id for each in batch])

    async def close(self) -> None:
        self.closed = True


def ids(first: int, end: int) -> list[str]:
    return [event(number).id for number in range(first, end)]


def test_events_are_delivered_in_order_and_in_batches() -> None:
    async def run() -> None:
        receiver = Receiver()
        sink = Sink("0-test", "door", receiver, MemoryQueue(1000))
        await sink.start()
        sink.put(event(0), None)
        await until(lambda: receiver.attempts)
        for number in range(1, 25):
            sink.put(event(number), None)
        assert sink.status().waiting == 25
        receiver.up.set()
        await sink.stop(10)
        assert receiver.received == ids(0, 25)
        assert [len(batch) for batch in receiver.batches] == [1, 10, 10, 4]
        assert receiver.closed
        state = sink.status()
        assert (state.name, state.delivered, state.waiting, state.error) == ("0-test", 25, 0, "")

    asyncio.run(run())


def test_a_sink_is_not_ready_while_its_buffer_is_full() -> None:
    async def run() -> None:
        receiver = Receiver()
        sink = Sink("0-test", "door", receiver, MemoryQueue(2))
        await sink.start()
        sink.put(event(0), None)
        assert sink.ready()
        sink.put(event(1), None)
        assert not sink.ready()
        sink.put(event(2), None)  # a frame that already had a slot
        waiting = asyncio.create_task(sink.wait_ready())
        await until(lambda: receiver.attempts)
        assert not waiting.done()
        receiver.up.set()
        await asyncio.wait_for(waiting, 10)
        assert sink.ready()
        await sink.stop(10)
        assert receiver.received == ids(0, 3)

    asyncio.run(run())


def test_a_buffer_is_full_also_by_its_bytes() -> None:
    queue = MemoryQueue(1000)
    queue.append(StoredEvent("a", bytes(MAX_MEMORY - 1)))
    assert not queue.full
    queue.append(StoredEvent("b", b"1"))
    assert queue.full
    queue.confirm(1)
    assert not queue.full


def test_the_same_batch_is_repeated_after_a_failure() -> None:
    async def run() -> None:
        receiver = Receiver()
        receiver.up.set()
        receiver.failure = DeliveryError("the receiver is down")
        sink = Sink("0-test", "door", receiver, MemoryQueue(1000))
        await sink.start()
        sink.put(event(0), None)
        assert await failing(sink) == "the receiver is down"
        sink.put(event(1), None)
        receiver.failure = None
        await delivered(sink, 2)
        assert receiver.batches == [ids(0, 1), ids(1, 2)]
        assert sink.status().error == ""
        await sink.stop(1)

    asyncio.run(run())


def test_a_fault_of_a_transport_is_repeated_and_shown_without_its_text() -> None:
    async def run() -> None:
        receiver = Receiver()
        receiver.up.set()
        receiver.failure = KeyError("a secret")
        sink = Sink("0-test", "door", receiver, MemoryQueue(1000))
        await sink.start()
        sink.put(event(0), None)
        assert await failing(sink) == "internal error (KeyError)"
        receiver.failure = None
        await delivered(sink, 1)
        await sink.stop(1)

    asyncio.run(run())


def test_an_error_is_printable_and_short() -> None:
    async def run() -> None:
        receiver = Receiver()
        receiver.failure = DeliveryError("\x1b[31m\n" + "x" * 10_000)
        sink = Sink("0-test", "door", receiver, MemoryQueue(1000))
        await sink.start()
        sink.put(event(0), None)
        error = await failing(sink)
        assert error.isprintable()
        assert len(error) <= 300
        await sink.stop(0)

    asyncio.run(run())


def test_a_stop_ends_a_long_delay_and_sends_once_more() -> None:
    async def run() -> None:
        receiver = Receiver()
        receiver.up.set()
        receiver.failure = DeliveryError("come back later", retry_after=MAX_RETRY_AFTER)
        sink = Sink("0-test", "door", receiver, MemoryQueue(1000))
        await sink.start()
        sink.put(event(0), None)
        await failing(sink)
        receiver.failure = None
        await asyncio.wait_for(sink.stop(60), 20)
        assert receiver.received == ids(0, 1)

    asyncio.run(run())


def test_a_stop_gives_up_after_its_time() -> None:
    async def run() -> None:
        receiver = Receiver()
        sink = Sink("0-test", "door", receiver, MemoryQueue(1000))
        await sink.start()
        sink.put(event(0), None)
        await asyncio.wait_for(sink.stop(0.05), 20)
        assert sink.status().waiting == 1
        assert receiver.closed

    asyncio.run(run())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0, 10_000))
def test_delays_grow_to_a_maximum(shares: list[float], retry_after: float) -> None:
    backoff = Backoff()
    delays = [backoff.delay(share) for share in shares]
    for i, delay in enumerate(delays):
        whole = min(FIRST_DELAY * 2**i, MAX_DELAY)
        assert whole / 2 <= delay <= whole
    asked = backoff.delay(0, retry_after)
    assert min(retry_after, MAX_RETRY_AFTER) <= asked <= MAX_RETRY_AFTER
    backoff.reset()
    assert backoff.delay(1) == pytest.approx(FIRST_DELAY)
