"""Reports the streams of a worker to the control plane (VideoReport in video.proto)."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from typing import Final, NoReturn

import grpc.aio

from protos.base_pb2 import Node
from protos.video_pb2 import ReportReceived, StreamStatus, VideoReport
from sluice.contract.paths import VIDEO_REPORTS
from sluice.contract.video import MAX_REPORTED
from sluice.tls import NO_CREDENTIALS, ClientCredentials
from video.process.control_plane import call_metadata, open_channel

log = logging.getLogger(__name__)

REPORT_INTERVAL: Final = 1.0
"""Seconds between two reports."""

CONFIRMATION_TIMEOUT: Final = 10.0
"""Seconds for a report and its confirmation. Later, another control plane gets the reports."""


class StreamReporter:
    """Sends the reports of one worker.

    `streams` returns what the next report says, cameras first: a report has a limit.
    """

    def __init__(
        self,
        addresses: str,
        node: Node,
        streams: Callable[[], Iterable[StreamStatus]],
        credentials: ClientCredentials = NO_CREDENTIALS,
        interval: float = REPORT_INTERVAL,
    ) -> None:
        self._addresses = addresses.split(",")
        self._node = node
        self._streams = streams
        self._credentials = credentials
        self._interval = interval
        self._process = random.getrandbits(64)
        self._number = 0

    async def run(self) -> NoReturn:
        """Report, and connect again whenever the stream ends, until cancelled."""
        for address in cycle(self._addresses):
            try:
                await self._report(address)
            except (grpc.aio.AioRpcError, OSError, asyncio.InvalidStateError) as error:
                # The subscriber logs why the control plane does not respond. The state is invalid
                # if the stream ended before a report was sent.
                reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else error
                log.debug("reports to the control plane %s: %s", address, reason)
            await asyncio.sleep(self._interval)
        raise AssertionError("a cycle does not end")

    async def _report(self, address: str) -> None:
        """Send reports on one stream until it ends."""
        metadata = call_metadata(self._credentials)
        async with open_channel(address, self._credentials) as channel:
            method = channel.stream_stream(
                VIDEO_REPORTS,
                request_serializer=VideoReport.SerializeToString,
                response_deserializer=ReportReceived.FromString,
            )
            call = method(metadata=metadata)
            node: Node | None = self._node
            while True:
                self._number += 1
                report = VideoReport(
                    node=node,
                    process=self._process,
                    number=self._number,
                    streams=islice(self._streams(), MAX_REPORTED),
                )
                async with asyncio.timeout(CONFIRMATION_TIMEOUT):
                    await call.write(report)
                    received = await call.read()
                if received is grpc.aio.EOF:
                    return
                node = None
                await asyncio.sleep(self._interval)
