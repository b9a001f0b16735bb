"""A worker follows the config: it applies all of a response or nothing, and says which."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protos.base_pb2 import Node
from protos.video_pb2 import StreamStatus
from sluice.contract.names import VIDEO_SETTINGS, video_model, video_stream
from sluice.contract.video import MAX_REPORTED
from sluice.tls import NO_CREDENTIALS, ClientCredentials
from tests.video.process.ads_server import AdsServer, ads_server, resources
from tests.video.streams_kit import jpeg_model
from video.process.received import ReceivedConfig
from video.process.reports import StreamReporter
from video.process.subscriber import Subscriber

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

NODE = Node(id="video-test-0")
CAMERA = {"url": "rtsp://192.0.2.1/door", "model": "digits"}


class Applied:
    """Keeps the configs. Rejects one if `check` raises."""

    def __init__(self, check: Callable[[ReceivedConfig], None] = lambda _: None) -> None:
        self.configs: list[ReceivedConfig] = []
        self._check = check

    async def __call__(self, config: ReceivedConfig) -> None:
        self._check(config)
        self.configs.append(config)


@asynccontextmanager
async def subscribed(
    server: AdsServer, applied: Applied, credentials: ClientCredentials = NO_CREDENTIALS
) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(server.address, NODE, applied, credentials)
    task = asyncio.create_task(subscriber.run())
    try:
        yield subscriber
    finally:
        task.cancel()


def all_of(**streams: dict[str, str]) -> dict[str, bytes]:
    return resources({"digits": jpeg_model()}, streams)


async def test_changes_of_one_response_are_applied_together() -> None:
    applied = Applied()
    async with ads_server() as server, subscribed(server, applied):
        await server.accepted(server.push(all_of(door=CAMERA)))
        assert applied.configs[0].streams.keys() == {"door"}
        more = all_of(yard=CAMERA, gate=CAMERA)
        changed = {name: more[name] for name in (video_stream("yard"), video_stream("gate"))}
        await server.accepted(server.push(changed, [video_stream("door")]))
    assert len(applied.configs) == 2
    assert applied.configs[1].streams.keys() == {"yard", "gate"}
    assert server.nodes[0].id == NODE.id


async def test_a_config_that_is_not_valid_is_rejected_and_the_last_one_stays() -> None:
    applied = Applied()
    async with ads_server() as server, subscribed(server, applied) as subscriber:
        await server.accepted(server.push(all_of(door=CAMERA)))
        secret = b'{"url": "rtsp://192.0.2.1/x", "model": "digits", "password": "hidden"}'
        nonce = server.push({video_stream("bad"): b"\x0a" + bytes([len(secret)]) + secret})
        await server.until(lambda: nonce in server.rejected)
        assert "stream/bad.password" in server.rejected[nonce]
        assert "hidden" not in server.rejected[nonce]
        assert subscriber.state.config is applied.configs[0]
        nonce = server.push({}, [video_model("digits")])
        await server.until(lambda: nonce in server.rejected)
        assert "stream/door: its model digits is missing" in server.rejected[nonce]
    assert len(applied.configs) == 1


async def test_an_unexpected_failure_rejects_the_config_and_does_not_end_the_worker() -> None:
    def fail(config: ReceivedConfig) -> None:
        if "door" in config.streams:
            raise RuntimeError("a secret")

    applied = Applied(fail)
    async with ads_server() as server, subscribed(server, applied):
        await server.accepted(server.push(all_of()))
        nonce = server.push(all_of(door=CAMERA))
        await server.until(lambda: nonce in server.rejected)
        assert "secret" not in server.rejected[nonce]
        await server.accepted(server.push(all_of(), [video_stream("door")]))


async def test_the_config_stays_while_the_control_plane_is_away_and_only_changes_come_after() -> (
    None
):
    applied = Applied()
    async with ads_server() as server, subscribed(server, applied) as subscriber:
        await server.accepted(server.push(all_of(door=CAMERA)))
        return_address = server.address
    # The context of the subscriber has ended with the server above: a new one keeps its state.
    task = asyncio.create_task(subscriber.run())
    try:
        assert subscriber.state.config is applied.configs[0]
        server.push(all_of(yard=CAMERA), [video_stream("door")])
        async with ads_server(return_address, server):
            await server.until(lambda: len(server.acknowledged) == 2)
            assert server.known[1].keys() == {video_model("digits"), video_stream("door")}
            assert VIDEO_SETTINGS not in server.known[1]
    finally:
        task.cancel()
    assert applied.configs[-1].streams.keys() == {"yard"}


REFUSED = "127.0.0.1:1"
"""An address at which no server listens."""

SOON = 10.0
"""Seconds, much less than a client waits for a server that does not answer."""


async def test_the_next_control_plane_gets_the_subscription_when_one_refuses_it() -> None:
    applied = Applied()
    async with ads_server() as server, asyncio.timeout(SOON):
        server.push(all_of())
        subscriber = Subscriber(f"{REFUSED},{server.address}", NODE, applied)
        task = asyncio.create_task(subscriber.run())
        try:
            await server.accepted("n1")
        finally:
            task.cancel()


async def test_the_next_control_plane_gets_the_reports_when_one_refuses_them() -> None:
    async with ads_server() as server, asyncio.timeout(SOON):
        reporter = StreamReporter(f"{REFUSED},{server.address}", NODE, tuple, interval=0.01)
        task = asyncio.create_task(reporter.run())
        try:
            await server.until(lambda: len(server.reports) >= 1)
        finally:
            task.cancel()


async def test_a_token_is_sent_with_each_call(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-of-the-service\n")
    async with (
        ads_server() as server,
        subscribed(server, Applied(), ClientCredentials(token_file=file)),
    ):
        server.push(all_of())
        await server.accepted("n1")
    assert server.metadata[0]["authorization"] == "Bearer a-token-of-the-service"


async def test_reports_have_the_node_first_and_numbers_that_grow() -> None:
    async with ads_server() as server:
        reporter = StreamReporter(server.address, NODE, tuple, interval=0.01)
        task = asyncio.create_task(reporter.run())
        try:
            await server.until(lambda: len(server.reports) >= 3)
        finally:
            task.cancel()
    first, second, third = server.reports[:3]
    assert first.node.id == NODE.id
    assert not second.HasField("node")
    assert [each.number for each in (first, second, third)] == [1, 2, 3]
    assert first.process == third.process != 0


async def test_a_report_has_as_many_streams_as_the_control_plane_takes() -> None:
    streams = [StreamStatus(name=str(number)) for number in range(MAX_REPORTED + 1)]
    async with ads_server() as server:
        reporter = StreamReporter(server.address, NODE, lambda: streams)
        task = asyncio.create_task(reporter.run())
        try:
            await server.until(lambda: len(server.reports) == 1)
        finally:
            task.cancel()
    assert list(server.reports[0].streams) == streams[:MAX_REPORTED]
