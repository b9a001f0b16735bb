"""Frames are sent in batches, within their deadline, and again only if that may help."""

import asyncio
import time

import grpc
import pytest

from protos import inference_pb2 as v2
from tests.video.gateway_server import (
    Answer,
    HeldAnswers,
    after,
    echo,
    gateway_server,
    refusing,
)
from tests.video.memory_source import MemorySource, of_numbers
from tests.video.streams_kit import MemoryOutput, jpeg_model, settings, stream_parts, until
from video.inference.request import infer_request
from video.streams.stream import Stream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def outcomes(output: MemoryOutput) -> list[str]:
    """The text of each result, or the reason of each failure, without the last event."""
    return [
        event.failure.reason or event.inference.outputs[0].texts[0].decode()
        for event in output.events[:-1]
    ]


async def analysed(
    answer: Answer | None, frames: int, overload: str = "wait", **video: object
) -> tuple[list[str], list[v2.ModelInferRequest]]:
    """The outcomes of a video with so many frames, and the requests."""
    async with gateway_server(answer) as gateway, stream_parts(gateway.address) as parts:
        model = jpeg_model(**video)
        stream = Stream(settings(model, overload=overload), parts, upload=True)
        output = MemoryOutput()
        stream.add_output(output)
        await stream.run(of_numbers(frames), ())
    return outcomes(output), gateway.requests


def sizes(requests: list[v2.ModelInferRequest]) -> list[int]:
    return [request.inputs[0].shape[0] for request in requests]


def test_a_request_is_a_message_with_raw_contents() -> None:
    written = infer_request("digits", "image", "UINT8", (1, 2, 2, 3), memoryview(b"0123456789ab"))
    request = v2.ModelInferRequest.FromString(written)
    assert request.model_name == "digits"
    assert list(request.inputs[0].shape) == [1, 2, 2, 3]
    assert list(request.raw_input_contents) == [b"0123456789ab"]


async def test_frames_that_wait_together_are_one_request() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        model = jpeg_model(concurrency=1, max_batch=4)
        stream = Stream(settings(model), parts, upload=False)
        output, source = MemoryOutput(), MemorySource()
        stream.add_output(output)
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0)
        await held.arrived(0)
        source.deliver(1, 2, 3)
        await until(lambda: stream.counters.snapshot().frames == 4)
        held.release(0, 1)
        source.end()
        await running
    assert outcomes(output) == ["0", "1", "2", "3"]
    assert sizes(gateway.requests) == [1, 3]


async def test_a_frame_waits_for_others_of_its_batch() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        model = jpeg_model(max_batch=2, batch_delay=1.0)
        stream = Stream(settings(model, overload="wait"), parts, upload=True)
        source = MemorySource()
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0)
        await until(lambda: stream.counters.snapshot().frames == 1)
        source.deliver(1)
        await held.arrived(0)
        source.end()
        held.release(0)
        await running
    assert sizes(gateway.requests) == [2]


async def test_a_frame_does_not_wait_longer_than_the_delay() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        model = jpeg_model(max_batch=2, batch_delay=0.05)
        source = MemorySource()
        stream = Stream(settings(model), parts, upload=True)
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0)
        await held.arrived(0)
        held.release(0)
        source.end()
        await running
    assert sizes(gateway.requests) == [1]


async def test_the_last_frames_wait_for_no_others() -> None:
    begun = time.monotonic()
    found, _ = await analysed(None, 3, max_batch=2, batch_delay=1.0)
    assert found == ["0", "1", "2"]
    assert time.monotonic() - begun < 0.9


async def test_each_frame_of_a_batch_that_fails_is_an_error() -> None:
    answer = refusing(grpc.StatusCode.INTERNAL, "out of memory")
    found, requests = await analysed(answer, 6, max_batch=3, batch_delay=1.0)
    assert found == ["model_failed"] * 6
    assert sum(sizes(requests)) == 6


async def answers_for_two(
    request: v2.ModelInferRequest, _context: grpc.aio.ServicerContext
) -> v2.ModelInferResponse:
    response = echo(request)
    response.outputs[0].shape[0] = 2
    return response


async def no_contents(
    request: v2.ModelInferRequest, _context: grpc.aio.ServicerContext
) -> v2.ModelInferResponse:
    response = echo(request)
    del response.raw_output_contents[:]
    return response


@pytest.mark.parametrize("answer", [answers_for_two, no_contents])
async def test_an_answer_that_does_not_fit_fails_the_frame_only(answer: Answer) -> None:
    found, _ = await analysed(answer, 2)
    assert found == ["model_failed", "model_failed"]


@pytest.mark.parametrize("overload", ["wait", "drop"])
async def test_a_model_that_is_too_slow_fails_the_frame(overload: str) -> None:
    found, requests = await analysed(after(30), 1, overload, deadline=0.1)
    assert found == ["deadline"]
    assert len(requests) == 1


async def test_a_frame_whose_time_is_over_is_not_sent() -> None:
    held = HeldAnswers()
    async with gateway_server(held) as gateway, stream_parts(gateway.address) as parts:
        model = jpeg_model(concurrency=1, deadline=0.2)
        stream = Stream(settings(model), parts, upload=False)
        output, source = MemoryOutput(), MemorySource()
        stream.add_output(output)
        running = asyncio.create_task(stream.run(source, ()))
        source.deliver(0, 1)
        source.end()
        await running
    assert outcomes(output) == ["deadline", "deadline"]
    assert len(gateway.requests) == 1


async def test_the_deadline_of_an_upload_begins_with_its_slot() -> None:
    found, _ = await analysed(after(0.1), 5, concurrency=1, deadline=0.3)
    assert found == ["0", "1", "2", "3", "4"]


async def test_a_model_that_is_unavailable_for_a_moment_is_asked_again() -> None:
    answer = refusing(grpc.StatusCode.UNAVAILABLE, "no healthy upstream", times=2)
    found, requests = await analysed(answer, 1, retries=2)
    assert found == ["0"]
    assert len(requests) == 3


async def test_retries_are_bounded() -> None:
    answer = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "the limit is reached", ("server", "x"))
    found, requests = await analysed(answer, 1, retries=2)
    assert found == ["refused"]
    assert len(requests) == 3


async def test_a_retry_that_the_deadline_does_not_allow_is_not_made() -> None:
    answer = refusing(grpc.StatusCode.UNAVAILABLE, "busy", ("retry-after", "10"))
    begun = time.monotonic()
    found, requests = await analysed(answer, 1, retries=5)
    assert found == ["model_unavailable"]
    assert len(requests) == 1
    assert time.monotonic() - begun < 4


async def test_a_failure_that_cannot_pass_is_not_retried() -> None:
    answer = refusing(grpc.StatusCode.INVALID_ARGUMENT, "not a JPEG")
    found, requests = await analysed(answer, 1, retries=5)
    assert found == ["model_failed"]
    assert len(requests) == 1


async def test_a_gateway_that_does_not_listen_is_unreachable() -> None:
    async with stream_parts("127.0.0.1:1") as parts:
        model = jpeg_model(deadline=0.3)
        stream, output = Stream(settings(model), parts, upload=True), MemoryOutput()
        stream.add_output(output)
        await stream.run(of_numbers(3), ())
    assert outcomes(output) == ["gateway_unreachable"] * 3
