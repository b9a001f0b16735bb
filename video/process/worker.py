"""One worker of the video service: a process that follows the config, runs its streams of cameras,
and serves Envoy.

A worker listens only after it has applied a config.
"""

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import uvloop

from protos.base_pb2 import Node
from protos.video_pb2 import StreamStatus, StreamTotals, WorkerSnapshot
from sluice.config.video import GatewayTls
from sluice.contract.names import NODE_CLUSTER, VIDEO_AGENT
from sluice.supervision.stack_dump import dump_at_signal, stack_file
from sluice.tls import NO_CREDENTIALS, ClientCredentials, TlsFiles
from video.conversion import FrameConverter
from video.inference.gateway import GatewayClient
from video.process.files import WorkerFiles
from video.process.received import ReceivedConfig
from video.process.reports import StreamReporter
from video.process.servers import serving
from video.process.snapshots import SnapshotWriter
from video.process.stream_config import configured_streams, watched_streams
from video.process.subscriber import Subscriber
from video.service.assignment import Assignment
from video.service.latency import Latencies
from video.service.peers import serving_peers
from video.service.uploads import Uploads
from video.service.watchers import Watchers
from video.sources import open_upload
from video.streams.parts import StreamParts
from video.streams.registry import StreamRegistry
from video.streams.settings import StreamSettings

log = logging.getLogger(__name__)

MAX_SOURCE_END: Final = 5.0
"""Seconds that a source may take to end. Then the worker is silent, and is replaced after the hang
timeout."""

_DRAWING_THREADS: Final = 1
"""Threads that draw frames for people, so that they cannot take more than a core of the others."""

_STATM: Final = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of one worker. `drain_timeout` is in seconds.

    `http`, `grpc`: addresses for Envoy. `tls`: TLS of these servers, for which `clients` are the
    names in the certificates of those who may call; None without it. `xds_credentials`: those of
    the worker at the control plane.
    """

    assignment: Assignment
    http: str
    grpc: str
    xds: str
    drain_timeout: float
    tls: TlsFiles | None = None
    clients: frozenset[str] | None = None
    xds_credentials: ClientCredentials = NO_CREDENTIALS

    @property
    def index(self) -> int:
        """The number of the worker."""
        return self.assignment.worker


def main(settings: WorkerSettings, files: WorkerFiles, lifeline: Connection) -> None:
    """Run until SIGTERM or the end of the supervisor, which holds the other end of `lifeline`."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s video worker {settings.index}: %(message)s",
    )
    dump_at_signal(stack_file(files.folder, settings.index))
    # Ctrl-C reaches the whole process group. The supervisor decides when a worker stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(Worker(settings, files).run(lifeline))


