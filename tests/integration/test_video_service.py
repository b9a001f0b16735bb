"""The video service behind the real gateway: two workers, uploads and watchers through Envoy."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from protos.video_pb2 import AnalysisResult, AnalyzeRequest
from sluice.contract.paths import VIDEO_ANALYZE, VIDEO_SERVICE
from sluice.contract.video import VideoReason
from tests import plain_http
from tests.integration.frame_model import REGION, frame_model
from tests.integration.gateway import (
    START_TIMEOUT,
    Config,
    Gateway,
    bearer,
    eventually,
    free_ports,
    running,
)
from tests.integration.rtsp_camera import camera, require_server
from tests.integration.video_gateway import camera_config, counts, stream_status, video_config
from tests.video.process.running_service import consecutive_ports, jpeg
from tests.video.service.http_client import Exchange, exchange

require_server()

pytestmark = pytest.mark.anyio

FILM = Path(__file__).parents[2] / "examples" / "digits.mp4"
FRAMES = 300
BAND = ",".join(str(REGION[key]) for key in ("left", "top", "width", "height"))
PATH = f"/v2/models/numbers/video?region={BAND}"
CAMERAS = tuple(f"camera-{number}" for number in range(4))


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with two workers of the video service, and cameras that both of them run."""
    with (
        frame_model("numbers", delay_ms=10) as model,
        camera(FILM, free_ports(1)[0]) as film,
    ):
        config = video_config(model, idle_timeout="5s", deadline="30s")
        config["video"]["workers"] = 2
        for key in ("http", "grpc"):
            config["video"][key] = f"127.0.0.1:{consecutive_ports(2)}"
        del config["models"]["numbers"]["access"]
        config["auth"]["issuers"][0]["leeway"] = "0s"
        config["videos"] = {name: with_token(camera_config(film.url, rate=3)) for name in CAMERAS}
        with running(config, demo=False) as started:
            # The service has tried to reach the gateway before Envoy listened.
            eventually(lambda: all(has_results(started, name) for name in CAMERAS), START_TIMEOUT)
            yield started


def has_results(gateway: Gateway, name: str) -> bool:
    return counts(gateway, name).get("results", 0) > 0


def with_token(stream: dict[str, Any]) -> dict[str, Any]:
    """The stream with credentials for the gateway."""
    token = bearer("cameras")["authorization"]
    os.environ["CAMERA_TOKEN"] = token
    return {**stream, "headers_from_secret": {"authorization": {"env": "CAMERA_TOKEN"}}}


def workers(gateway: Gateway) -> list[dict[str, Any]]:
    url = f"http://{gateway.config['video']['metrics']}/v1/videos"
    found: list[dict[str, Any]] = plain_http.get(url).json()["workers"]
    return found


@asynccontextmanager
async def upload(gateway: Gateway, rate: int = 30, **headers: str) -> AsyncIterator[Exchange]:
    address = gateway.config["listener"]["address"]
    given = {"content-type": "video/mp4", **bearer(), **headers}
    async with exchange(address, "POST", f"{PATH}&rate={rate}", given) as sent:
        yield sent


async def results(sent: Exchange) -> list[dict[str, Any]]:
    """Send the film, and return all events."""
    sending = asyncio.create_task(send_film(sent))
    assert (await sent.response()).status_code == 200
    events = [json.loads(line) for line in (await sent.body()).splitlines()]
    await sending
    return events


async def send_film(sent: Exchange) -> None:
    film = FILM.read_bytes()
    for start in range(0, len(film), 10_000):
        await sent.send(film[start : start + 10_000])
    sent.end()


def numbers(events: list[dict[str, Any]]) -> list[int]:
    """The results of all events. Fails if a frame has none."""
    assert [each["failure"] for each in events if "failure" in each] == []
    return [event["inference"]["outputs"][0]["data"][0] for event in events[:-1]]


async def test_each_frame_of_an_upload_has_its_result_in_order(gateway: Gateway) -> None:
    async with upload(gateway) as sent:
        events = await results(sent)
    assert numbers(events) == list(range(FRAMES))
    assert events[-1]["end"]["counts"]["results"] == FRAMES


async def test_an_upload_without_credentials_is_refused_before_its_body(gateway: Gateway) -> None:
    async with upload(gateway, authorization="Bearer none") as sent:
        assert (await sent.response()).status_code == 401


async def test_an_upload_ends_when_its_token_expires(gateway: Gateway) -> None:
    token = bearer(exp=int(time.time()) + 3)
    async with upload(gateway, **token, **{"content-type": "video/mjpeg"}) as sent:
        sending = asyncio.create_task(send_pictures(sent))
        assert (await sent.response()).status_code == 200
        events = [json.loads(line) for line in (await sent.body()).splitlines()]
        sending.cancel()
    assert events[-1]["end"]["reason"] == VideoReason.CREDENTIALS_EXPIRED
    assert events[-1]["end"]["counts"]["results"] > 0


