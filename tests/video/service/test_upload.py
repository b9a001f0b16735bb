"""Uploads over HTTP: events while the video still comes, refusals, and clients that leave."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager

import grpc
import pytest

from sluice.contract.video import VideoReason
from tests.video.gateway_server import HeldAnswers, refusing
from tests.video.service.http_client import Exchange, exchange
from tests.video.service.kit import LINES, Service, service
from tests.video.streams_kit import until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

HEADERS = {"x-sluice-model": "digits", "content-type": LINES}
PATH = "/v2/models/digits/video"


def upload(
    running: Service, path: str = PATH, **headers: str
) -> AbstractAsyncContextManager[Exchange]:
    return exchange(running.http, "POST", path, HEADERS | headers)


async def send_endlessly(sent: Exchange, body: bytes) -> None:
    while True:
        await sent.send(body)


async def refusal(sent: Exchange, status: int) -> dict[str, object]:
    response = await sent.response()
    assert response.status_code == status
    assert (b"content-type", b"application/problem+json") in response.headers
    problem: dict[str, object] = json.loads(await sent.body())
    assert problem["status"] == status
    return problem


async def test_events_come_while_the_video_is_still_sent_and_the_last_one_is_the_summary() -> None:
    async with service() as running, upload(running) as sent:
        await sent.send(b"0\n")
        assert (await sent.response()).status_code == 200
        first = await sent.event()
        assert first["inference"]["outputs"][0]["data"] == ["0"]
        for number in range(1, 4):
            await sent.send(b"%d\n" % number)
            event = await sent.event()
            assert event["frame"] == number
        sent.end()
        summary = await sent.event()
        assert summary["end"]["counts"]["results"] == 4
        assert await sent.line() == b""


async def test_frames_are_sent_with_the_headers_of_the_client_and_the_version_of_the_path() -> None:
    path = "/v2/models/digits/versions/v7/video"
    headers = {"authorization": "Bearer t", "x-model-version": "v1", "x-sluice-x": "1"}
    async with service() as running, upload(running, path, **headers) as sent:
        await sent.send(b"0\n")
        sent.end()
        assert (await sent.response()).status_code == 200
        await sent.body()
        (metadata,) = running.gateway.metadata
    assert metadata["authorization"] == "Bearer t"
    assert metadata["x-model-version"] == "v7"
    assert "x-sluice-x" not in metadata


@pytest.mark.parametrize(
    ("query", "field", "text"),
    [
        ("rate=fast", "rate", "frames per second"),
        ("rate=0", "rate", "more than 0"),
        ("region=0,0,2,1", "region", "left,top,width,height"),
        ("size=640", "size", "WIDTHxHEIGHT"),
        ("ordered=yes", "ordered", "true or false"),
        ("overload=skip", "overload", "wait or drop"),
        ("fps=5", "fps", "rate"),
        ("rate=1&rate=2", "rate", "once"),
    ],
)
async def test_an_option_that_is_not_valid_is_refused_by_its_name(
    query: str, field: str, text: str
) -> None:
    async with service() as running, upload(running, f"{PATH}?{query}") as sent:
        problem = await refusal(sent, 400)
    assert problem["reason"] == VideoReason.INVALID_OPTION
    assert problem["field"] == field
    assert text in str(problem["detail"])


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"content-type": "video/unknown"}, 415, VideoReason.UNSUPPORTED_FORMAT),
        ({"accept": "image/png"}, 406, VideoReason.NOT_ACCEPTABLE),
        ({"content-length": "1001"}, 413, VideoReason.TOO_MANY_BYTES),
        ({"x-sluice-model": "unknown"}, 404, VideoReason.UNKNOWN_MODEL),
    ],
)
async def test_an_upload_that_cannot_be_analysed_is_refused_before_its_body(
    headers: dict[str, str], status: int, reason: str
) -> None:
    async with (
        service(max_bytes=1000) as running,
        exchange(running.http, "POST", PATH, HEADERS | headers) as sent,
    ):
        assert (await refusal(sent, status))["reason"] == reason
        assert running.uploads.refused[reason] == 1


async def test_a_request_that_did_not_come_through_the_gateway_is_refused() -> None:
    async with service() as running, exchange(running.http, "POST", PATH, {}) as sent:
        assert (await refusal(sent, 403))["reason"] == VideoReason.NOT_THROUGH_GATEWAY


async def test_a_video_that_is_broken_before_its_first_frame_is_refused() -> None:
    async with service() as running, upload(running) as sent:
        await sent.send(b"broken\n")
        problem = await refusal(sent, 422)
    assert problem["reason"] == VideoReason.BROKEN_VIDEO


async def test_a_video_that_breaks_later_ends_with_the_reason_in_the_summary() -> None:
    async with service() as running, upload(running) as sent:
        await sent.send(b"0\n")
        assert (await sent.response()).status_code == 200
        await sent.event()
        await sent.send(b"broken\n")
        summary = await sent.event()
    assert summary["end"]["reason"] == VideoReason.BROKEN_VIDEO


async def test_further_uploads_are_refused_until_one_ends() -> None:
    async with service() as running:
        async with upload(running) as first, upload(running) as second:
            for sent in (first, second):
                await sent.send(b"0\n")
                assert (await sent.response()).status_code == 200
            async with upload(running) as third:
                problem = await refusal(third, 503)
                assert problem["reason"] == VideoReason.TOO_MANY_UPLOADS
        await until(lambda: not running.uploads._places)
        async with upload(running) as sent:
            await sent.send(b"0\n")
            assert (await sent.response()).status_code == 200


async def test_an_upload_ends_when_its_client_leaves() -> None:
    held = HeldAnswers()
    async with service(held) as running:
        async with upload(running) as sent:
            await sent.send(b"0\n")
            await held.arrived(0)
        await until(lambda: not running.uploads._open)
        assert not running.registry.snapshot()


async def test_a_client_that_does_not_read_is_not_read_from() -> None:
    async with service() as running, upload(running) as sent:
        line = b"x" * 60_000 + b"\n"
        sending = asyncio.create_task(send_endlessly(sent, line))
        before = -1
        while before < (before := len(running.gateway.requests)):  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        assert not sending.done()
        sending.cancel()
        assert len(running.gateway.requests) < 1000


async def test_an_upload_whose_first_frame_the_gateway_refuses_is_refused() -> None:
    async with (
        service(refusing(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")) as running,
        upload(running) as sent,
    ):
        await sent.send(b"0\n")
        problem = await refusal(sent, 401)
    assert problem["reason"] == VideoReason.CREDENTIALS_EXPIRED
    assert problem["detail"] == "the token has expired"


async def test_a_drain_lets_uploads_end_and_refuses_new_ones() -> None:
    async with service() as running, upload(running) as sent:
        await sent.send(b"0\n")
        await sent.response()
        draining = asyncio.create_task(running.uploads.drain(20.0))
        await asyncio.sleep(0)
        async with upload(running) as other:
            assert (await refusal(other, 503))["reason"] == VideoReason.STOPPED
        sent.end()
        await draining
        events = [json.loads(line) for line in (await sent.body()).splitlines()]
        assert "reason" not in events[-1]["end"] or not events[-1]["end"]["reason"]


async def test_an_upload_that_does_not_end_in_the_drain_is_stopped() -> None:
    async with service() as running, upload(running) as sent:
        await sent.send(b"0\n")
        await sent.response()
        await running.uploads.drain(0.0)
        events = [json.loads(line) for line in (await sent.body()).splitlines()]
    assert events[-1]["end"]["reason"] == VideoReason.STOPPED


async def test_an_upload_can_have_annotated_frames_as_its_response() -> None:
    async with service() as running, upload(running, accept="multipart/x-mixed-replace") as sent:
        await sent.send(b"0\n")
        response = await sent.response()
        assert (b"content-type", b"multipart/x-mixed-replace; boundary=frame") in response.headers
        sent.end()
        assert (await sent.body()).startswith(b"--frame\r\n")


async def test_a_broken_video_is_refused_also_if_the_client_wants_frames() -> None:
    async with service() as running, upload(running, accept="multipart/x-mixed-replace") as sent:
        await sent.send(b"broken\n")
        assert (await refusal(sent, 422))["reason"] == VideoReason.BROKEN_VIDEO
