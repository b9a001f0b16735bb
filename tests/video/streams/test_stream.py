"""A stream gives the outcome of each frame to its outputs, and its counts add up."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import grpc
import pytest

from protos.video_pb2 import AnalysisResult
from sluice.contract.video import DropReason, VideoReason
from tests.video.gateway_server import HeldAnswers, after, gateway_server, refusing
from tests.video.memory_source import MemorySource, jpeg_frame, of_numbers
from tests.video.streams_kit import (
    MemoryOutput,
    PassingConverter,
    jpeg_model,
    settings,
    stream_parts,
    until,
)
from video.conversion import Converted, FrameError
from video.frame import DecodedImage, EncodedImage, Frame
from video.source import SourceError
from video.streams.stream import Stream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def failures(output: MemoryOutput) -> list[str]:
    return [event.failure.reason for event in output.events if event.HasField("failure")]


async def test_each_frame_of_an_upload_has_a_result_in_order_and_then_the_summary() -> None:
    async with gateway_server(after(0.001)) as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(overload="wait"), parts, upload=True), MemoryOutput()
        stream.add_output(output)
        ended = await stream.run(of_numbers(100), (("authorization", "Bearer abc"),))
    assert output.texts() == numbers(100)
    assert [event.frame for event in output.events[:-1]] == list(range(100))
    assert output.events[-1] == ended.event
    assert ended.event.end.reason == ""
    assert ended.event.end.counts.results == 100
    assert gateway.metadata[7]["authorization"] == "Bearer abc"
    assert gateway.metadata[7]["x-model-name"] == "digits"


async def test_events_have_distinct_ids_also_over_sessions() -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(overload="wait"), parts, upload=True), MemoryOutput()
        stream.add_output(output)
        for _ in range(2):
            await stream.run(of_numbers(5), ())
    ids = [event.id for event in output.events]
    assert len(set(ids)) == len(ids) == 12
    first = output.events[0].id.split("/")
    assert first[0] == "door"
    assert first[2] == "0"


async def test_results_wait_for_those_of_earlier_frames() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(overload="wait"), parts, upload=True), MemoryOutput()
        stream.add_output(output)
        running = asyncio.create_task(stream.run(of_numbers(3), ()))
        await held.arrived(0, 1, 2)
        held.release(2, 1)
        await until(lambda: gateway.running == 1)
        assert output.events == []
        held.release(0)
        await running
    assert output.texts() == numbers(3)


async def test_results_come_as_they_are_ready_without_an_order() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(overload="wait", ordered=False), parts, upload=True)
        output = MemoryOutput()
        stream.add_output(output)
        running = asyncio.create_task(stream.run(of_numbers(3), ()))
        for number in (2, 0, 1):
            await held.arrived(number)
            held.release(number)
            await until(lambda: b"%d" % number in output.texts())  # noqa: B023
        await running
    assert output.texts() == [b"2", b"0", b"1"]


class HangingSource(MemorySource):
    """Does not end when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def frames(self) -> Iterator[Frame]:
        self.released.wait()
        yield from ()


async def test_a_source_that_hangs_is_noticed_and_the_stream_ends_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("video.streams.session._SOURCE_TIMEOUT", 0.05)
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream, source = Stream(settings(), parts, upload=False), HangingSource()
        running = asyncio.create_task(stream.run(source, ()))
        await asyncio.sleep(0)
        stream.end(VideoReason.IDLE, "no frame came", grace=0)
        ended = await running
        assert ended.event.end.reason == "idle"
        assert parts.threads.longest_hang(time.monotonic()) >= 0.05
        source.released.set()
        await ended.source_ended.wait()
        assert parts.threads.longest_hang(time.monotonic()) == 0


async def test_few_results_wait_for_an_earlier_frame() -> None:
    held, model = HeldAnswers(), jpeg_model(concurrency=2)
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(model, overload="wait"), parts, upload=True)
        output = MemoryOutput()
        stream.add_output(output)
        held.release(*range(1, 30))
        running = asyncio.create_task(stream.run(of_numbers(30), ()))
        await until(lambda: len(gateway.requests) == 3 and gateway.running == 1)
        await until(stream.holds_up_source)
        assert len(gateway.requests) == 3
        held.release(0)
        await running
    assert output.texts() == numbers(30)


class ThreadConverter(PassingConverter):
    """Notes on which thread each frame is converted."""

    threads: ClassVar[dict[bytes, str]] = {}

    def convert(self, image: EncodedImage | DecodedImage) -> Converted:
        assert isinstance(image, EncodedImage)
        self.threads[image.data] = threading.current_thread().name.partition("-")[0]
        return super().convert(image)


