"""Parts of streams for tests: a model that takes JPEG, a converter, and an output in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from protos.video_pb2 import AnalysisResult, SinkStatus
from sluice.config.models import Model
from video.conversion import Converted
from video.frame import DecodedImage, EncodedImage, Frame
from video.inference.gateway import GatewayClient
from video.streams.parts import StreamParts
from video.streams.settings import StreamSettings


def jpeg_model(**video: object) -> Model:
    """A model with one BYTES input."""
    return Model.model_validate(
        {
            "versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9"}], "protocol": "grpc"}},
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}],
            "video": video,
        }
    )


def settings(model: Model | None = None, **changes: Any) -> StreamSettings:
    return StreamSettings("door", "digits", model or jpeg_model(), **changes)


class PassingConverter:
    """Passes JPEG."""

    def convert(self, image: EncodedImage | DecodedImage) -> Converted:
        assert isinstance(image, EncodedImage)
        return Converted(image.data, (), 640, 480)


class MemoryOutput:
    """Keeps all events. `capacity`: events that fit until `room` is called."""

    def __init__(self, *, wants_frames: bool = False, capacity: int | None = None) -> None:
        self.wants_frames = wants_frames
        self.started = self.stopped = False
        self.events: list[AnalysisResult] = []
        self.frames: list[Frame | None] = []
        self._capacity = capacity
        self._room = asyncio.Event()

    def ready(self) -> bool:
        return self._capacity is None or len(self.events) < self._capacity

    async def wait_ready(self) -> None:
        while not self.ready():
            self._room.clear()
            await self._room.wait()

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        self.events.append(event)
        self.frames.append(frame)

    def room(self, capacity: int | None) -> None:
        """Have room for so many events in all."""
        self._capacity = capacity
        self._room.set()

    async def start(self) -> None:
        self.started = True

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109
        self.stopped = True

    def status(self) -> SinkStatus:
        return SinkStatus(name="memory", delivered=len(self.events))

    def texts(self) -> list[bytes]:
        """The results, which are the JPEGs."""
        return [
            event.inference.outputs[0].texts[0]
            for event in self.events
            if event.HasField("inference")
        ]


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds. The source thread changes it, so no event tells."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@asynccontextmanager
async def stream_parts(
    address: str, converter: Any = PassingConverter
) -> AsyncIterator[StreamParts]:
    client = GatewayClient(address)
    with ThreadPoolExecutor(2) as executor:
        try:
            yield StreamParts(client, executor, lambda _: converter())
        finally:
            await client.close()