async def send_pictures(sent: Exchange) -> None:
    """Send pictures without an end."""
    while True:
        await sent.send(jpeg(0))
        await asyncio.sleep(0.1)


async def test_events_come_over_grpc_while_the_film_is_sent(gateway: Gateway) -> None:
    film = FILM.read_bytes()

    async def requests() -> AsyncIterator[AnalyzeRequest]:
        yield AnalyzeRequest(content_type="video/mp4", options={"region": BAND, "rate": "10"})
        for start in range(0, len(film), 10_000):
            yield AnalyzeRequest(data=film[start : start + 10_000])

    metadata = (("x-model-name", "numbers"), *bearer().items())
    async with grpc.aio.insecure_channel(gateway.config["listener"]["address"]) as channel:
        method = channel.stream_stream(
            f"/{VIDEO_SERVICE}/{VIDEO_ANALYZE}",
            request_serializer=AnalyzeRequest.SerializeToString,
            response_deserializer=AnalysisResult.FromString,
        )
        call = method(requests(), metadata=metadata, timeout=60)
        events = [event async for event in call]
    found = [event.inference.outputs[0].integers[0] for event in events[:-1]]
    assert found == list(range(0, FRAMES, 3))
    assert events[-1].end.counts.results == FRAMES // 3


@asynccontextmanager
async def watching(gateway: Gateway, stream: str, accept: str) -> AsyncIterator[Exchange]:
    address, path = gateway.config["listener"]["address"], f"/v2/models/numbers/video/{stream}"
    async with exchange(address, "GET", path, {"accept": accept, **bearer()}) as sent:
        assert (await sent.response()).status_code == 200
        yield sent


async def test_both_workers_answer_for_the_cameras_of_both(gateway: Gateway) -> None:
    """Envoy sends requests to the workers in turn, and each camera is on one of them."""
    eventually(lambda: all(stream_status(gateway, name) for name in CAMERAS))
    assert {stream_status(gateway, name)["worker"] for name in CAMERAS} == {0, 1}
    for name in (*CAMERAS, *CAMERAS):
        async with watching(gateway, name, "application/x-ndjson") as sent:
            event = await sent.event()
            assert event["stream"] == name
            assert event["inference"]["outputs"][0]["data"] == [event["frame"] % FRAMES]


async def test_people_watch_annotated_frames(gateway: Gateway) -> None:
    for name in CAMERAS[:2]:
        async with watching(gateway, name, "multipart/x-mixed-replace") as sent:
            assert await sent.line() == b"--frame\r"
            assert (await sent.line()).startswith(b"content-type: image/jpeg")


async def test_a_killed_worker_takes_only_its_own_work_with_it(gateway: Gateway) -> None:
    before = workers(gateway)
    sending = [asyncio.create_task(finished_upload(gateway)) for _ in range(4)]
    await asyncio.sleep(0.2)
    os.kill(before[0]["pid"], signal.SIGKILL)
    assert any(await asyncio.gather(*sending)), "no upload of the other worker has ended well"
    eventually(lambda: all(worker["serving"] for worker in workers(gateway)))
    assert workers(gateway)[1]["pid"] == before[1]["pid"]
    eventually(lambda: all(status(gateway, name) == "running" for name in CAMERAS))
    assert await finished_upload(gateway)


async def finished_upload(gateway: Gateway) -> bool:
    """Whether an upload of the film has all results."""
    with contextlib.suppress(Exception):
        async with upload(gateway, rate=5) as sent:
            return numbers(await results(sent)) == list(range(0, FRAMES, 6))
    return False


def status(gateway: Gateway, name: str) -> str:
    return str(stream_status(gateway, name).get("state"))


async def test_streams_change_at_run_time(gateway: Gateway) -> None:
    def remove(config: Config) -> None:
        del config["videos"][CAMERAS[0]]

    pids = [worker["pid"] for worker in workers(gateway)]
    gateway.edit(remove)
    eventually(lambda: not stream_status(gateway, CAMERAS[0]))
    assert status(gateway, CAMERAS[1]) == "running"
    assert [worker["pid"] for worker in workers(gateway)] == pids


async def test_video_goes_on_without_the_control_plane(gateway: Gateway) -> None:
    (control_plane,) = gateway.processes("control-plane")
    os.kill(control_plane, signal.SIGSTOP)
    try:
        assert await finished_upload(gateway)
        assert status(gateway, CAMERAS[1]) == "running"
    finally:
        os.kill(control_plane, signal.SIGCONT)
