"""The real processes of the video service: workers end, hang, drain, and lose the control plane."""

import asyncio
import json
import os
import signal
from contextlib import AbstractAsyncContextManager, suppress

import pytest

from sluice.contract.names import video_stream
from sluice.contract.video import VideoReason
from tests.video.gateway_server import after
from tests.video.process.ads_server import ads_server, resources
from tests.video.process.running_service import RunningService, jpeg, running_service
from tests.video.service.http_client import Exchange, exchange
from tests.video.streams_kit import jpeg_model

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

CAMERA = {"url": "rtsp://127.0.0.1:1/door", "model": "digits"}


def upload(service: RunningService, worker: int = 0) -> AbstractAsyncContextManager[Exchange]:
    headers = {"x-sluice-model": "digits", "content-type": "video/mjpeg"}
    return exchange(service.http[worker], "POST", "/v2/models/digits/video", headers)


async def finished(sent: Exchange, frames: int) -> None:
    """Send frames, and check that each has a result."""
    for number in range(frames):
        await sent.send(jpeg(number))
    sent.end()
    assert (await sent.response()).status_code == 200
    events = [json.loads(line) for line in (await sent.body()).splitlines()]
    assert [event["frame"] for event in events if "inference" in event] == list(range(frames))
    assert events[-1]["end"]["counts"]["results"] == frames


async def test_uploads_are_analysed_by_every_worker_and_counted_together() -> None:
    async with running_service(workers=2) as service:
        for worker in (0, 1):
            async with upload(service, worker) as sent:
                await finished(sent, 5)

        async def counted() -> bool:
            return await service.metric("sluice_video_received_frames_total") == 10

        await service.until(counted)
        assert await service.metric("sluice_video_uploads_total") == 2
        assert await service.metric("sluice_video_frame_seconds_count") == 10
        assert (await service.get("/readyz")).status_code == 200


async def test_a_killed_worker_is_replaced_and_the_counts_of_uploads_stay() -> None:
    async with running_service(after(0.05), workers=2) as service:
        async with upload(service) as sent:
            await finished(sent, 5)

        async def counted() -> bool:
            return await service.metric("sluice_video_received_frames_total") >= 5

        await service.until(counted)
        before = await service.pids()
        async with upload(service) as cut:
            await cut.send(jpeg(0))
            await cut.response()
            os.kill(before[0], signal.SIGKILL)
            with suppress(Exception):
                await cut.body()
        async with upload(service, 1) as sent:
            await finished(sent, 5)

        async def replaced() -> bool:
            return await service.is_ready() and (await service.pids())[0] != before[0]

        await service.until(replaced)
        async with upload(service) as sent:
            await finished(sent, 5)
        assert (await service.pids())[1] == before[1]
        assert await service.metric("sluice_video_worker_starts_total") == 3
        assert await service.metric("sluice_video_received_frames_total") >= 10


async def test_a_worker_that_hangs_is_replaced_while_the_other_one_serves() -> None:
    async with running_service(workers=2, hang=1.0) as service:
        before = await service.pids()
        os.kill(before[0], signal.SIGSTOP)
        async with upload(service, 1) as sent:
            await finished(sent, 5)

        async def replaced() -> bool:
            return await service.is_ready() and (await service.pids())[0] != before[0]

        await service.until(replaced)
        assert await service.metric("sluice_video_worker_hangs_total") == 1


async def test_streams_are_distributed_and_come_back_when_their_worker_is_replaced() -> None:
    names = [f"camera-{number}" for number in range(8)]
    async with running_service(workers=2) as service:
        cameras = resources(
            {"digits": jpeg_model()}, dict.fromkeys(names, CAMERA), service.gateway.address
        )
        service.ads.push(cameras)

        async def placed() -> dict[str, int]:
            return {s["name"]: s["worker"] for s in (await service.videos())["streams"]}

        async def all_run() -> bool:
            return set(await placed()) == set(names)

        await service.until(all_run)
        before = await placed()
        assert set(before.values()) == {0, 1}
        os.kill((await service.pids())[0], signal.SIGKILL)

        async def gone() -> bool:
            return set(await placed()) != set(names)

        await service.until(gone)
        await service.until(all_run)
        assert await placed() == before
        await service.ads.until(
            lambda: any(s.name == names[0] for each in service.ads.reports for s in each.streams)
        )


async def test_streams_change_at_run_time() -> None:
    async with running_service() as service:
        cameras = resources(
            {"digits": jpeg_model()}, {"door": CAMERA, "yard": CAMERA}, service.gateway.address
        )
        await service.ads.accepted(service.ads.push(cameras))

        async def names() -> set[str]:
            return {stream["name"] for stream in (await service.videos())["streams"]}

        async def both() -> bool:
            return await names() == {"door", "yard"}

        await service.until(both)
        service.ads.push({}, [video_stream("door")])

        async def only_yard() -> bool:
            return await names() == {"yard"}

        await service.until(only_yard)


async def test_uploads_go_on_while_the_control_plane_is_away() -> None:
    async with running_service() as service:
        await service.ads.until(lambda: service.ads.acknowledged)
        # The worker finds nothing at the address any more.
        address = service.ads.address
        await service.stop_control_plane()
        async with upload(service) as sent:
            await finished(sent, 5)

        async def disconnected() -> bool:
            return await service.metric("sluice_video_worker_connected") == 0

        await service.until(disconnected)
        assert (await service.get("/readyz")).status_code == 200
        async with ads_server(address, service.ads) as back:
            await back.accepted(back.push(resources({"digits": jpeg_model()})))


async def test_a_stop_lets_uploads_end() -> None:
    async with running_service(after(0.01), drain=20.0) as service, upload(service) as sent:
        await sent.send(jpeg(0))
        await sent.response()
        await sent.event()
        service.process.terminate()

        async def drains() -> bool:
            return (await service.get("/readyz")).status_code == 503

        await service.until(drains)
        await sent.send(jpeg(1))
        assert (await sent.event())["frame"] == 1
        sent.end()
        assert "end" in await sent.event()
        assert await asyncio.wait_for(service.process.wait(), 20) == 0


async def test_an_upload_that_does_not_end_is_stopped_with_the_reason() -> None:
    async with running_service(drain=0.5) as service, upload(service) as sent:
        await sent.send(jpeg(0))
        await sent.response()
        await sent.event()
        service.process.terminate()
        assert (await sent.event())["end"]["reason"] == VideoReason.STOPPED
        assert await asyncio.wait_for(service.process.wait(), 20) == 0
        assert "killed" not in await service.log()
