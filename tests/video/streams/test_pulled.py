"""A camera is connected again after each end, with growing delays, and its counts go on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from sluice.contract.video import VideoReason
from tests.video.gateway_server import HeldAnswers, gateway_server
from tests.video.memory_source import MemorySource, failing, of_numbers
from tests.video.streams_kit import MemoryOutput, settings, stream_parts, until
from video.source import FrameSource
from video.streams.parts import StreamParts
from video.streams.pulled import PulledStream
from video.streams.status import StreamState
from video.streams.stream import Stream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeSleep:
    """Returns at once, and keeps the delays. After `last` delays it sleeps forever."""

    def __init__(self, last: int) -> None:
        self.delays: list[float] = []
        self._last = last

    async def __call__(self, delay: float) -> None:
        self.delays.append(delay)
        if len(self.delays) >= self._last:
            await asyncio.Event().wait()


@asynccontextmanager
async def pulled(
    parts: StreamParts, stream: Stream, sources: Sequence[FrameSource], sleep: FakeSleep
) -> AsyncIterator[None]:
    """Run a camera with these sources, one for each connection."""
    left = iter(sources)
    camera = PulledStream(stream, lambda: next(left), (), sleep)
    running = asyncio.create_task(camera.run())
    try:
        yield
    finally:
        camera.stop(1.0)
        await running


async def test_a_camera_that_comes_back_is_connected_again() -> None:
    sources = [of_numbers(2), failing(VideoReason.UNREACHABLE, "no route"), of_numbers(3)]
    sleep, output = FakeSleep(last=3), MemoryOutput()
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(overload="wait"), parts, upload=False)
        stream.add_output(output)
        async with pulled(parts, stream, sources, sleep):
            await until(lambda: len(sleep.delays) == 3)
            status = stream.status()
    assert output.texts() == [b"0", b"1", b"0", b"1", b"2"]
    assert status.state is StreamState.WAITING
    assert (status.counts.frames, status.counts.results, status.counts.reconnects) == (5, 5, 2)
    assert status.counts.in_flight == 0
    assert stream.status().state is StreamState.STOPPED


async def test_only_connections_with_frames_have_a_summary() -> None:
    sources = [failing(VideoReason.UNREACHABLE, "no route"), of_numbers(1)]
    sleep, output = FakeSleep(last=2), MemoryOutput()
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(overload="wait"), parts, upload=False)
        stream.add_output(output)
        async with pulled(parts, stream, sources, sleep):
            await until(lambda: len(sleep.delays) == 2)
    assert [event.HasField("end") for event in output.events] == [False, True]


async def test_the_status_says_why_a_camera_does_not_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sources = [failing(VideoReason.UNREACHABLE, "no route") for _ in range(4)]
    sleep = FakeSleep(last=4)
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(), parts, upload=False)
        async with pulled(parts, stream, sources, sleep):
            await until(lambda: len(sleep.delays) == 4)
            assert stream.status().error == "unreachable: no route"
    assert sleep.delays == sorted(sleep.delays)
    assert sleep.delays[-1] > 2 * sleep.delays[0]
    # The attempts that follow fail for the same reason.
    assert [record.getMessage() for record in caplog.records] == [
        "stream door: connects again: unreachable: no route"
    ]


async def test_a_camera_that_stalls_is_connected_again() -> None:
    stalled, sleep = MemorySource(), FakeSleep(last=1)
    stalled.deliver(0)
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(stall_timeout=0.1), parts, upload=False)
        async with pulled(parts, stream, [stalled], sleep):
            await until(lambda: len(sleep.delays) == 1)
            assert stream.status().error == "idle: no frame came for 0.1 s"
    assert stalled.closed.is_set()


async def test_a_camera_that_waits_for_the_model_does_not_stall() -> None:
    held, source, sleep = HeldAnswers(), MemorySource(), FakeSleep(last=1)
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(overload="wait", stall_timeout=0.1), parts, upload=False)
        output = MemoryOutput()
        stream.add_output(output)
        async with pulled(parts, stream, [source], sleep):
            source.deliver(*range(30))
            await until(stream.holds_up_source)
            await asyncio.sleep(0.3)
            assert sleep.delays == []
            held.release(*range(30))
            await until(lambda: len(output.texts()) == 30)


async def test_a_stop_ends_the_wait_for_a_connection() -> None:
    sleep = FakeSleep(last=1)
    source = failing(VideoReason.UNREACHABLE, "no route")
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(), parts, upload=False)
        async with pulled(parts, stream, [source], sleep):
            await until(lambda: len(sleep.delays) == 1)
    assert stream.status().state is StreamState.STOPPED


async def test_a_stop_delivers_what_is_in_flight() -> None:
    held, source, output = HeldAnswers(), MemorySource(), MemoryOutput()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(), parts, upload=False)
        stream.add_output(output)
        async with pulled(parts, stream, [source], FakeSleep(last=1)):
            source.deliver(0)
            await held.arrived(0)
            asyncio.get_running_loop().call_later(0.05, held.release, 0)
    assert output.texts() == [b"0"]
    assert output.events[-1].end.reason == "stopped"