async def test_only_frames_that_get_a_slot_are_converted_and_late_ones_on_another_thread() -> None:
    held, model = HeldAnswers(), jpeg_model(concurrency=1)
    ThreadConverter.threads.clear()
    async with (
        gateway_server(held) as gateway,
        stream_parts(gateway.address, ThreadConverter) as parts,
    ):
        stream, source = Stream(settings(model), parts, upload=False), MemorySource()
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0)
        await held.arrived(0)
        source.deliver(1, 2)
        await until(lambda: stream.status().counts.frames == 3)
        held.release(0, 2)
        source.end()
        await running
    assert ThreadConverter.threads == {b"0": "video door", b"2": "ThreadPoolExecutor"}


async def test_the_newest_frame_replaces_the_one_that_waits() -> None:
    held, model = HeldAnswers(), jpeg_model(concurrency=1)
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(model), parts, upload=False), MemoryOutput()
        stream.add_output(output)
        source = MemorySource()
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0)
        await held.arrived(0)
        source.deliver(1, 2, 3)
        await until(lambda: stream.status().counts.drops == {DropReason.OVERLOAD: 2})
        held.release(0, 3)
        source.end()
        ended = await running
    assert output.texts() == [b"0", b"3"]
    assert dict(ended.event.end.counts.drops) == {"overload": 2}


async def test_no_frame_is_dropped_while_slots_are_free() -> None:
    async with gateway_server(after(0.02)) as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(), parts, upload=False), MemoryOutput()
        stream.add_output(output)
        await stream.run(of_numbers(10), ())
    assert output.texts() == numbers(10)


async def test_an_upload_waits_for_the_model() -> None:
    held, model = HeldAnswers(), jpeg_model(concurrency=2)
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream, output = (
            Stream(settings(model, overload="wait"), parts, upload=True),
            MemoryOutput(),
        )
        stream.add_output(output)
        source = of_numbers(50)
        running = asyncio.create_task(stream.run(source, ()))
        await held.arrived(0, 1)
        await until(stream.holds_up_source)
        # Two in flight, one that waits, and one in the hands of the source thread.
        assert source.counts.received <= 4
        held.release(*range(50))
        await running
    assert output.texts() == numbers(50)
    assert gateway.most_running == 2


async def test_an_output_that_is_full_holds_up_the_stream() -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(), parts, upload=False), MemoryOutput(capacity=1)
        stream.add_output(output)
        source = MemorySource()
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0)
        await until(lambda: len(output.events) == 1)
        source.deliver(1, 2, 3)
        await until(lambda: stream.status().counts.drops == {DropReason.SINK: 2})
        assert len(gateway.requests) == 1
        output.room(None)
        await until(lambda: output.texts() == [b"0", b"3"])
        source.end()
        await running


async def test_a_full_output_that_leaves_holds_up_nothing_any_more() -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(overload="wait"), parts, upload=True)
        full, other = MemoryOutput(capacity=1), MemoryOutput()
        stream.add_output(full)
        stream.add_output(other)
        running = asyncio.create_task(stream.run(of_numbers(50), ()))
        await until(stream.holds_up_source)
        stream.remove_output(full)
        await running
    assert other.texts() == numbers(50)


class BrokenOutput(MemoryOutput):
    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        raise RuntimeError("the screen is off")


async def test_an_output_that_fails_does_not_stop_the_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(overload="wait"), parts, upload=True), MemoryOutput()
        stream.add_output(BrokenOutput())
        stream.add_output(output)
        await stream.run(of_numbers(5), ())
    assert output.texts() == numbers(5)
    assert len(caplog.records) == 1


async def test_only_outputs_that_want_frames_get_them() -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(overload="wait"), parts, upload=True)
        plain, watcher = MemoryOutput(), MemoryOutput(wants_frames=True)
        stream.add_output(plain)
        stream.add_output(watcher)
        await stream.run(of_numbers(3), ())
    assert plain.frames == [None] * 4
    assert [frame and frame.number for frame in watcher.frames] == [0, 1, 2, None]


class PickyConverter(PassingConverter):
    def convert(self, image: EncodedImage | DecodedImage) -> Converted:
        assert isinstance(image, EncodedImage)
        if image.data == b"1":
            raise FrameError(VideoReason.BROKEN_FRAME, "the JPEG is truncated")
        if image.data == b"2":
            raise ZeroDivisionError
        return super().convert(image)


