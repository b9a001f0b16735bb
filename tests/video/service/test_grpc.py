"""The same service over gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from protos.video_pb2 import AnalysisResult, AnalyzeRequest, WatchRequest
from sluice.contract.paths import VIDEO_ANALYZE, VIDEO_SERVICE, VIDEO_WATCH
from sluice.contract.video import VideoReason
from tests.video.gateway_server import HeldAnswers
from tests.video.service.kit import LINES, Service, camera, service
from tests.video.streams_kit import until
from video.service.assignment import Assignment, Shard

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

METADATA = (("x-sluice-model", "digits"), ("authorization", "Bearer t"))


@asynccontextmanager
async def analyze(running: Service, metadata: Any = METADATA) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(running.grpc) as channel:
        method = channel.stream_stream(
            f"/{VIDEO_SERVICE}/{VIDEO_ANALYZE}",
            request_serializer=AnalyzeRequest.SerializeToString,
            response_deserializer=AnalysisResult.FromString,
        )
        call = method(metadata=metadata, timeout=20)
        yield call
        call.cancel()


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    return raised.value


async def test_events_come_while_the_client_still_sends() -> None:
    async with service() as running, analyze(running) as call:
        await call.write(AnalyzeRequest(content_type=LINES, data=b"0\n"))
        assert (await call.read()).inference.outputs[0].texts == [b"0"]
        await call.write(AnalyzeRequest(data=b"1\n"))
        assert (await call.read()).frame == 1
        await call.done_writing()
        assert (await call.read()).end.counts.results == 2
        assert await call.read() is grpc.aio.EOF
        assert running.gateway.metadata[0]["authorization"] == "Bearer t"


async def test_an_option_that_is_not_valid_is_refused_by_its_name() -> None:
    async with service() as running, analyze(running) as call:
        await call.write(AnalyzeRequest(content_type=LINES, options={"rate": "fast"}))
        error = await refused(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "rate: write frames per second" in (error.details() or "")
    assert dict(error.trailing_metadata())["x-sluice-reason"] == VideoReason.INVALID_OPTION


async def test_calls_whose_first_message_does_not_come_take_places_and_end() -> None:
    async with (
        service(idle_timeout=1.0) as running,
        analyze(running) as first,
        analyze(running) as second,
        analyze(running) as third,
    ):
        await until(lambda: running.uploads._places == 2)
        calls = {asyncio.create_task(refused(call)) for call in (first, second, third)}
        reasons = [dict((await each).trailing_metadata())["x-sluice-reason"] for each in calls]
        expected = [VideoReason.TOO_MANY_UPLOADS, VideoReason.IDLE, VideoReason.IDLE]
        assert sorted(reasons) == sorted(expected)
        await until(lambda: running.uploads._places == 0)


@pytest.mark.parametrize(
    "first",
    [
        AnalyzeRequest(content_type=LINES, options={"region": "," * 1_000_000}),
        AnalyzeRequest(content_type=LINES, options={"x" * 1_000_000: "1"}),
    ],
)
async def test_very_long_options_are_refused_in_short_words(first: AnalyzeRequest) -> None:
    async with service() as running, analyze(running) as call:
        await call.write(first)
        error = await refused(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(error.details() or "") < 300


async def test_a_video_that_is_broken_before_its_first_frame_is_refused() -> None:
    async with service() as running, analyze(running) as call:
        await call.write(AnalyzeRequest(content_type=LINES, data=b"broken\n"))
        assert (await refused(call)).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_that_did_not_come_through_the_gateway_is_refused() -> None:
    async with service() as running, analyze(running, ()) as call:
        await call.write(AnalyzeRequest(content_type=LINES))
        assert (await refused(call)).code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_upload_ends_when_its_client_leaves() -> None:
    held = HeldAnswers()
    async with service(held) as running, analyze(running) as call:
        await call.write(AnalyzeRequest(content_type=LINES, data=b"0\n"))
        await held.arrived(0)
        call.cancel()
        await until(lambda: not running.uploads._open)


async def test_a_client_watches_the_events_of_a_stream() -> None:
    async with service() as running, camera(running, "door") as source:
        channel = grpc.aio.insecure_channel(running.grpc)
        async with channel:
            method = channel.unary_stream(
                f"/{VIDEO_SERVICE}/{VIDEO_WATCH}",
                request_serializer=WatchRequest.SerializeToString,
                response_deserializer=AnalysisResult.FromString,
            )
            call = method(WatchRequest(stream="door"), metadata=METADATA, timeout=20)
            await until(lambda: running.watchers.count == 1)
            source.deliver(0)
            assert (await call.read()).stream == "door"
            unknown = method(WatchRequest(stream="yard"), metadata=METADATA, timeout=20)
            assert (await refused(unknown)).code() is grpc.StatusCode.NOT_FOUND
            unknown = method(WatchRequest(stream="\n" * 100_000), metadata=METADATA, timeout=20)
            error = await refused(unknown)
            assert error.code() is grpc.StatusCode.NOT_FOUND
            assert len(error.details() or "") < 200
            owner = next(n for n in range(2) if Assignment(shard=Shard(n, 2)).has("door"))
            running.watchers.assignment = Assignment(shard=Shard(1 - owner, 2))
            other = method(WatchRequest(stream="door"), metadata=METADATA, timeout=20)
            assert (await refused(other)).code() is grpc.StatusCode.UNAVAILABLE
