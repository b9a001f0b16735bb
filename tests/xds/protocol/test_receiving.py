"""Requests are received without keeping them."""

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from weakref import ref

import grpc
import grpc.aio
import pytest

from protos.base_pb2 import Node
from protos.load_stats_pb2 import LoadStatsRequest
from protos.observations_pb2 import Report
from sluice.contract.paths import (
    CSDS_SERVICE,
    CSDS_STREAM,
    LOAD_METHOD,
    LOAD_SERVICE,
    OBSERVATIONS,
)
from xds.envoys.load_reports import LoadReportReader
from xds.envoys.observations import Observations
from xds.envoys.reports import ReportService
from xds.envoys.worker_reports import WorkerReportReader
from xds.protocol.client_status import ClientStatusService
from xds.protocol.nodes import Nodes
from xds.protocol.receiving import received
from xds.protocol.server import XdsServer

LOAD = f"/{LOAD_SERVICE}/{LOAD_METHOD}"
CSDS = f"/{CSDS_SERVICE}/{CSDS_STREAM}"


class Request:
    """A large request."""


class Reads:
    """Has two requests. `kept`: how many earlier ones exist when the next one is read."""

    def __init__(self) -> None:
        self._requests: list[ref[Request]] = []
        self.kept: list[int] = []

    async def read(self) -> object:
        self.kept.append(sum(each() is not None for each in self._requests))
        if len(self._requests) == 2:
            return grpc.aio.EOF
        request = Request()
        self._requests.append(ref(request))
        return request


def test_no_request_exists_while_the_next_one_is_awaited() -> None:
    async def test() -> None:
        reads = Reads()
        async for request in received(reads):
            assert isinstance(request, Request)
            del request
        assert reads.kept == [0, 0, 0]

    asyncio.run(test())


SIZE = 4 << 20
LARGE = b"\xa2\x06" + b"\x80\x80\x80\x02" + bytes(SIZE)
"""A field that no message has."""


@pytest.mark.parametrize(
    ("method", "message", "code"),
    [
        (LOAD, LoadStatsRequest(node=Node(id="n")).SerializeToString() + LARGE, None),
        (OBSERVATIONS, Report(node=Node(id="n")).SerializeToString() + LARGE, None),
        (CSDS, LARGE, None),
        (LOAD, b"\xff" * SIZE, grpc.StatusCode.INVALID_ARGUMENT),
        (CSDS, b"\xff" * SIZE, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["load report", "worker report", "client status", "no report", "no request"],
)
def test_no_service_keeps_a_large_request(
    tmp_path: Path, method: str, message: bytes, code: grpc.StatusCode | None
) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        before, _ = tracemalloc.get_traced_memory()
        call = channel.stream_stream(method)()
        await call.write(message)
        if code is None:
            assert await call.read() is not grpc.aio.EOF
        else:
            assert await call.code() is code
        while tracemalloc.get_traced_memory()[0] > before + SIZE // 2:  # noqa: ASYNC110  # no event tells it
            await asyncio.sleep(0.01)

    tracemalloc.start()
    try:
        asyncio.run(run(tmp_path, test))
    finally:
        tracemalloc.stop()


async def run(directory: Path, test: Callable[[grpc.aio.Channel], Awaitable[None]]) -> None:
    nodes, observations = Nodes(lambda: 0.0), Observations()
    reports = [
        ReportService(observations, each) for each in (LoadReportReader(), WorkerReportReader())
    ]
    address = f"unix:{directory}/xds"
    server = XdsServer(nodes, address, [ClientStatusService(nodes), *reports])
    await server.start()
    gc.disable()  # A request that is garbage until the next collection may be one of many.
    try:
        async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
            await test(channel)
    finally:
        gc.enable()
        await server.stop()
