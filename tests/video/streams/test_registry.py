"""The registry starts, changes and stops cameras, and leaves the others alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from sluice.config.models import Model
from tests.video.gateway_server import after, gateway_server
from tests.video.memory_source import MemorySource
from tests.video.streams_kit import MemoryOutput, jpeg_model, settings, stream_parts, until
from video.source import FrameSource
from video.streams.camera import ConfiguredStream
from video.streams.registry import StreamRegistry
from video.streams.sinks import ConfiguredSink
from video.streams.status import StreamState
from video.streams.stream import Stream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Cameras:
    """Cameras of a test: their sources and sinks, in the order in which they were opened."""

    def __init__(self) -> None:
        self.sources: list[MemorySource] = []
        self.sinks: list[MemoryOutput] = []

    def configured(self, name: str, **changes: Any) -> ConfiguredStream:
        content = changes.pop("content", b"")
        sink = ConfiguredSink(changes.pop("sink", b""), self._sink)
        return ConfiguredStream(
            replace(settings(**changes), name=name), (), content, self._source, (sink,)
        )

    def _source(self) -> FrameSource:
        self.sources.append(MemorySource())
        return self.sources[-1]

    def _sink(self) -> MemoryOutput:
        self.sinks.append(MemoryOutput())
        return self.sinks[-1]


@asynccontextmanager
async def running_registry() -> AsyncIterator[tuple[StreamRegistry, Cameras]]:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        registry = StreamRegistry(parts, grace=1.0)
        try:
            yield registry, Cameras()
        finally:
            await registry.stop()


async def test_cameras_start_and_deliver_to_their_sinks() -> None:
    async with running_registry() as (registry, cameras):
        registry.apply({name: cameras.configured(name) for name in ("door", "yard")})
        await until(lambda: len(cameras.sources) == 2)
        for source in cameras.sources:
            source.deliver(0)
        await until(lambda: all(sink.texts() == [b"0"] for sink in cameras.sinks))
        statuses = registry.snapshot()
        assert [status.name for status in statuses] == ["door", "yard"]
        assert {status.state for status in statuses} == {StreamState.RUNNING}
        assert [status.sinks[0].delivered for status in statuses] == [1, 1]
    assert all(sink.started and sink.stopped for sink in cameras.sinks)
    assert all(source.closed.is_set() for source in cameras.sources)


@pytest.mark.parametrize(
    "change",
    [
        {"content": b"other"},
        {"sink": b"other"},
        {"region": None, "rate": 5.0},
        {"model": jpeg_model(retries=0)},
    ],
)
async def test_a_camera_that_changes_is_opened_again_and_others_are_not(
    change: dict[str, object],
) -> None:
    async with running_registry() as (registry, cameras):
        same = cameras.configured("yard")
        registry.apply({"door": cameras.configured("door"), "yard": same})
        await until(lambda: len(cameras.sources) == 2)
        registry.apply(
            {"door": cameras.configured("door", **change), "yard": cameras.configured("yard")}
        )
        await until(lambda: len(cameras.sources) == 3)
        assert [source.closed.is_set() for source in cameras.sources] == [True, False, False]


async def test_a_change_of_a_camera_keeps_its_counts_and_the_sinks_that_stay() -> None:
    async with running_registry() as (registry, cameras):
        registry.apply({"door": cameras.configured("door")})
        await until(lambda: len(cameras.sources) == 1)
        cameras.sources[0].deliver(0)
        await until(lambda: cameras.sinks[0].texts() == [b"0"])
        registry.apply({"door": cameras.configured("door", rate=5.0)})
        await until(lambda: len(cameras.sources) == 2)
        cameras.sources[1].deliver(1)
        await until(lambda: cameras.sinks[0].texts() == [b"0", b"1"])
        assert len(cameras.sinks) == 1
        assert not cameras.sinks[0].stopped
        counts = registry.snapshot()[0].counts
        assert (counts.frames, counts.results, counts.in_flight) == (2, 2, 0)


async def test_requests_and_sinks_of_a_camera_that_stops_share_its_time() -> None:
    graces: list[float] = []

    class TimedSink(MemoryOutput):
        async def stop(self, timeout: float) -> None:  # noqa: ASYNC109
            graces.append(timeout)

    async with (
        gateway_server(after(0.5)) as gateway,
        stream_parts(gateway.address) as parts,
    ):
        registry, cameras = StreamRegistry(parts, grace=2.0), Cameras()
        sinks = (ConfiguredSink(b"", TimedSink),)
        registry.apply({"door": replace(cameras.configured("door"), sinks=sinks)})
        await until(lambda: len(cameras.sources) == 1)
        cameras.sources[0].deliver(0)
        await until(lambda: len(gateway.requests) == 1)
        await registry.stop()
    assert len(graces) == 1
    assert graces[0] < 1.9


async def test_a_sink_that_changes_stops_before_its_successor_starts() -> None:
    async with running_registry() as (registry, cameras):
        registry.apply({"door": cameras.configured("door")})
        await until(lambda: len(cameras.sources) == 1)
        registry.apply({"door": cameras.configured("door", sink=b"other")})
        await until(lambda: len(cameras.sources) == 2)
        assert [sink.stopped for sink in cameras.sinks] == [True, False]


async def test_a_camera_that_comes_back_while_its_sinks_stop_runs_again() -> None:
    released = asyncio.Event()

    class SlowSink(MemoryOutput):
        async def stop(self, timeout: float) -> None:  # noqa: ASYNC109
            self.stopped = True
            await released.wait()

    slow = SlowSink()
    async with running_registry() as (registry, cameras):
        sinks = (ConfiguredSink(b"slow", lambda: slow),)
        registry.apply({"door": replace(cameras.configured("door"), sinks=sinks)})
        await until(lambda: len(cameras.sources) == 1)
        registry.apply({})
        await until(lambda: slow.stopped)
        registry.apply({"door": cameras.configured("door")})
        released.set()
        await until(lambda: len(cameras.sources) == 2)
        assert [sink.started for sink in cameras.sinks] == [True]


async def test_a_camera_that_is_removed_stops_and_may_come_back() -> None:
    async with running_registry() as (registry, cameras):
        registry.apply({"door": cameras.configured("door")})
        await until(lambda: len(cameras.sources) == 1)
        registry.apply({})
        await until(lambda: registry.snapshot() == [])
        assert cameras.sinks[0].stopped
        registry.apply({"door": cameras.configured("door")})
        await until(lambda: len(cameras.sources) == 2)


async def test_watchers_stay_over_changes_and_learn_of_the_removal() -> None:
    watcher = MemoryOutput()
    async with running_registry() as (registry, cameras):
        registry.apply({"door": cameras.configured("door")})
        await until(lambda: len(cameras.sources) == 1)
        with registry.watch("door", watcher) as removed:
            cameras.sources[0].deliver(0)
            await until(lambda: watcher.texts() == [b"0"])
            registry.apply({"door": cameras.configured("door", content=b"2")})
            await until(lambda: len(cameras.sources) == 2)
            cameras.sources[1].deliver(1)
            await until(lambda: watcher.texts() == [b"0", b"1"])
            registry.apply({})
            await asyncio.wait_for(removed.wait(), 10)
        with pytest.raises(KeyError), registry.watch("door", watcher):
            pass


async def test_a_watcher_that_leaves_gets_no_more_events() -> None:
    watcher = MemoryOutput()
    async with running_registry() as (registry, cameras):
        registry.apply({"door": cameras.configured("door")})
        await until(lambda: len(cameras.sources) == 1)
        with registry.watch("door", watcher):
            pass
        cameras.sources[0].deliver(0)
        await until(lambda: cameras.sinks[0].texts() == [b"0"])
    assert watcher.events == []


async def test_cameras_of_a_model_without_video_are_refused_and_nothing_changes() -> None:
    model = Model.model_validate({"versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9"}]}}})
    async with running_registry() as (registry, cameras):
        registry.apply({"door": cameras.configured("door")})
        await until(lambda: len(cameras.sources) == 1)
        with pytest.raises(ValueError, match="has no input for video"):
            registry.apply({"yard": cameras.configured("yard", model=model)})
        assert [status.name for status in registry.snapshot()] == ["door"]
        assert not cameras.sources[0].closed.is_set()


async def test_an_error_of_a_camera_is_logged_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> MemoryOutput:
        raise ZeroDivisionError

    async with running_registry() as (registry, cameras):
        registry.apply(
            {
                "door": replace(cameras.configured("door"), sinks=(ConfiguredSink(b"", broken),)),
                "yard": cameras.configured("yard"),
            }
        )
        await until(lambda: len(cameras.sources) == 1)
        cameras.sources[0].deliver(0)
        await until(lambda: cameras.sinks[0].texts() == [b"0"])
    assert [record.getMessage() for record in caplog.records] == ["stream door has failed"]


async def test_uploads_are_in_the_snapshot_while_they_run() -> None:
    async with running_registry() as (registry, _):
        upload = Stream(settings(), registry.parts, upload=True)
        with registry.listed(upload):
            assert [status.upload for status in registry.snapshot()] == [True]
        assert registry.snapshot() == []


async def test_many_cameras_run_in_one_worker() -> None:
    async with running_registry() as (registry, cameras):
        names = [f"c{number}" for number in range(64)]
        registry.apply({name: cameras.configured(name, stall_timeout=60.0) for name in names})
        await until(lambda: len(cameras.sources) == 64)
        for source in cameras.sources:
            source.deliver(*range(5))
        await until(lambda: all(len(sink.events) == 5 for sink in cameras.sinks))
        assert {tuple(sink.texts()) for sink in cameras.sinks} == {(b"0", b"1", b"2", b"3", b"4")}
        assert len(registry.snapshot()) == 64