async def test_a_frame_that_cannot_be_converted_fails_alone() -> None:
    async with (
        gateway_server() as gateway,
        stream_parts(gateway.address, PickyConverter) as parts,
    ):
        stream, output = Stream(settings(overload="wait"), parts, upload=True), MemoryOutput()
        stream.add_output(output)
        ended = await stream.run(of_numbers(4), ())
    assert output.texts() == [b"0", b"3"]
    assert output.events[1].failure.detail == "the JPEG is truncated"
    assert dict(ended.event.end.counts.errors) == {"broken_frame": 1, "internal_error": 1}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "credentials_expired"),
        (grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
        (grpc.StatusCode.NOT_FOUND, "unknown_model"),
    ],
)
async def test_a_refusal_of_the_caller_ends_the_stream(code: grpc.StatusCode, reason: str) -> None:
    source = MemorySource()
    source.deliver(*range(30))
    async with (
        gateway_server(refusing(code, "the token has expired")) as gateway,
        stream_parts(gateway.address) as parts,
    ):
        stream, output = Stream(settings(overload="wait"), parts, upload=True), MemoryOutput()
        stream.add_output(output)
        ended = await stream.run(source, ())
    assert ended.event.end.reason == reason
    assert ended.event.end.detail == "the token has expired"
    assert set(failures(output)) == {reason}
    assert source.closed.is_set()
    assert stream.status().counts.in_flight == 0


async def test_a_model_that_fails_costs_its_frames_only() -> None:
    answer = refusing(grpc.StatusCode.INTERNAL, "out of\nmemory", times=2)
    async with gateway_server(answer) as gateway, stream_parts(gateway.address) as parts:
        model = jpeg_model(concurrency=1)
        stream, output = (
            Stream(settings(model, overload="wait"), parts, upload=True),
            MemoryOutput(),
        )
        stream.add_output(output)
        await stream.run(of_numbers(4), ())
    assert failures(output) == ["model_failed", "model_failed"]
    assert output.events[0].failure.detail == "out of\\nmemory"
    assert output.texts() == [b"2", b"3"]


async def test_an_error_of_the_source_is_the_reason_of_the_end() -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(), parts, upload=True), MemoryOutput()
        stream.add_output(output)
        source = MemorySource([jpeg_frame(0)])
        source.end(SourceError(VideoReason.BROKEN_VIDEO, "no key frame"))
        ended = await stream.run(source, ())
    assert output.texts() == [b"0"]
    assert (ended.event.end.reason, ended.event.end.detail) == ("broken_video", "no key frame")


async def test_an_unexpected_error_of_the_source_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        stream = Stream(settings(), parts, upload=True)
        source = MemorySource()
        source.end(ZeroDivisionError())
        ended = await stream.run(source, ())
    assert ended.event.end.reason == "internal_error"
    assert stream.status().error == "internal_error: the source has failed"
    assert len(caplog.records) == 1


async def test_a_stop_lets_requests_in_flight_finish_and_drops_the_frame_that_waits() -> None:
    held, model = HeldAnswers(), jpeg_model(concurrency=1)
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(model), parts, upload=False), MemoryOutput()
        stream.add_output(output)
        source = MemorySource()
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0)
        await held.arrived(0)
        source.deliver(1)
        await until(lambda: stream.status().counts.frames == 2)
        stream.end(VideoReason.STOPPED, "the stream was removed", grace=10)
        held.release(0)
        ended = await running
    assert output.texts() == [b"0"]
    assert ended.event.end.reason == "stopped"
    assert dict(ended.event.end.counts.drops) == {"end": 1}
    assert ended.source_ended.is_set()


async def test_requests_that_outlast_a_stop_fail() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        stream, output = Stream(settings(), parts, upload=False), MemoryOutput()
        stream.add_output(output)
        source = MemorySource()
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0, 1)
        await held.arrived(0, 1)
        stream.end(VideoReason.STOPPED, "the stream was removed", grace=0.05)
        await running
    assert failures(output) == ["stopped", "stopped"]


async def test_nothing_is_left_of_a_stream_that_is_cancelled() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        tasks = asyncio.all_tasks()
        model = jpeg_model(deadline=0.5)
        stream = Stream(settings(model, overload="wait"), parts, upload=True)
        source = MemorySource()
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(*range(30))
        await held.arrived(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: not source.threads[0].is_alive())
        assert stream.status().counts.in_flight == 0
        # Requests end by themselves, at their deadline.
        await until(lambda: gateway.running == 0)
        assert not {task for task in asyncio.all_tasks() - tasks if "grpc" not in repr(task)}


async def test_the_thread_of_a_source_has_the_name_of_the_stream() -> None:
    async with gateway_server() as gateway, stream_parts(gateway.address) as parts:
        source = of_numbers(1)
        await Stream(settings(), parts, upload=True).run(source, ())
    assert source.threads[0].name == "video door"
    assert source.threads[0] not in threading.enumerate()
