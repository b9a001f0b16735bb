"""Clients watch the streams of cameras, also those of another worker."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from PIL import Image

from protos.video_pb2 import Watched
from sluice.config.video import Region
from sluice.contract.video import VideoReason
from tests.video.process.running_service import jpeg
from tests.video.service.http_client import Exchange, exchange
from tests.video.service.kit import Service, camera, service
from tests.video.streams_kit import jpeg_model, until
from video.service.assignment import Assignment, Shard
from video.service.buffers import WatchBuffer
from video.service.peers import serving_peers
from video.service.watchers import WatchedStream, Watchers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]


DRAWING = ThreadPoolExecutor(1)


def watch(
    running: Service, stream: str, model: str = "digits", **headers: str
) -> AbstractAsyncContextManager[Exchange]:
    path = f"/v2/models/{model}/video/{stream}"
    return exchange(running.http, "GET", path, {"x-sluice-model": model} | headers)


async def refusal(sent: Exchange) -> tuple[int, str]:
    status = (await sent.response()).status_code
    return status, json.loads(await sent.body())["reason"]


async def test_events_come_from_the_moment_at_which_a_client_watches() -> None:
    async with (
        service() as running,
        camera(running, "door") as source,
        watch(running, "door", accept="text/event-stream") as sent,
    ):
        response = await sent.response()
        assert (b"content-type", b"text/event-stream") in response.headers
        await until(lambda: running.watchers.count == 1)
        source.deliver(7)
        lines = [await sent.line() for _ in range(4)]
        assert lines[0].startswith(b"id: door/")
        assert lines[1] == b"event: result"
        assert json.loads(lines[2].removeprefix(b"data: "))["frame"] == 7


async def test_a_stream_of_another_model_is_not_there() -> None:
    async with service() as running, camera(running, "door"):
        async with watch(running, "door", model="other") as sent:
            assert await refusal(sent) == (404, VideoReason.UNKNOWN_STREAM)
        async with watch(running, "yard") as sent:
            assert await refusal(sent) == (404, VideoReason.UNKNOWN_STREAM)


async def test_further_watchers_are_refused_until_one_leaves() -> None:
    async with service() as running, camera(running, "door"):
        async with watch(running, "door") as first, watch(running, "door") as second:
            for sent in (first, second):
                assert (await sent.response()).status_code == 200
            async with watch(running, "door") as third:
                assert await refusal(third) == (503, VideoReason.TOO_MANY_WATCHERS)
        await until(lambda: running.watchers.count == 0)


async def test_the_call_ends_when_the_stream_is_removed() -> None:
    async with (
        service() as running,
        camera(running, "door"),
        watch(running, "door") as sent,
    ):
        await sent.response()
        running.watchers.change({})
        assert await sent.line() == b""


async def test_the_call_ends_when_the_stream_gets_another_model() -> None:
    async with (
        service() as running,
        camera(running, "door"),
        watch(running, "door") as sent,
    ):
        await sent.response()
        model = running.uploads.models["digits"]
        running.watchers.change({"door": WatchedStream("digits", model, Region(width=0.5))})
        assert running.watchers.count == 1
        running.watchers.change({"door": WatchedStream("secret", model)})
        assert await sent.line() == b""


async def test_the_call_ends_after_the_maximum_duration() -> None:
    async with (
        service(max_duration=0.05) as running,
        camera(running, "door"),
        watch(running, "door") as sent,
    ):
        await sent.response()
        assert await sent.line() == b""


def watchers_of_another_worker(stream: str, socket: Path) -> Watchers:
    """Those of a worker that does not run the stream. The one that does listens on the socket."""
    owner = next(n for n in range(2) if Assignment(n, 2).has(stream))
    front = Watchers(Assignment(1 - owner, 2), lambda _: f"unix:{socket}", DRAWING, maximum=1)
    front.change({stream: WatchedStream("digits", jpeg_model())})
    return front


async def test_a_stream_of_another_worker_is_forwarded_also_after_that_worker_has_ended(
    tmp_path: Path,
) -> None:
    stream, socket = "door", tmp_path / "peer"
    front = watchers_of_another_worker(stream, socket)
    buffer = WatchBuffer()
    async with (
        service() as running,
        camera(running, stream) as source,
        front.watch("digits", stream, buffer),
    ):
        watched = running.registry._cameras[stream]._watchers
        for number in (1, 2):
            async with serving_peers(running.watchers, socket):
                await until(lambda: len(watched) == 1)
                source.deliver(number)
                (event,) = await buffer.next_events()
                assert event.frame == number
            await until(lambda: not watched)


class FailingBuffer(WatchBuffer):
    """Cannot take what another worker sends."""

    def take(self, watched: Watched) -> None:
        raise ValueError("nothing can be taken")


async def test_the_call_of_a_watcher_ends_after_an_error_that_is_not_expected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream, socket = "door", tmp_path / "peer"
    front = watchers_of_another_worker(stream, socket)
    buffer = FailingBuffer()
    async with (
        service() as running,
        camera(running, stream) as source,
        serving_peers(running.watchers, socket),
        front.watch("digits", stream, buffer),
    ):
        await until(lambda: len(running.registry._cameras[stream]._watchers) == 1)
        source.deliver(1)
        assert await buffer.next_events() == []
    assert "stream door: the events of another worker cannot be given on" in caplog.text


async def picture(sent: Exchange) -> tuple[int, int]:
    """The size of the next annotated frame."""
    while not (line := await sent.line()).startswith(b"content-length"):
        pass
    await sent.line()
    return Image.open(io.BytesIO(await sent.exactly(int(line.split()[1])))).size


async def test_a_client_watches_annotated_frames() -> None:
    async with (
        service() as running,
        camera(running, "door") as source,
        watch(running, "door", accept="multipart/x-mixed-replace") as sent,
    ):
        response = await sent.response()
        assert (b"content-type", b"multipart/x-mixed-replace; boundary=frame") in response.headers
        for number in range(2):
            source.deliver_image(jpeg(number))
            assert await picture(sent) == (32, 32)


async def test_annotated_frames_of_another_worker_are_forwarded(tmp_path: Path) -> None:
    stream, socket = "door", tmp_path / "peer"
    front = watchers_of_another_worker(stream, socket)
    async with (
        service() as running,
        camera(running, stream) as source,
        serving_peers(running.watchers, socket),
    ):
        frames = front.annotated_frames("digits", stream)
        async with front.watch("digits", stream, frames):
            watched = running.registry._cameras[stream]._watchers
            await until(lambda: len(watched) == 1)
            source.deliver_image(jpeg(1))
            assert Image.open(io.BytesIO(await frames.next_image())).size == (32, 32)


async def test_a_stream_of_another_replica_is_refused_so_that_envoy_can_ask_that_one() -> None:
    owner = next(n for n in range(2) if Assignment(shard=Shard(n, 2)).has("door"))
    async with service() as running, camera(running, "door"):
        running.watchers.assignment = Assignment(shard=Shard(1 - owner, 2))
        async with watch(running, "door") as sent:
            assert await refusal(sent) == (421, VideoReason.OTHER_REPLICA)


def test_all_workers_of_all_replicas_share_the_streams() -> None:
    places = [Assignment(worker, 2, Shard(n, 3)) for n in range(3) for worker in range(2)]
    names = [f"camera-{number}" for number in range(600)]
    assert all(sum(place.has(name) for place in places) == 1 for name in names)
    assert all(50 < sum(place.has(name) for name in names) < 160 for place in places)
