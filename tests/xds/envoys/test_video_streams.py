"""The control plane keeps what the workers of the video service report, within bounds."""

import asyncio
import math
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from protos.base_pb2 import Node
from protos.video_pb2 import Counts, ReportReceived, SinkStatus, StreamStatus, VideoReport
from sluice.contract.paths import VIDEO_REPORTS
from sluice.contract.video import MAX_REPORTED
from video.streams.status import StreamState
from xds.envoys import video_streams
from xds.envoys.reports import InvalidReportError, ReportService
from xds.envoys.video_streams import (
    MAX_ERROR,
    MAX_REASONS,
    MAX_SINKS,
    MAX_WORKERS,
    SILENT_AFTER,
    VideoReportReader,
    VideoStreams,
)
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.protocol.shared_names import OverLimitError

NOW = 100.0


def status(name: str = "door", **fields: object) -> StreamStatus:
    values: dict[str, Any] = {"name": name, "model": "m", "state": "running", **fields}
    return StreamStatus(**values)


def report(*streams: StreamStatus, number: int = 1) -> bytes:
    return VideoReport(node=Node(id="w"), number=number, streams=streams).SerializeToString()


def read(streams: VideoStreams, *found: StreamStatus, worker: str = "w", now: float = NOW) -> None:
    VideoReportReader().read(streams.join("video", worker, now), report(*found), now)


def test_a_stream_is_shown_with_its_worker_its_counts_and_its_sinks() -> None:
    streams = VideoStreams()
    counts = Counts(received=9, frames=5, results=3, drops={"overload": 2}, errors={"refused": 1})
    sinks = [SinkStatus(name="0-redis", delivered=3, waiting=1, error="unreachable")]
    read(streams, status(counts=counts, sinks=sinks, p99=12.5, frames_per_second=30, seconds=7))
    [view] = streams.views(NOW)
    assert (view.name, view.model, view.worker, view.state) == ("door", "m", "w", "running")
    assert (view.p99, view.frames_per_second, view.seconds) == (12.5, 30, 7)
    assert (view.counts.results, view.counts.drops) == (3, {"overload": 2})
    assert (view.sinks[0].name, view.sinks[0].error) == ("0-redis", "unreachable")


def test_cameras_come_before_uploads_and_both_by_name() -> None:
    streams = VideoStreams()
    read(streams, status("upload-1", upload=True), status("gate"))
    read(streams, status("door"), worker="v")
    assert [each.name for each in streams.views(NOW)] == ["door", "gate", "upload-1"]


def test_a_report_replaces_the_one_before_and_a_worker_that_leaves_is_forgotten() -> None:
    streams, reader = VideoStreams(), VideoReportReader()
    reporter = streams.join("video", "w", NOW)
    for name in ("door", "gate"):
        response = reader.read(reporter, report(status(name), number=7), NOW)
        assert ReportReceived.FromString(response or b"").number == 7
    assert [each.name for each in streams.views(NOW)] == ["gate"]
    reporter.leave(NOW)
    assert streams.views(NOW) == []


def test_the_streams_of_a_worker_that_is_silent_are_not_shown() -> None:
    streams = VideoStreams()
    read(streams, status())
    assert streams.views(NOW + SILENT_AFTER)
    assert streams.views(NOW + SILENT_AFTER + 1) == []


def test_texts_are_printable_and_short() -> None:
    streams = VideoStreams()
    read(streams, status("a\n\x1b[31m", error="e" * 5000))
    [view] = streams.views(NOW)
    assert view.name.isprintable()
    assert len(view.error) <= MAX_ERROR + 3


@pytest.mark.parametrize(
    "wrong",
    [
        status(state="asleep"),
        status(p99=math.inf),
        status(seconds=-1),
        status(frames_per_second=math.nan),
        status(sinks=[SinkStatus()] * (MAX_SINKS + 1)),
        status(counts=Counts(drops={str(n): 1 for n in range(MAX_REASONS + 1)})),
    ],
)
def test_a_report_that_is_not_valid_changes_nothing(wrong: StreamStatus) -> None:
    streams, reader = VideoStreams(), VideoReportReader()
    reporter = streams.join("video", "w", NOW)
    reader.read(reporter, report(status()), NOW)
    with pytest.raises((InvalidReportError, OverLimitError)):
        reader.read(reporter, report(status("other"), wrong), NOW)
    assert [each.name for each in streams.views(NOW)] == ["door"]


def test_streams_and_workers_are_bounded() -> None:
    streams = VideoStreams()
    with pytest.raises(OverLimitError):
        read(streams, *[StreamStatus(state="running")] * (MAX_REPORTED + 1))
    for _ in range(MAX_WORKERS - 1):
        streams.join("video", "w", NOW)
    with pytest.raises(OverLimitError):
        streams.join("video", "w", NOW)


def test_workers_report_to_the_port_of_xds(tmp_path: Path) -> None:
    async def test() -> None:
        streams, address = VideoStreams(), f"unix:{tmp_path}/xds"
        service = ReportService(streams, VideoReportReader())
        server = XdsServer(Nodes(time.time), address, [service])
        await server.start()
        try:
            async with asyncio.timeout(60), grpc.aio.insecure_channel(address) as channel:
                call = channel.stream_stream(VIDEO_REPORTS)()
                await call.write(report(status()))
                assert ReportReceived.FromString(await call.read()).number == 1
                assert [each.worker for each in streams.views(time.monotonic())] == ["w"]
                await call.write(report(status(state="asleep")))
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert streams.views(time.monotonic()) == []
        finally:
            await server.stop()
        assert streams.refused == {"video": 1}

    asyncio.run(test())


def test_the_states_are_those_of_the_video_service() -> None:
    assert {*video_streams.STATES} == {*StreamState}
