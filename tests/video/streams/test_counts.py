"""The counts of a stream add up after any sequence of events, and its memory stays bounded."""

import asyncio
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from sluice.contract.grpc import StatusCode
from sluice.contract.video import DropReason, VideoReason
from tests.video import streams_kit
from tests.video.gateway_server import after, echo, gateway_server
from tests.video.memory_source import MemorySource
from tests.video.streams_kit import (
    MemoryOutput,
    PassingConverter,
    jpeg_model,
    stream_parts,
)
from video.conversion import Converted, FrameError
from video.frame import DecodedImage, EncodedImage, Frame
from video.inference.failure import InferenceError, failure_of
from video.streams.counts import StreamCounts
from video.streams.parts import StreamParts
from video.streams.stream import Stream


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


CODES = [StatusCode.INTERNAL, StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAUTHENTICATED]

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("answer"), st.integers(0, 9)),
        st.tuples(st.just("fail"), st.sampled_from(CODES)),
        st.tuples(st.just("room"), st.sampled_from([0, 3, None])),
        st.tuples(st.just("wait"), st.none()),
        st.tuples(st.just("stop"), st.none()),
    ),
    max_size=25,
)


@dataclass
class MemoryGateway:
    """A gateway whose answers the test chooses."""

    waiting: list[tuple[ModelInferRequest, asyncio.Future[ModelInferResponse]]] = field(
        default_factory=list
    )
    answers_all: bool = False

    async def infer(self, request: bytes, _metadata: object, _within: float) -> ModelInferResponse:
        message = ModelInferRequest.FromString(request)
        if self.answers_all:
            return echo(message)
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((message, future))
        return await future

    def answer(self, index: int, error: StatusCode | None = None) -> None:
        if not self.waiting:
            return
        request, future = self.waiting.pop(index % len(self.waiting))
        if future.done():
            return
        if error is None:
            future.set_result(echo(request))
        else:
            future.set_exception(InferenceError(failure_of(error, "", [("server", "x")])))

    def answer_all(self) -> None:
        self.answers_all = True
        while self.waiting:
            self.answer(0)


class FourthIsBroken(PassingConverter):
    def convert(self, image: EncodedImage | DecodedImage) -> Converted:
        assert isinstance(image, EncodedImage)
        if image.data.endswith(b"4"):
            raise FrameError(VideoReason.BROKEN_FRAME, "broken")
        return super().convert(image)


def check(counts: StreamCounts) -> None:
    ended = counts.results + sum(counts.drops.values()) + sum(counts.errors.values())
    assert counts.in_flight >= 0
    assert counts.frames == ended + counts.in_flight
    assert counts.received == counts.skipped + counts.undecodable + counts.frames


async def run_actions(actions: list[tuple[str, Any]], **options: Any) -> None:
    gateway, output, source = MemoryGateway(), MemoryOutput(), MemorySource()
    video = {"concurrency": 2, "max_batch": options.pop("max_batch"), "retries": 0}
    with ThreadPoolExecutor(1) as executor:
        parts = StreamParts(gateway, executor, lambda _: FourthIsBroken())  # type: ignore[arg-type]
        stream = Stream(streams_kit.settings(jpeg_model(**video), **options), parts, upload=True)
        stream.add_output(output)
        running = asyncio.create_task(stream.run(source, ()))
        delivered = 0
        for action, argument in actions:
            match action:
                case "deliver":
                    source.deliver(*range(delivered, delivered + argument))
                    delivered += argument
                case "answer":
                    gateway.answer(argument)
                case "fail":
                    gateway.answer(0, argument)
                case "room":
                    output.room(None if argument is None else len(output.events) + argument)
                case "wait":
                    await asyncio.sleep(0.001)
                case "stop":
                    stream.end(VideoReason.STOPPED, "stopped", grace=0.01)
            await asyncio.sleep(0)
            check(stream.status().counts)
        source.end()
        output.room(None)
        gateway.answer_all()
        async with asyncio.timeout(20):
            ended = await running
        await asyncio.sleep(0)
    counts = stream.status().counts
    check(counts)
    assert counts.in_flight == 0
    assert counts.received == source.counts.received
    assert len(output.events) == counts.results + sum(counts.errors.values()) + 1
    assert len({event.id for event in output.events}) == len(output.events)
    assert ended.event.end.counts == counts.message()
    if options["ordered"]:
        frames = [event.frame for event in output.events[:-1]]
        assert frames == sorted(frames)


@settings(max_examples=60)
@given(ACTIONS, st.sampled_from(["drop", "wait"]), st.booleans(), st.sampled_from([1, 3]))
def test_the_counts_add_up_after_any_events(
    actions: list[tuple[str, Any]], overload: str, ordered: bool, max_batch: int
) -> None:
    asyncio.run(run_actions(actions, overload=overload, ordered=ordered, max_batch=max_batch))


class LiveFrames:
    """Counts the images of frames that exist."""

    def __init__(self) -> None:
        self.most = 0
        self._images = weakref.WeakSet[LiveImage]()

    def new(self, number: int) -> Frame:
        image = LiveImage(b"%d" % number)
        self._images.add(image)
        self.most = max(self.most, self.alive())
        return Frame(number, number / 30, time.time(), time.monotonic(), image)

    def alive(self) -> int:
        return len(self._images)


class LiveImage(EncodedImage):
    """An image that can be referenced weakly."""

    __slots__ = ("__weakref__",)


class FastSource(MemorySource):
    """Delivers many frames, faster than the model."""

    def __init__(self, live: LiveFrames, count: int) -> None:
        super().__init__()
        self._live, self._count = live, count

    def frames(self) -> Iterator[Frame]:
        for number in range(self._count):
            self.counts.received += 1
            yield self._live.new(number)
            time.sleep(0.0002)


class Watcher(MemoryOutput):
    """Wants frames, and keeps none."""

    def __init__(self) -> None:
        super().__init__(wants_frames=True)

    def put(self, event: object, frame: Frame | None) -> None:
        assert frame is not None or event.HasField("end")  # type: ignore[attr-defined]


@pytest.mark.anyio
@pytest.mark.parametrize("overload", ["drop", "wait"])
@pytest.mark.parametrize("watched", [False, True])
async def test_a_fast_source_and_a_slow_model_keep_few_frames_alive(
    overload: str, watched: bool, anyio_backend: str
) -> None:
    live, count = LiveFrames(), 200
    model = jpeg_model(concurrency=4)
    async with gateway_server(after(0.01)) as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(streams_kit.settings(model, overload=overload), parts, upload=False)
        if watched:
            stream.add_output(Watcher())
        ended = await stream.run(FastSource(live, count), ())
    counts = ended.event.end.counts
    assert counts.frames == count
    if overload == "drop":
        assert counts.drops[DropReason.OVERLOAD] > count / 4
    else:
        assert counts.results == count
    # In flight, with an outcome that waits for an earlier frame, waiting, and in two threads.
    assert live.most <= 4 + 4 + 5 + 3
    if not watched:
        assert live.most <= 4 + 3
