"""The uploads of a worker: which are accepted, which are open, and what was counted."""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from protos.video_pb2 import AnalysisResult, StreamTotals, Summary, UploadTotals
from sluice.config import Model
from sluice.contract.video import VideoReason
from video.annotation import Annotator, MjpegOutput
from video.inference.caller_headers import Metadata
from video.output import Output
from video.service.latency import Latencies
from video.service.options import UploadOptions
from video.service.refusal import RefusedError, refused_upload
from video.service.totals import add_totals
from video.source import FrameSource, SourceError
from video.sources import ByteQueue, ByteReader, Sampling, SourceLimits
from video.streams.registry import StreamRegistry
from video.streams.settings import StreamSettings
from video.streams.stream import Stream

log = logging.getLogger(__name__)

STOPPED: Final = "the video service stops; send the video again"

_NAME_BYTES: Final = 8

OpenSource = Callable[[ByteReader, str, Sampling, SourceLimits], FrameSource]
"""Opens the video of an upload (`video.sources.open_upload`). Raises SourceError."""


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What a client wants. `size`: the length of the video in bytes, if the client says it.

    `caller`: the headers of the requests for frames.
    """

    model: str
    version: str | None
    caller: Metadata
    content_type: str
    options: UploadOptions
    size: int | None = None


class Upload:
    """One upload. `bytes` takes the video."""

    def __init__(
        self,
        stream: Stream,
        source: FrameSource,
        queue: ByteQueue,
        caller: Metadata,
        drawing: Executor,
    ) -> None:
        self.stream = stream
        self.bytes = queue
        self.source_ended: asyncio.Event | None = None
        """Set when the source has ended. None before the end of the video."""
        self._source = source
        self._caller = caller
        self._drawing = drawing

    def annotated_frames(self) -> MjpegOutput:
        """An output for the annotated frames."""
        settings = self.stream.settings
        annotator = Annotator(settings.model, settings.region, settings.size)
        return MjpegOutput(annotator, self._drawing)

    async def run(self, outputs: Sequence[Output]) -> None:
        """Analyse the video to its end. The outputs get all events; the last one is a summary."""
        for output in outputs:
            self.stream.add_output(output)
        try:
            ended = await self.stream.run(self._source, self._caller)
            self.source_ended = ended.source_ended
        except Exception:
            log.exception("an upload has failed")
            end = Summary(reason=VideoReason.INTERNAL_ERROR, detail="see the log of the service")
            for output in outputs:
                output.put(AnalysisResult(end=end), None)

    def client_left(self) -> None:
        """End at once: nobody reads the events."""
        detail = "the client has left"
        self.bytes.fail(VideoReason.CLIENT_LEFT, detail)
        self.stream.end(VideoReason.CLIENT_LEFT, detail, grace=0.0)

    def close(self) -> None:
        """Release what the upload holds."""
        self._source.close()
        self.bytes.close()
        self.stream.close()


class Uploads:
    """Accepts uploads, at most `maximum` at a time.

    `models` are those with video, and `maximum` is that of the config. `registry` lists the uploads
    that are open; None until there is a config. `drawing` draws annotated frames.
    """

    def __init__(self, open_source: OpenSource, latencies: Latencies, drawing: Executor) -> None:
        self.registry: StreamRegistry | None = None
        self.models: Mapping[str, Model] = {}
        self.maximum = 0
        self.refused: Counter[str] = Counter()
        self._open_source = open_source
        self._latencies = latencies
        self._drawing = drawing
        self._draining = False
        self._open: dict[Upload, str] = {}
        self._places = 0
        self._started: Counter[str] = Counter()
        self._ended: dict[str, StreamTotals] = {}
        self._all_ended = asyncio.Event()
        self._waiting: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def accept(self, request: UploadRequest) -> AsyncIterator[Upload]:
        """The upload, which is open while the block runs. Raises RefusedError."""
        model, registry = self._check(request.model)
        upload = self._accept(request, model, registry)
        self._open[upload] = request.model
        self._places += 1
        self._started[request.model] += 1
        try:
            with registry.listed(upload.stream):
                yield upload
        finally:
            del self._open[upload]
            upload.close()
            total = self._ended.setdefault(request.model, StreamTotals(model=request.model))
            add_totals(total, _totals(upload))
            if not self._open:
                self._all_ended.set()
            self._give_back_place(upload.source_ended)

    @contextmanager
    def awaiting(self, name: str) -> Iterator[float]:
        """A place for an upload to a model whose request has not come, while the block runs.

        Yields the seconds that the client has for it. Raises RefusedError.
        """
        model, _ = self._check(name)
        assert model.video is not None
        self._places += 1
        try:
            yield model.video.idle_timeout
        finally:
            self._places -= 1

    async def drain(self, within: float) -> None:
        """Accept no more uploads. Those that are open may end in time; then they are ended."""
        self._draining = True
        if self._open:
            self._all_ended.clear()
            try:
                async with asyncio.timeout(within):
                    await self._all_ended.wait()
            except TimeoutError:
                for upload in self._open:
                    upload.stream.end(VideoReason.STOPPED, STOPPED, grace=0.0)

    def totals(self) -> Iterable[StreamTotals]:
        """The counts of the uploads of each model, since the start."""
        found = {}
        for model, ended in self._ended.items():
            found[model] = StreamTotals()
            found[model].CopyFrom(ended)
        for upload, model in self._open.items():
            add_totals(found.setdefault(model, StreamTotals(model=model)), _totals(upload))
        for model, total in found.items():
            self._latencies.of_uploads(model).write(total)
        return found.values()

    def counts(self) -> Iterator[UploadTotals]:
        """How many uploads each model had, and has."""
        now = Counter(self._open.values())
        for model, started in self._started.items():
            yield UploadTotals(model=model, started=started, open=now[model])

    def _check(self, name: str) -> tuple[Model, StreamRegistry]:
        """The model of an upload that may begin. Raises RefusedError."""
        if self.registry is None:
            raise RefusedError(503, VideoReason.NOT_READY, "the service has no config yet")
        model = self.models.get(name)
        if model is None or model.video is None:
            detail = f"the model {name} has no video"
            raise RefusedError(404, VideoReason.UNKNOWN_MODEL, detail)
        if self._draining:
            raise RefusedError(503, VideoReason.STOPPED, STOPPED)
        if self._places >= self.maximum:
            detail = f"{self.maximum} uploads are open; try again later"
            raise RefusedError(503, VideoReason.TOO_MANY_UPLOADS, detail)
        return model, self.registry

    def _accept(self, request: UploadRequest, model: Model, registry: StreamRegistry) -> Upload:
        limits = model.video
        assert limits is not None
        if request.size is not None and request.size > limits.max_bytes:
            detail = f"send at most {limits.max_bytes} bytes"
            raise RefusedError(413, VideoReason.TOO_MANY_BYTES, detail)
        queue = ByteQueue(limits.idle_timeout)
        try:
            source = self._open_source(
                queue,
                request.content_type,
                Sampling(request.options.rate),
                SourceLimits(
                    max_bytes=limits.max_bytes,
                    max_seconds=limits.max_duration,
                    max_frames=limits.max_frames,
                    max_pixels=limits.max_pixels,
                    idle_timeout=limits.idle_timeout,
                ),
            )
        except SourceError as error:
            raise refused_upload(error.reason, error.detail) from None
        parts = self._latencies.observing_uploads(registry.parts)
        stream = Stream(_settings(request, model), parts, upload=True)
        return Upload(stream, source, queue, request.caller, self._drawing)

    def _give_back_place(self, source_ended: asyncio.Event | None) -> None:
        """Give the place to another upload, when the thread of the source has ended."""
        if source_ended is None or source_ended.is_set():
            self._places -= 1
            return

        async def wait() -> None:
            await source_ended.wait()
            self._places -= 1

        task = asyncio.create_task(wait())
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)


def _settings(request: UploadRequest, model: Model) -> StreamSettings:
    options = request.options
    return StreamSettings(
        name=f"upload-{secrets.token_hex(_NAME_BYTES)}",
        model_name=request.model,
        model=model,
        version=request.version,
        rate=options.rate,
        region=options.region,
        size=options.size,
        ordered=options.ordered,
        overload=options.overload,
    )


def _totals(upload: Upload) -> StreamTotals:
    return StreamTotals(counts=upload.stream.status().counts.message())
