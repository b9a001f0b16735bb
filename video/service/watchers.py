"""Clients that watch the streams of cameras, also streams that another worker runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol

import grpc
import grpc.aio

from protos.video_pb2 import AnalysisResult, Watched, WorkerWatch
from sluice.config import Model
from sluice.config.video import FrameSize, Region
from sluice.contract.video import VideoReason
from sluice.printable import printable
from video.annotation import Annotator, MjpegOutput
from video.frame import Frame
from video.service.assignment import Assignment
from video.service.refusal import RefusedError
from video.streams.registry import StreamRegistry

log = logging.getLogger(__name__)

WORKER_SERVICE: Final = "sluice.video.v1.VideoWorkers"
WORKER_METHOD: Final = "Watch"
WORKER_WATCH: Final = f"/{WORKER_SERVICE}/{WORKER_METHOD}"

MAX_SHOWN: Final = 80
"""Characters of a name that an error shows. Over gRPC, a client can send any text as a name."""

RETRY_INTERVAL: Final = 0.5
"""Seconds until a worker that has ended is asked again."""

_OPTIONS: Final = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1))
"""The other side is a worker of this service, behind a socket in a private folder."""


class WatchOutput(Protocol):
    """An output that a client reads: it has events, or annotated frames."""

    wants_frames: bool

    def ready(self) -> bool:
        """Always true."""

    async def wait_ready(self) -> None:
        """Return at once."""

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        """Take an event of a stream of this worker."""

    def take(self, watched: Watched) -> None:
        """Take what another worker has."""

    def close(self) -> None:
        """Give the client what there is, and then the end."""


@dataclass(frozen=True, slots=True)
class WatchedStream:
    """What a worker knows of each stream, also of those of other workers."""

    model_name: str
    model: Model
    region: Region | None = None
    size: FrameSize | None = None


@dataclass(slots=True)
class Watchers:
    """Lets at most `maximum` clients watch at a time.

    `peer` returns the address of another worker. `drawing` draws annotated frames. `registry`: the
    streams of this worker; None until there is a config. `streams`: all streams that are enabled.
    """

    assignment: Assignment
    peer: Callable[[int], str]
    drawing: Executor
    registry: StreamRegistry | None = None
    streams: Mapping[str, WatchedStream] = field(default_factory=dict)
    maximum: int = 0
    is_draining: bool = False
    _open: dict[WatchOutput, tuple[str, str]] = field(default_factory=dict)
    """The model and the stream of each call."""

    @property
    def count(self) -> int:
        """Clients that watch now."""
        return len(self._open)

    def change(self, streams: Mapping[str, WatchedStream]) -> None:
        """Use these streams. Ends the calls of clients that watch one that is not among them.

        A stream with another model is another stream: its watchers may have no access to the model.
        """
        self.streams = streams
        for output, (model, stream) in self._open.items():
            found = streams.get(stream)
            if found is None or found.model_name != model:
                output.close()

    def drain(self) -> None:
        """Accept no more clients, and end the calls of those that there are."""
        self.is_draining = True
        for output in self._open:
            output.close()

    @asynccontextmanager
    async def watch(self, model: str, stream: str, output: WatchOutput) -> AsyncIterator[None]:
        """Give the output the events of a stream while the block runs. Raises RefusedError."""
        found = self._check(model, stream)
        assert found.model.video is not None
        replica, worker = self.assignment.place_of(stream)
        if replica != self.assignment.shard.index:
            detail = f"replica {replica} of the video service runs the stream"
            raise RefusedError(421, VideoReason.OTHER_REPLICA, detail)
        loop = asyncio.get_running_loop()
        end = loop.call_later(found.model.video.max_duration, output.close)
        self._open[output] = model, stream
        try:
            if worker == self.assignment.worker:
                async with self.watch_local(stream, output):
                    yield
            else:
                following = asyncio.create_task(self._follow(self.peer(worker), stream, output))
                try:
                    yield
                finally:
                    following.cancel()
        finally:
            end.cancel()
            del self._open[output]

    @asynccontextmanager
    async def watch_local(self, stream: str, output: WatchOutput) -> AsyncIterator[None]:
        """As `watch`, for a stream of this worker, without limits. Raises RefusedError."""
        with ExitStack() as stack:
            try:
                if self.registry is None:
                    raise KeyError(stream)
                removed = stack.enter_context(self.registry.watch(stream, output))
            except KeyError:
                detail = f"no stream is named {stream}"
                raise RefusedError(404, VideoReason.UNKNOWN_STREAM, detail) from None
            closing = asyncio.create_task(_close_after(removed, output))
            stack.callback(closing.cancel)
            yield

    def _find(self, model: str, stream: str) -> WatchedStream:
        found = self.streams.get(stream)
        if found is None or found.model_name != model:
            detail = f"the model {model} has no stream {printable(stream, MAX_SHOWN)}"
            raise RefusedError(404, VideoReason.UNKNOWN_STREAM, detail)
        return found

    def _check(self, model: str, stream: str) -> WatchedStream:
        found = self._find(model, stream)
        if self.is_draining:
            raise RefusedError(503, VideoReason.STOPPED, "the video service stops; try again")
        if len(self._open) >= self.maximum:
            detail = f"{self.maximum} clients watch streams; try again later"
            raise RefusedError(503, VideoReason.TOO_MANY_WATCHERS, detail)
        return found

    def annotated_frames(self, model: str, stream: str) -> MjpegOutput:
        """An output for the annotated frames of a stream. Raises RefusedError."""
        return self._frames(self._find(model, stream))

    def annotated_frames_here(self, stream: str) -> MjpegOutput:
        """As `annotated_frames`, for a stream of this worker, for another worker."""
        found = self.streams.get(stream)
        if found is None:
            raise RefusedError(404, VideoReason.UNKNOWN_STREAM, f"no stream is named {stream}")
        return self._frames(found)

    def _frames(self, stream: WatchedStream) -> MjpegOutput:
        return MjpegOutput(Annotator(stream.model, stream.region, stream.size), self.drawing)

    async def _follow(self, peer: str, stream: str, output: WatchOutput) -> None:
        """Give the output what another worker has. An error that is not expected ends the call."""
        try:
            await self._forward(peer, stream, output)
        except Exception:
            log.exception("stream %s: the events of another worker cannot be given on", stream)
            output.close()

    async def _forward(self, peer: str, stream: str, output: WatchOutput) -> NoReturn:
        """As `_follow`. If the other worker ends, its successor is asked."""
        request = WorkerWatch(stream=stream, frames=output.wants_frames)
        async with grpc.aio.insecure_channel(peer, _OPTIONS) as channel:
            method = channel.unary_stream(
                WORKER_WATCH,
                request_serializer=WorkerWatch.SerializeToString,
                response_deserializer=Watched.FromString,
            )
            while True:
                try:
                    async for watched in method(request):
                        output.take(watched)
                except grpc.aio.AioRpcError as error:
                    log.debug("stream %s: another worker: %s", stream, error.details())
                await asyncio.sleep(RETRY_INTERVAL)


async def _close_after(removed: asyncio.Event, output: WatchOutput) -> None:
    await removed.wait()
    output.close()
