"""Events and sinks for tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from protos import video_pb2 as pb
from sluice.config.video_sinks import VideoSink
from video.sinks.delivery import Sink
from video.sinks.opening import open_sink

STREAM = "door"


def event(number: int, size: int = 1) -> pb.AnalysisResult:
    result = pb.AnalysisResult(id=f"{STREAM}/{number}", stream=STREAM, frame=number)
    output = result.inference.outputs.add(name="digit", datatype="INT64", shape=[size])
    output.integers.extend([number] * size)
    return result


def new_sink(config: Mapping[str, Any], secrets: Mapping[str, bytes] | None = None) -> Sink:
    return open_sink(VideoSink.model_validate(config), 0, secrets or {}, STREAM)


@contextlib.asynccontextmanager
async def running(
    config: Mapping[str, Any], secrets: Mapping[str, bytes] | None = None, seconds: float = 10
) -> AsyncIterator[Sink]:
    """A sink that is stopped at the end, when it has delivered its events."""
    sink = new_sink(config, secrets)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.stop(seconds)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition is true."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def failing(sink: Sink) -> str:
    """The error of the sink, when it has one."""
    await until(lambda: sink.status().error)
    return sink.status().error


async def delivered(sink: Sink, count: int) -> None:
    """Return when the sink has delivered so many events."""
    await until(lambda: sink.status().delivered >= count)
