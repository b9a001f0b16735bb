"""The video service in the process of a test: its servers, with a source of lines."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from sluice.contract.video import VideoReason
from tests.integration.gateway import free_ports
from tests.video.gateway_server import Answer, GatewayServer, gateway_server
from tests.video.memory_source import MemorySource, jpeg_frame
from tests.video.streams_kit import jpeg_model, stream_parts, until
from video.frame import EncodedImage, Frame
from video.process.servers import serving
from video.service.assignment import Assignment
from video.service.latency import Latencies
from video.service.uploads import Uploads
from video.service.watchers import WatchedStream, Watchers
from video.source import FrameSource, SourceCounts, SourceError
from video.sources import ByteReader, Sampling, SourceLimits
from video.streams.camera import ConfiguredStream
from video.streams.registry import StreamRegistry
from video.streams.settings import StreamSettings

LINES = "video/lines"


class LineSource:
    """Each line of an upload is a frame."""

    def __init__(self, reader: ByteReader) -> None:
        self.counts = SourceCounts()
        self._reader = reader

    def frames(self) -> Iterator[Frame]:
        number, rest = 0, b""
        while chunk := self._reader.read(1 << 16):
            self.counts.bytes += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line == b"broken":
                    raise SourceError(VideoReason.BROKEN_VIDEO, "the line is broken")
                self.counts.received += 1
                yield replace(jpeg_frame(number), image=EncodedImage(line))
                number += 1

    def close(self) -> None:
        self._reader.close()


def open_lines(
    reader: ByteReader, content_type: str, _sampling: Sampling, _limits: SourceLimits
) -> FrameSource:
    if content_type != LINES:
        raise SourceError(VideoReason.UNSUPPORTED_FORMAT, f"send {LINES}")
    return LineSource(reader)


@dataclass(slots=True)
class Service:
    """A running service."""

    http: str
    grpc: str
    uploads: Uploads
    watchers: Watchers
    registry: StreamRegistry
    gateway: GatewayServer


@asynccontextmanager
async def service(answer: Answer | None = None, **video: object) -> AsyncIterator[Service]:
    """Run the servers with the model `digits`, whose settings for video are `video`."""
    http, grpc_address = (f"127.0.0.1:{port}" for port in free_ports(2))
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_server(answer))
        parts = await stack.enter_async_context(stream_parts(gateway.address))
        registry = StreamRegistry(parts, grace=1.0)
        uploads = Uploads(open_lines, Latencies(), parts.executor)
        watchers = Watchers(Assignment(), lambda _: "unix:unused", parts.executor)
        uploads.registry = watchers.registry = registry
        uploads.models = {"digits": jpeg_model(**video)}
        uploads.maximum = watchers.maximum = 2
        await stack.enter_async_context(
            serving(uploads, watchers, http, grpc_address, tls=None, clients=None)
        )
        yield Service(http, grpc_address, uploads, watchers, registry, gateway)
        await asyncio.gather(registry.stop(), uploads.drain(0.0))


@asynccontextmanager
async def camera(running: Service, name: str) -> AsyncIterator[MemorySource]:
    """A camera with the model `digits`, whose frames the test delivers."""
    source, model = MemorySource(), running.uploads.models["digits"]
    configured = ConfiguredStream(StreamSettings(name, "digits", model), (), b"", lambda: source)
    running.registry.apply({name: configured})
    running.watchers.change({name: WatchedStream("digits", model)})
    await until(lambda: bool(source.threads))
    yield source