class Worker:
    """Composes the parts of a worker."""

    def __init__(self, settings: WorkerSettings, files: WorkerFiles) -> None:
        self._settings = settings
        self._files = files
        self._latencies = Latencies()
        drawing = ThreadPoolExecutor(_DRAWING_THREADS, "draw")
        self._uploads = Uploads(open_upload, self._latencies, drawing)
        self._watchers = Watchers(
            settings.assignment, lambda worker: f"unix:{files.socket(worker)}", drawing
        )
        self._node = _node(settings.index)
        self._subscriber = Subscriber(
            settings.xds, self._node, self._apply, settings.xds_credentials
        )
        self._registry: StreamRegistry | None = None
        self._gateway: GatewayClient | None = None
        self._gateway_settings: tuple[str, GatewayTls | None] | None = None
        self._executor = ThreadPoolExecutor(os.cpu_count(), "convert")
        self._has_config = asyncio.Event()
        self._stop = asyncio.Event()
        self._is_serving = False

    async def run(self, lifeline: Connection) -> None:
        """Follow the config, serve, and drain. Raises OSError if an address is in use."""
        snapshots = SnapshotWriter(
            self._files.snapshot(self._settings.index), self._snapshot, self._has_hanging_source
        )
        snapshots.start()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(lifeline.fileno(), self._orphaned, lifeline)
        settings = self._settings
        reporter = StreamReporter(
            settings.xds, self._node, self._statuses, settings.xds_credentials
        )
        following = asyncio.create_task(self._subscriber.run())
        reporting = asyncio.create_task(reporter.run())
        working = asyncio.create_task(self._work())
        try:
            # Only an unexpected error ends the others.
            await asyncio.wait({following, reporting, working}, return_when=asyncio.FIRST_COMPLETED)
            for task in (working, following, reporting):
                if task.done():
                    task.result()
        finally:
            loop.remove_reader(lifeline.fileno())
            following.cancel()
            reporting.cancel()
            if self._gateway is not None:
                await self._gateway.close()
            snapshots.stop()

    def _orphaned(self, lifeline: Connection) -> None:
        # A closed pipe stays readable. Without `remove_reader`, the loop would call this endlessly.
        asyncio.get_running_loop().remove_reader(lifeline.fileno())
        self._stop.set()

    async def _work(self) -> None:
        """Serve from the first config until a stop, and drain."""
        waits = [asyncio.create_task(each.wait()) for each in (self._has_config, self._stop)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._registry is None:
            return
        settings = self._settings
        async with AsyncExitStack() as stack:
            socket_file = self._files.socket(settings.index)
            await stack.enter_async_context(serving_peers(self._watchers, socket_file))
            await stack.enter_async_context(
                serving(
                    self._uploads,
                    self._watchers,
                    settings.http,
                    settings.grpc,
                    tls=settings.tls,
                    clients=settings.clients,
                )
            )
            log.info("listening on %s (HTTP) and %s (gRPC)", settings.http, settings.grpc)
            self._is_serving = True
            await self._stop.wait()
            self._is_serving = False
            self._watchers.drain()
            await asyncio.gather(self._registry.stop(), self._uploads.drain(settings.drain_timeout))

    async def _apply(self, config: ReceivedConfig) -> None:
        """Put a config in force, or raise ValueError and change nothing."""
        own = self._settings.assignment
        wanted = configured_streams(config, own.has)
        if self._stop.is_set():
            return
        registry = self._registry or self._new_registry(config)
        registry.apply(wanted)
        self._latencies.forget_cameras(set(wanted))
        self._uploads.models = config.models
        self._uploads.maximum = config.settings.max_uploads
        self._watchers.maximum = config.settings.max_watchers
        self._watchers.change(watched_streams(config))
        log.info("a config with %d streams is in force; %d are here",
                 len(config.streams), len(wanted))  # fmt: skip
        if self._gateway_settings != (config.settings.gateway, config.settings.gateway_tls):
            log.warning("video.gateway has changed: restart the video service to use it")
        self._has_config.set()

    def _new_registry(self, config: ReceivedConfig) -> StreamRegistry:
        """The registry, from the first config. Other gateways take effect at the next start."""
        try:
            self._gateway = GatewayClient(config.settings.gateway, config.settings.gateway_tls)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ValueError(f"settings.gateway_tls: {reason}") from None
        self._gateway_settings = config.settings.gateway, config.settings.gateway_tls
        parts = StreamParts(
            self._gateway, self._executor, _new_converter, self._latencies.observe_camera
        )
        grace = self._settings.drain_timeout
        self._registry = StreamRegistry(parts, grace)
        self._uploads.registry = self._watchers.registry = self._registry
        return self._registry

    def _has_hanging_source(self) -> bool:
        """Whether the worker must be replaced: no thread can be stopped from outside."""
        if self._registry is None:
            return False
        return self._registry.parts.threads.longest_hang(time.monotonic()) > MAX_SOURCE_END

    def _statuses(self) -> list[StreamStatus]:
        registry = self._registry
        return [] if registry is None else [each.message() for each in registry.snapshot()]

    def _snapshot(self) -> WorkerSnapshot:
        streams = self._statuses()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cameras = (
            StreamTotals(stream=each.name, model=each.model, counts=each.counts)
            for each in streams
            if not each.upload
        )
        found = WorkerSnapshot(
            pid=os.getpid(),
            serving=self._is_serving,
            streams=streams,
            totals=[*cameras, *self._uploads.totals()],
            uploads=self._uploads.counts(),
            watchers=self._watchers.count,
            refused=self._uploads.refused,
            rejected_configs=self._subscriber.state.rejected,
            connected=self._subscriber.state.connected,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            resident_bytes=_resident_bytes(),
        )
        for total in found.totals:
            if total.stream:
                self._latencies.of_camera(total.stream).write(total)
        return found


def _new_converter(settings: StreamSettings) -> FrameConverter:
    declared, video = settings.model.video_input, settings.model.video
    assert declared is not None
    assert video is not None
    return FrameConverter(declared, settings.region, settings.size, video.max_pixels)


def _resident_bytes() -> int:
    """The second number of proc_pid_statm(5)."""
    return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()


def _node(index: int) -> Node:
    node = Node(
        id=f"video-{socket.gethostname()}-{index}",
        cluster=NODE_CLUSTER,
        user_agent_name=VIDEO_AGENT,
    )
    node.metadata.update({"pid": os.getpid()})
    return node
